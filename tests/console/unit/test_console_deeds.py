"""Every event of docs/events.md is a sentence on the page Activity."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client.values import EventView
from nomaflow_console.views.deeds import deed_of, person

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
KINDS = sorted(set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", PAGE, re.M)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "why",
    "trigger",
    "error",
    "rows_affected",
    "jobs",
    "problems",
    "progress",
    "added_job_ids",
    "message",
    "machine",
)


def _event(kind: str, **more: Any) -> EventView:
    return EventView(seq=1, at=datetime(2026, 11, 26, tzinfo=UTC), kind=kind, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_words_of_its_own(kind: str) -> None:
    """No event is told by the name of its kind."""
    assert deed_of(_event(kind)).what not in ("", kind, kind.replace(".", " ").replace("_", " "))


def test_the_events_are_those_of_the_page() -> None:
    """The test above is about something."""
    assert len(KINDS) > 15


def test_who_did_it_is_named_before_the_principal() -> None:
    """A person stands before the principal that called for him."""
    assert str(person("owner (for ann)")) == '<b>ann</b> <span class="quiet">(owner)</span>'
    assert str(person("ann")) == "<b>ann</b>"
    assert "<script>" not in str(person("<script> (for <script>)"))


def test_why_somebody_cancelled_is_told() -> None:
    """The words of the person who cancelled stand in quotes."""
    assert deed_of(_event("run.cancel_requested", data={"why": "wrong tenant"})).detail == "“wrong tenant”"


@pytest.mark.parametrize(
    ("message", "detail"),
    [("jobs.toml:3: no ']]'", "jobs.toml:3: no ']]'"), ("1 job would go", "1 job would go: no ']]'"), ("", "no ']]'")],
)
def test_why_a_load_was_refused_is_told_once(message: str, detail: str) -> None:
    """The host's message usually has the first problem in it."""
    data = {"message": message, "problems": [{"message": "no ']]'"}]}
    assert deed_of(_event("host.reload_refused", data=data)).detail == detail


@pytest.mark.parametrize(
    ("kind", "words"),
    [("cli", "started on the command line"), ("api", "started through the API"), ("manual", "started "),
     ("cron", "fired "), ("replay", "replayed ")],
)  # fmt: skip
def test_the_way_by_which_a_run_was_started_is_no_person(kind: str, words: str) -> None:
    """It is told in words that nobody takes for a name."""
    deed = deed_of(_event("run.queued", data={"trigger": kind}))
    assert f"{deed.what} {deed.detail}" == words


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_no_data_breaks_the_page(kind: str, data: dict[str, Any]) -> None:
    """Whatever data an event has, from another version of the kernel too, it is a sentence."""
    assert deed_of(_event(kind, data=data)).what
