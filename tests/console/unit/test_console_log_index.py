"""The rows of a log stay what they were for whoever reads them, while others take in what is new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from nomaflow.client import KernelClient, KernelUnreachable
from nomaflow.client.values import LogChunk, LogLine
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_console.kernel.log_index import ALL_LINES, LogFilter, LogIndex
from nomaflow_console.kernel.log_pages import LogPages

INFO, ERROR = 20, 40
ERRORS = LogFilter(level=ERROR)


class Log:
    """The stored blocks of a log that grows."""

    def __init__(self, *levels: int) -> None:
        self._chunks: list[LogChunk] = []
        self.reads = 0
        self.breaks_after = 0
        self.write(*levels)

    def write(self, *levels: int) -> None:
        """Store one more block, with a line of each level."""
        last = self._chunks[-1] if self._chunks else None
        packed = pack_lines([encode_line(level, 1_764_000_000_000_000, "app", "text") for level in levels])
        chunk = LogChunk(
            first_seq=last.first_seq + last.line_count if last else 1, line_count=len(levels), step="score", attempt=1,
            levels=packed.levels, first_at_us=packed.first_at_us, size_bytes=len(packed.body), body=packed.body,
            compressed=packed.codec == LogCodec.JSONL_ZLIB,
        )  # fmt: skip
        self._chunks.append(chunk)

    async def read_log_chunks(
        self, run_id: str, *, after_seq: int = 0, before_seq: int = 0, **_: Any
    ) -> AsyncIterator[list[LogChunk]]:
        """Yield the blocks between two lines."""
        assert run_id == "run_1"
        self.reads += 1
        for chunk in list(self._chunks):
            if chunk.first_seq > after_seq and (not before_seq or chunk.first_seq < before_seq):
                yield [chunk]
                if chunk.last_seq == self.breaks_after:
                    raise KernelUnreachable("the connection broke")

    async def read_log_blocks(self, run_id: str, *, min_level: int, **_: Any) -> AsyncIterator[list[LogLine]]:
        """Yield the lines of a level, block by block."""
        async for [chunk] in self.read_log_chunks(run_id):
            yield [line for line in chunk.lines() if line.level >= min_level]

    @property
    def kernel(self) -> KernelClient:
        """A client that reads it."""
        return cast("KernelClient", self)


async def test_a_search_goes_on_while_others_see_the_log_grow() -> None:
    """A search under a filter marks what it finds on the map, although the index has new blocks and other filters."""
    log, index = Log(INFO, ERROR), LogIndex("run_1")
    rows = await index.rows(log.kernel, ERRORS)
    log.write(INFO, ERROR)
    log.write(ERROR)
    newer = await index.rows(log.kernel, ALL_LINES)
    assert [rows.mark(seq) for seq in (2, 4, 5)] == [199, 199, 199]
    assert (rows.count, rows.last_seq, rows.place(0)) == (1, 2, (0, 0))
    assert rows.map_of_levels()[-1] == ERROR // 10
    assert (newer.count, newer.last_seq) == (5, 5)
    assert (await index.rows(log.kernel, ERRORS)).count == 3


async def test_many_filters_leave_nothing_behind() -> None:
    """An address may name any step, try and level; what was counted for them does not add up for ever."""
    log, index = Log(INFO, ERROR, INFO), LogIndex("run_1")
    index.ends_at = 3
    for level in range(1, 500):
        await index.rows(log.kernel, LogFilter(level=level))
    kept = log.reads
    assert (await index.rows(log.kernel, LogFilter(level=499))).count == 0
    assert log.reads == kept, "the last ones are kept"
    assert (await index.rows(log.kernel, ERRORS)).count == 1
    assert log.reads > kept, "those of before are counted anew"


async def test_lines_that_came_before_a_break_are_rows() -> None:
    """The connection breaks in the middle of an answer; whoever asks again gets all lines, also where none is new."""
    log, index = Log(INFO), LogIndex("run_1")
    assert (await index.rows(log.kernel, ALL_LINES)).count == 1
    log.write(INFO)
    log.breaks_after = 2
    with pytest.raises(KernelUnreachable):
        await index.rows(log.kernel, ALL_LINES)
    log.breaks_after = 0
    assert (await index.rows(log.kernel, ALL_LINES)).count == 2


async def test_what_is_loud_is_told_without_its_texts() -> None:
    """The marks of a timeline and of the map need none: those of a log of few lines may be hundreds of megabytes."""
    loud = await LogPages().loud_lines(Log(INFO, ERROR, ERROR).kernel, "run_1", ALL_LINES)
    assert loud is not None
    assert [(line.seq, line.level, line.message) for line in loud] == [(2, ERROR, ""), (3, ERROR, "")]
