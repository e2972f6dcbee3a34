"""Near matches: found as before, and cheap whatever is asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from nomaflow_api.near_names import near_name, near_names


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("nightly-snyc", ["other", "nightly-sync"], ["nightly-sync"]),
        ("NIGHTLY", ["nightly"], ["nightly"]),
        ("x", ["completely", "different"], []),
        ("", ["a"], []),
        ("abcd", ["abcf", "abcd1", "zzzz", "abce", "abc"], ["abcd1", "abc", "abcf"]),
    ],
)
def test_the_most_similar_names_come_first(name: str, known: list[str], near: list[str]) -> None:
    """A misspelt name gets at most three, the nearest first, whatever their case; a strange one gets none."""
    assert near_names(name, known) == near
    assert near_name(name, known) == (near[0] if near else "")


def test_names_that_nobody_can_read_are_not_compared() -> None:
    """A name of 20,000 characters is near to nothing, and does not hide what is."""
    long = "a" * 20_000
    began = time.process_time()
    assert near_names(long, [long] * 1000) == []
    assert near_names("nightli", [long] * 10_000 + ["nightly"]) == ["nightly"]
    assert time.process_time() - began < 1


def test_a_search_ends_when_its_time_is_up() -> None:
    """However many names there are, the search costs a moment; what was found until then is the answer."""

    def endless() -> Iterator[str]:
        yield "nightly"
        while True:
            yield "nothing-like-it"

    began = time.monotonic()
    assert near_names("nightli", endless()) == ["nightly"]
    assert time.monotonic() - began < 20


def test_a_program_without_mistakes_does_not_load_the_matcher() -> None:
    """The library is imported by the first search."""
    code = "import sys, nomaflow_api.near_names; sys.exit('rapidfuzz' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
