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

from nomaflow_api.log_levels import levels_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.client import KernelClient
    from nomaflow.client.values import LogChunk, LogLine

_FEW_LINES = 256
_MANY_BLOCKS = 4000
"""With so many blocks, neighbours of one try are taken together up to 256 lines, so that an index stays small."""
_MARKS = 200
_MOST_FILTERS = 32
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

    @property
    def levels(self) -> int:
        """The levels that a line which is wanted can have, as ``LogChunk.levels``; 0 for all."""
        return levels_from(self.level) if self.level else 0

    def keeps(self, line: LogLine) -> bool:
        """Return True for a line that is wanted."""
        of_step = self.step in ("", line.step) and self.attempt in (0, line.attempt)
        return of_step and line.level >= self.level


ALL_LINES = LogFilter()
"""The filter that keeps every line."""


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

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.lines - 1

    def known_rows(self, wanted: LogFilter) -> int | None:
        """Return how many of the lines a filter keeps; None if only their text can tell."""
        if (wanted.step and wanted.step != self.step) or (wanted.attempt and wanted.attempt != self.attempt):
            return 0
        above = self.levels & wanted.levels
        if not wanted.level or (above == self.levels and wanted.level % 10 == 0):
            return self.lines
        return self.rows.get(wanted.level) if above else 0


class LogRows:
    """The rows that a filter keeps of a log, as far as the log was stored when they were counted.

    Whoever reads on has the same rows, whatever others take into the index meanwhile.

    :ivar count: how many there are
    :ivar last_seq: the sequence of the last line of the log that is known; 0 for none
    """

    def __init__(self, blocks: Sequence[_Block], wanted: LogFilter) -> None:
        self._blocks = blocks  # grows; those beyond the starts are not ours
        self._starts = list(accumulate((block.known_rows(wanted) or 0 for block in blocks), initial=0))
        self._known = len(blocks)
        self.count = self._starts[-1]
        self.last_seq = blocks[-1].last_seq if blocks else 0

    def place(self, row: int) -> tuple[int, int]:
        """Return the sequence after which to read for a row, and how many rows to leave out then."""
        at = min(bisect_right(self._starts, row), self._known) - 1
        return (self._blocks[at].first_seq - 1, row - self._starts[at]) if at >= 0 else (0, 0)

    def row_of_block(self, seq: int) -> tuple[int, int]:
        """Return the row at which the block of a sequence begins, and the sequence of its first line."""
        at = bisect_right(self._blocks, seq, 0, self._known, key=lambda block: block.first_seq) - 1
        return (self._starts[at], self._blocks[at].first_seq) if at >= 0 else (0, 1)

    def mark(self, seq: int) -> int:
        """Return the place of a line on the map, from 0 to 199."""
        row, first = self.row_of_block(seq)
        return min(_MARKS - 1, (row + seq - first) * _MARKS // max(1, self.count))

    def map_of_levels(self) -> list[int]:
        """Return the highest level of each of the 200 stretches of the log, as a number from 0 to 6."""
        found = [0] * _MARKS
        starts, rows = self._starts, max(1, self.count)
        for block, start, end in zip(self._blocks, starts, starts[1:], strict=False):
            if start < end:
                highest = block.levels.bit_length() - 1
                for mark in range(start * _MARKS // rows, min(_MARKS, -(-end * _MARKS // rows))):
                    found[mark] = max(found[mark], highest)
        return found

    def map_of_lines(self, loud: Sequence[LogLine]) -> list[int]:
        """Return the same from the warnings and errors that the filter keeps."""
        found = [0] * _MARKS
        only = len(loud) == self.count
        for place, line in enumerate(loud):
            mark = place * _MARKS // len(loud) if only else self.mark(line.seq)
            found[mark] = max(found[mark], min(6, line.level // 10))
        return found

    def moments(self, levels: int) -> list[tuple[str, int, int, int]]:
        """Return the blocks in which one of a set of levels occurs: step, try, time in microseconds, their levels."""
        return [
            (block.step, block.attempt, block.at_us, block.levels & levels)
            for block in self._blocks[: self._known]
            if block.levels & levels
        ]


class LogIndex:
    """The index of one run's log. Calls take turns.

    :param run_id: the run
    :ivar ends_at: the last line of a log that is known to be complete; the index does not ask for more
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.ends_at: int | None = None
        self._blocks: list[_Block] = []
        self._rows: dict[LogFilter, LogRows] = {}
        self._turn = asyncio.Lock()

    @property
    def _last_seq(self) -> int:
        return self._blocks[-1].last_seq if self._blocks else 0

    async def rows(self, kernel: KernelClient, wanted: LogFilter) -> LogRows:
        """Take in what was stored since the last call, and return the rows that a filter keeps."""
        async with self._turn:
            if self._last_seq != self.ends_at:
                blocks = kernel.read_log_chunks(self.run_id, after_seq=self._last_seq, without_body=True)
                async for chunks in blocks:
                    for chunk in chunks:
                        self._take(chunk)
            if wanted not in self._rows:
                self._make_room()
                await self._count(kernel, wanted)
                self._rows[wanted] = LogRows(self._blocks, wanted)
            return self._rows[wanted]

    def _make_room(self) -> None:
        """Forget what was counted for other filters, if there are many: an address may hold any."""
        if len(self._rows) >= _MOST_FILTERS:
            self._rows.clear()
            for block in self._blocks:
                block.rows.clear()

    def _take(self, chunk: LogChunk) -> None:
        first = max(chunk.first_seq, self._last_seq + 1)
        lines = chunk.first_seq + chunk.line_count - first
        if lines <= 0:
            return
        self._rows.clear()  # at once: the connection may break before the next one
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
            levels=wanted.levels,
        )
        async for chunks in blocks:
            counted = await asyncio.to_thread(_lines_of_level, chunks, wanted.level)
            for chunk, lines in zip(chunks, counted, strict=True):
                found[bisect_right(starts, chunk.first_seq) - 1] += lines
        for place, block in enumerate(open_blocks):
            block.rows[wanted.level] = min(found[place], block.lines)


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
