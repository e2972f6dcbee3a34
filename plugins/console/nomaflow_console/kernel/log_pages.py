"""Windows over the log of a run: any rows of it, by number, by line, from its end, or at its first error."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nomaflow_console.kernel.log_index import LogFilter, LogIndex, LogRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nomaflow.client import KernelClient
    from nomaflow.client.values import LogLine

MOST_LINES = 300
"""The most lines of one window."""
_MOST_INDEXES = 64
_LONG = 5000
_WARNING, _ERROR = 30, 40


@dataclass(frozen=True, kw_only=True, slots=True)
class LogWindow:
    """Some rows of a log.

    :param rows: how many there are, as far as the log is stored
    :param first_row: the number of the first one here, from 0
    :param row: the row that was asked for
    :param last_seq: the sequence up to which the log was read for this
    :param lines: the rows, in order
    """

    rows: int
    first_row: int
    row: int
    last_seq: int
    lines: tuple[LogLine, ...]


class LogPages:
    """Windows over logs, with an index for each log that was looked at lately."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[str, LogIndex] = OrderedDict()

    async def rows(self, kernel: KernelClient, run_id: str, wanted: LogFilter) -> LogRows:
        """Return the rows that a filter keeps of a run's log, as it is now."""
        return await self._of(run_id).rows(kernel, wanted)

    def complete(self, run_id: str, lines: int) -> None:
        """Take note that a log is complete, so that nobody asks for more of it."""
        self._of(run_id).ends_at = lines

    def _of(self, run_id: str) -> LogIndex:
        found = self._indexes.setdefault(run_id, LogIndex(run_id))
        self._indexes.move_to_end(run_id)
        while len(self._indexes) > _MOST_INDEXES:
            self._indexes.popitem(last=False)
        return found

    async def window(
        self, kernel: KernelClient, run_id: str, wanted: LogFilter, *, row: int, count: int, before: int = 0
    ) -> LogWindow:
        """Return rows around a row.

        :param row: from 0; negative ones count from the end; one beyond an end becomes the last or the first
        :param count: how many rows, at most `MOST_LINES`
        :param before: how many of them come before the row
        """
        rows = await self.rows(kernel, run_id, wanted)
        row = max(0, min(rows.count - 1, rows.count + row if row < 0 else row))
        count = max(1, min(count, MOST_LINES))
        first = max(0, min(row - min(before, count - 1), rows.count - count))
        after_seq, left_out = rows.place(first)
        count = min(count, rows.count - first)
        lines: list[LogLine] = []
        if count:
            async for block in _blocks(kernel, run_id, wanted, after_seq=after_seq, limit=left_out + count):
                lines += block
        return LogWindow(
            rows=rows.count, first_row=first, row=row, last_seq=rows.last_seq,
            lines=tuple(lines[left_out : left_out + count]),
        )  # fmt: skip

    async def row_of(self, kernel: KernelClient, run_id: str, wanted: LogFilter, seq: int) -> int:
        """Return the row of a line, or of the next one that the filter keeps."""
        rows = await self.rows(kernel, run_id, wanted)
        start, first = rows.row_of_block(seq)
        if not wanted.level:
            after, _ = rows.place(start)
            kept = after < seq  # the filter keeps lines of the block
            return start + max(0, seq - first) if kept else start
        counted = 0
        async for block in _blocks(kernel, run_id, wanted, after_seq=first - 1, before_seq=seq):
            counted += len(block)
        return start + counted

    async def next_error(
        self, kernel: KernelClient, run_id: str, wanted: LogFilter, *, after_seq: int = 0, before_seq: int = 0
    ) -> int:
        """Return the sequence of the first error after a line, or of the last one before a line; 0 for none."""
        errors = LogFilter(step=wanted.step, attempt=wanted.attempt, level=max(wanted.level, _ERROR))
        nearest = {"before_seq": before_seq, "tail": 1} if before_seq else {"after_seq": after_seq, "limit": 1}
        async for block in _blocks(kernel, run_id, errors, **nearest):
            return block[0].seq
        return 0

    async def loud_lines(self, kernel: KernelClient, run_id: str, wanted: LogFilter) -> tuple[LogLine, ...] | None:
        """Return the warnings and errors of what a filter keeps, without their texts; None if it keeps many rows.

        The texts may be hundreds of megabytes.
        """
        if (await self.rows(kernel, run_id, wanted)).count > _LONG:
            return None
        loud = LogFilter(step=wanted.step, attempt=wanted.attempt, level=max(wanted.level, _WARNING))
        blocks = _blocks(kernel, run_id, loud, limit=_LONG)
        return tuple([replace(line, message="") async for block in blocks for line in block])

    async def map(self, kernel: KernelClient, run_id: str, wanted: LogFilter) -> list[int]:
        """Return the map of a log: the highest level of each of its 200 stretches, as a number from 0 to 6."""
        loud = await self.loud_lines(kernel, run_id, wanted)
        rows = await self.rows(kernel, run_id, wanted)
        return rows.map_of_levels() if loud is None else rows.map_of_lines(loud)


def _blocks(kernel: KernelClient, run_id: str, wanted: LogFilter, **part: Any) -> AsyncIterator[list[LogLine]]:
    """Return what a filter keeps of a part of a log: ``after_seq``, ``before_seq``, ``tail`` or ``limit`` bound it."""
    return kernel.read_log_blocks(
        run_id, step=wanted.step, attempt=wanted.attempt, min_level=wanted.level, **part
    )  # fmt: skip
