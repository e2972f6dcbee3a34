"""Search in stored blocks finds what a person sees in a line, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.client import KernelClient
from nomaflow.client.values import LogChunk
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_console.kernel import log_search
from nomaflow_console.kernel.log_index import ALL_LINES
from nomaflow_console.kernel.log_search import _Needle, _scan, search, small_letters
from nomaflow_console.views.ansi import plain_text


def _chunk(*messages: str, level: int = 20, logger: str = "app.jobs", first_seq: int = 1) -> LogChunk:
    packed = pack_lines([encode_line(level, 1_764_000_000_000_000, logger, message) for message in messages])
    return LogChunk(
        first_seq=first_seq, line_count=len(messages), step="score", attempt=1, levels=packed.levels,
        first_at_us=packed.first_at_us, size_bytes=len(packed.body), body=packed.body,
        compressed=packed.codec == LogCodec.JSONL_ZLIB,
    )  # fmt: skip


def _found(text: str, *messages: str, level: int = 0) -> list[int]:
    return [*_scan([_chunk(*messages)], _Needle(text), level, 0)]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.text(min_size=1, max_size=6))
def test_search_finds_exactly_the_lines_that_hold_the_text(messages: list[str], text: str) -> None:
    """For any lines and any text, the lines found are those whose text without colours holds it."""
    expected = [
        seq for seq, message in enumerate(messages, 1) if small_letters(text) in small_letters(plain_text(message))
    ]
    assert _found(text, *messages) == expected


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 10), st.integers(1, 9))
def test_a_part_of_a_line_is_found(messages: list[str], place: int, start: int, length: int) -> None:
    """Whatever is cut out of a shown line is found in that line."""
    place = min(place, len(messages) - 1)
    text = plain_text(messages[place])[start : start + length]
    if text:
        assert place + 1 in _found(text, *messages)


@pytest.mark.parametrize(
    ("text", "message", "is_there"),
    [
        ("error", "an ERROR here", True),
        ("über", "ÜBER alles", True),
        ("error", "an \x1b[31mER\x1b[0mROR", True),
        ("u001b", "\x1b[31mred\x1b[0m", False),
        ("n", "\n", False),
        ('say "hi"', 'they say "Hi"', True),
        ("app.jobs", "no logger's name", False),
        ("app", "line with \\ and app", True),
        ("20", "no level's number", False),
        ("\\xff", "byte \udcff", True),
        ("日本", "日本語", True),
        ("🎉", "party 🎉", True),
        ("\\x07", "bell \x07", True),
        ("straße", "STRAẞE", True),
    ],
)
def test_what_is_found_is_what_a_person_sees(text: str, message: str, is_there: bool) -> None:
    """Capitals and colours do not matter; escapes of the storage, levels and loggers are not searched."""
    assert bool(_found(text, "----", message)) is is_there


def test_a_level_leaves_lines_out() -> None:
    """With a lowest level, only lines of it are found."""
    assert _found("a", "aa", level=30) == []
    assert _found("a", "aa", level=20) == [1]


def test_a_block_that_cannot_be_read_is_left_out() -> None:
    """One broken block does not end the search."""
    broken = LogChunk(
        first_seq=1,
        line_count=3,
        step="s",
        attempt=1,
        levels=4,
        first_at_us=0,
        size_bytes=3,
        body=b"xyz",
        compressed=True,
    )
    assert _scan([broken, _chunk("needle", first_seq=4)], _Needle("needle"), 0, 0) == [4]


async def test_no_more_blocks_are_read_than_can_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is read faster than it is searched: what waits is bounded, and so is what a search does in vain."""
    enough, sizes = threading.Event(), []

    def scan(chunks: Sequence[LogChunk], *_: Any) -> Sequence[int]:
        enough.wait(30)
        sizes.append(len(chunks))
        return [chunks[-1].first_seq]

    class Kernel:
        async def read_log_chunks(self, *_: Any, **__: Any) -> AsyncIterator[list[LogChunk]]:
            for number in range(1, 501):
                if number == 65:
                    enough.set()
                yield [_chunk("text", first_seq=number)]

    monkeypatch.setattr(log_search, "_scan", scan)
    kernel = cast("KernelClient", Kernel())
    found = [seq async for part in search(kernel, "run_1", "needle", ALL_LINES) for seq in part]
    assert (sum(sizes), found[-1]) == (500, 500)
    assert max(sizes) == 64
