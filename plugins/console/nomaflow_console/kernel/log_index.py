"""Index of the rows that a log has under a filter, made from the heads of its stored blocks.

A page counts rows, from 0, among the lines that its filter keeps; the kernel counts sequences. The index tells at which
sequence to begin reading for a row, and keeps the levels for the map of the log. Only the heads of new blocks are read
to update it, so that a request about a long log costs no more than what is new.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.client import KernelClient
    from nomaflow.client.values import LogChunk, LogLine

_FEW_LINES = 256
_MANY_BLOCKS = 4000
"""With so many blocks, neighbours of one try are taken together up to 256 lines, so that an index stays small."""
_MARKS = 200
_UNREADABLE = 40
_LEVEL = re.compile(rb"\[(-?[0-9]+),")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFilter:
    """The lines of a log that are wanted.

    :param step: name of the step; empty for all
    :param attempt: number of the try; 0 for all
    :param level: the lowest level's number; 0 for all
    """

    step: str = ""
    attempt: int = 0
    level: int = 0

    def keeps(self, line: LogLine) -> bool:
        """Return True for a line that is wanted."""
        of_step = self.step in ("", line.step) and self.attempt in (0, line.attempt)
        return of_step and line.level >= self.level


ALL_LINES = LogFilter()
"""The filter that keeps every line."""


def level_bits(level: int) -> int:
    """Return the set of levels, as ``LogChunk.levels``, that a line of at least a level can have."""
    return 0x7F & ~((1 << max(0, min(6, level // 10))) - 1) if level else 0


@dataclass(slots=True)
class _Block:
    """Lines of one try that follow each other.

    :param levels: the set of levels that occur
    :param rows: lines by the lowest level that was asked for, as far as they were counted
    """

    first_seq: int
    lines: int
    step: str
    attempt: int
    levels: int
    at_us: int
    rows: dict[int, int]

    def known_rows(self, wanted: LogFilter) -> int | None:
        """Return how many of the lines a filter keeps; None if only their text can tell."""
        if (wanted.step and wanted.step != self.step) or (wanted.attempt and wanted.attempt != self.attempt):
            return 0
        above = self.levels & level_bits(wanted.level)
        if not wanted.level or (above == self.levels and wanted.level % 10 == 0):
            return self.lines
        return self.rows.get(wanted.level) if above else 0


class LogIndex:
    """The index of one run's log. Calls take turns.

    :param run_id: the run
    :ivar ends_at: the last line of a log that is known to be complete; the index does not ask for more
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.ends_at: int | None = None
        self._blocks: list[_Block] = []
        self._starts: dict[LogFilter, list[int]] = {}
        self._turn = asyncio.Lock()

    @property
    def last_seq(self) -> int:
        """The sequence of the last line that is known; 0 for none."""
        return self._blocks[-1].first_seq + self._blocks[-1].lines - 1 if self._blocks else 0

    async def refresh(self, kernel: KernelClient, wanted: LogFilter) -> None:
        """Take in what was stored since the last call, and count the rows of a filter."""
        async with self._turn:
            known = self.last_seq
            if known != self.ends_at:
                async for chunks in kernel.read_log_chunks(self.run_id, after_seq=known, without_body=True):
                    for chunk in chunks:
                        self._take(chunk)
            if self.last_seq != known:
                self._starts.clear()
            await self._count(kernel, wanted)
            if wanted not in self._starts:
                rows = (block.known_rows(wanted) or 0 for block in self._blocks)
                self._starts[wanted] = list(accumulate(rows, initial=0))

    def _take(self, chunk: LogChunk) -> None:
        first = max(chunk.first_seq, self.last_seq + 1)
        lines = chunk.first_seq + chunk.line_count - first
        if lines <= 0:
            return
        last = self._blocks[-1] if self._blocks else None
        if (
            last is not None
            and len(self._blocks) > _MANY_BLOCKS
            and last.lines + lines <= _FEW_LINES
            and (last.step, last.attempt) == (chunk.step, chunk.attempt)
            and first == last.first_seq + last.lines
        ):
            last.lines += lines
            last.levels |= chunk.levels
            last.rows.clear()
        else:
            new = _Block(first, lines, chunk.step, chunk.attempt, chunk.levels, chunk.first_at_us, {})
            self._blocks.append(new)

    async def _count(self, kernel: KernelClient, wanted: LogFilter) -> None:
        """Count the rows of the blocks in which only some lines have the level; their text is needed for that."""
        open_blocks = [block for block in self._blocks if block.known_rows(wanted) is None]
        if not open_blocks:
            return
        found: Counter[int] = Counter()
        starts = [block.first_seq for block in open_blocks]
        last = open_blocks[-1]
        blocks = kernel.read_log_chunks(
            self.run_id,
            after_seq=starts[0] - 1,
            before_seq=last.first_seq + last.lines,
            step=wanted.step,
            attempt=wanted.attempt,
            levels=level_bits(wanted.level),
        )
        async for chunks in blocks:
            counted = await asyncio.to_thread(_lines_of_level, chunks, wanted.level)
            for chunk, lines in zip(chunks, counted, strict=True):
                found[bisect_right(starts, chunk.first_seq) - 1] += lines
        for place, block in enumerate(open_blocks):
            block.rows[wanted.level] = min(found[place], block.lines)

    def rows(self, wanted: LogFilter) -> int:
        """Return how many lines a filter keeps, of those known."""
        return self._starts[wanted][-1]

    def place(self, wanted: LogFilter, row: int) -> tuple[int, int]:
        """Return the sequence after which to read for a row, and how many rows to leave out then."""
        starts = self._starts[wanted]
        at = min(bisect_right(starts, row), len(self._blocks)) - 1
        return (self._blocks[at].first_seq - 1, row - starts[at]) if at >= 0 else (0, 0)

    def row_of_block(self, wanted: LogFilter, seq: int) -> tuple[int, int]:
        """Return the row at which the block of a sequence begins, and the sequence of its first line."""
        at = bisect_right(self._blocks, seq, key=lambda block: block.first_seq) - 1
        return (self._starts[wanted][at], self._blocks[at].first_seq) if at >= 0 else (0, 1)

    def mark(self, wanted: LogFilter, seq: int) -> int:
        """Return the place of a line on the map, from 0 to 199."""
        row, first = self.row_of_block(wanted, seq)
        return min(_MARKS - 1, (row + seq - first) * _MARKS // max(1, self.rows(wanted)))

    def map_of_levels(self, wanted: LogFilter) -> list[int]:
        """Return the highest level of each of the 200 stretches of the log, as a number from 0 to 6."""
        found = [0] * _MARKS
        starts, rows = self._starts[wanted], max(1, self.rows(wanted))
        for block, start, end in zip(self._blocks, starts, starts[1:], strict=False):
            if start < end:
                highest = block.levels.bit_length() - 1
                for mark in range(start * _MARKS // rows, min(_MARKS, -(-end * _MARKS // rows))):
                    found[mark] = max(found[mark], highest)
        return found

    def map_of_lines(self, wanted: LogFilter, loud: Sequence[LogLine]) -> list[int]:
        """Return the same from the warnings and errors that a filter keeps."""
        found = [0] * _MARKS
        for place, line in enumerate(loud):
            only = len(loud) == self.rows(wanted)
            mark = place * _MARKS // len(loud) if only else self.mark(wanted, line.seq)
            found[mark] = max(found[mark], min(6, line.level // 10))
        return found

    def moments(self, levels: int) -> list[tuple[str, int, int, int]]:
        """Return the blocks in which one of a set of levels occurs: step, try, time in microseconds, their levels."""
        return [
            (block.step, block.attempt, block.at_us, block.levels & levels)
            for block in self._blocks
            if block.levels & levels
        ]


def _lines_of_level(chunks: Sequence[LogChunk], level: int) -> list[int]:
    """Return how many lines of each chunk have a level, or a higher one."""
    return [sum(number >= level for number in levels_of_lines(chunk)) for chunk in chunks]


def levels_of_lines(chunk: LogChunk) -> list[int]:
    """Return the level of each line of a chunk. A line that cannot be read counts as an error, as it is shown."""
    try:
        lines = chunk.raw_lines()
    except ValueError:
        return [_UNREADABLE] * chunk.line_count
    heads = [_LEVEL.match(line) for line in lines[: chunk.line_count]]
    levels = [int(head[1]) if head else _UNREADABLE for head in heads]
    return levels + [_UNREADABLE] * (chunk.line_count - len(levels))
