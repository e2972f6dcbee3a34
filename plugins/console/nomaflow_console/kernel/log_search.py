"""Search through all of a log: its blocks are unpacked and scanned here, away from the event loop and from the kernel.

A block is searched in its stored form first, where a line is JSON in ASCII: text that no line can hold is ruled out
without reading a line. Only lines that may match are read.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from functools import cache, partial
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from nomaflow_api.v1.log_lines import decode_line
from nomaflow_console.views.ansi import plain_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from nomaflow.client import KernelClient
    from nomaflow.client.values import LogChunk, LogLine
    from nomaflow_console.kernel.log_index import LogFilter

MOST_NEEDLE = 500
"""The longest text that can be searched for, in characters."""
_MOST_WAITING = 64
"""Blocks that wait to be searched; then no more are read. A search that nobody waits for ends after as many."""
_STEERS = re.compile(
    rb"\\(?:[bfr]|u(?:00[0189][0-9a-f]|007f|061c|200[ef]|202[89a-e]|206[6-9]|fff[9ab]|db40"
    rb"|d[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f]))"
)
"""What a line shows in another form than it is stored in: controls, marks of direction, bytes that are no text."""
_MESSAGE = b'","'


async def search(
    kernel: KernelClient, run_id: str, text: str, wanted: LogFilter, *, after_seq: int = 0
) -> AsyncIterator[Sequence[int]]:
    """Yield which lines have a message that holds a text, in any mix of capitals, part by part from the first one on.

    :param text: at most `MOST_NEEDLE` characters; colours in messages do not matter
    :param wanted: leaves lines out, as in the page
    :param after_seq: the line after which to begin
    """
    needle = _Needle(text[:MOST_NEEDLE])
    blocks = kernel.read_log_chunks(
        run_id, after_seq=after_seq, step=wanted.step, attempt=wanted.attempt, levels=wanted.levels
    )
    scan: asyncio.Future[Sequence[int]] | None = None
    waiting: list[LogChunk] = []
    async for chunks in blocks:
        # Blocks are read while earlier ones are searched: the first are searched at once, then as many as have come.
        waiting += chunks
        if scan is None or scan.done() or len(waiting) >= _MOST_WAITING:
            if scan is not None:
                yield await scan
            scan = asyncio.ensure_future(asyncio.to_thread(_scan, waiting, needle, wanted.level, after_seq))
            waiting = []
    if scan is not None:
        yield await scan
    if waiting:
        yield await asyncio.to_thread(_scan, waiting, needle, wanted.level, after_seq)


async def first_matches(
    kernel: KernelClient, run_id: str, text: str, wanted: LogFilter, *, most: int
) -> tuple[LogLine, ...]:
    """Return the first lines whose message holds a text, for a page without a script."""
    needle = _Needle(text[:MOST_NEEDLE])
    found: list[LogLine] = []
    blocks = kernel.read_log_chunks(run_id, step=wanted.step, attempt=wanted.attempt, levels=wanted.levels)
    async for chunks in blocks:
        found += await asyncio.to_thread(_matching_lines, chunks, needle, wanted.level)
        if len(found) >= most:
            break
    return tuple(found[:most])


def _matching_lines(chunks: Sequence[LogChunk], needle: _Needle, level: int) -> list[LogLine]:
    seqs = ((chunk, seq) for chunk in chunks for seq in needle.lines_of(chunk, level))
    return [line for chunk, seq in seqs for line in chunk.lines(after_seq=seq - 1, before_seq=seq + 1)]


def _scan(chunks: Sequence[LogChunk], needle: _Needle, level: int, after_seq: int) -> Sequence[int]:
    return [seq for chunk in chunks for seq in needle.lines_of(chunk, level) if seq > after_seq]


class _Needle:
    """A text to look for.

    :param text: any
    """

    def __init__(self, text: str) -> None:
        self._text = small_letters(text)
        self._stored = _stored(self._text)
        # Capitals outside of ASCII are other escapes in the stored form.
        plain = all(letter.isascii() or letter not in _capitals() for letter in self._text)
        self._pattern = None if plain else re.compile(b"".join(map(_either, self._text)))

    def lines_of(self, chunk: LogChunk, level: int) -> Iterator[int]:
        """Yield the sequences of the lines of a chunk that hold the text."""
        with suppress(ValueError):
            lines = chunk.raw_lines()[: chunk.line_count]
            body = b"\n".join(lines).lower()
            at: Iterable[int] = _numbers(body, self._find)
            if _STEERS.search(body):
                at = sorted({*at, *_numbers(body, partial(_place, _STEERS))})
            for place in at:
                if self._holds(lines[place], level):
                    yield chunk.first_seq + place

    def _find(self, body: bytes, start: int) -> int:
        return body.find(self._stored, start) if self._pattern is None else _place(self._pattern, body, start)

    def _holds(self, line: bytes, level: int) -> bool:
        """Return True if the message of a line of at least the level holds the text."""
        try:
            if level and int(line[1 : line.index(b",")]) < level:
                return False
            if b"\\" not in line:
                # Without an escape, the first quotes with a comma between them end the logger's name.
                start = line.find(_MESSAGE) + len(_MESSAGE)
                return self._pattern is None and line[: line.rfind(b'"')].lower().find(self._stored, start) >= 0
            return self._text in small_letters(plain_text(decode_line(line).message))
        except ValueError:  # a line that cannot be read
            return False


def _numbers(body: bytes, find: Callable[[bytes, int], int]) -> Iterator[int]:
    """Yield the numbers of the lines in which something is found."""
    line, counted, found = 0, 0, find(body, 0)
    while found >= 0:
        line += body.count(b"\n", counted, found)
        yield line
        counted = body.find(b"\n", found)
        found = find(body, counted) if counted >= 0 else -1


def _place(pattern: re.Pattern[bytes], body: bytes, start: int) -> int:
    match = pattern.search(body, start)
    return match.start() if match is not None else -1


def small_letters(text: str) -> str:
    """Return a text in small letters, letter by letter: none becomes two, and none outside of ASCII comes into it."""
    return text.lower() if text.isascii() else "".join(map(_small, text))


def _small(letter: str) -> str:
    small = letter.lower()
    return small if len(small) == 1 and small.isascii() == letter.isascii() else letter


@cache
def _capitals() -> Mapping[str, frozenset[str]]:
    """Return, for each small letter outside of ASCII, what becomes it."""
    found: dict[str, set[str]] = {}
    for letter in map(chr, range(0x80, sys.maxunicode)):
        if (small := _small(letter)) != letter:
            found.setdefault(small, set()).add(letter)
    return {small: frozenset(capitals) for small, capitals in found.items()}


def _stored(text: str) -> bytes:
    """Return a text as it is stored, in small letters."""
    return encode_basestring_ascii(text)[1:-1].encode().lower()


def _either(letter: str) -> bytes:
    """Return a pattern for a letter and its capitals, as they are stored."""
    forms = {_stored(each) for each in (letter, *_capitals().get(letter, ()))}
    return b"(?:" + b"|".join(map(re.escape, sorted(forms))) + b")"
