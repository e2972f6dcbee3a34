"""Reading logs: as lines, filtered and in blocks, with follow until the run is over; or as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain
from typing import Any

from msgspec import structs

from nomaflow_api.bounds import MOST_NUMBER, MOST_SMALL_NUMBER
from nomaflow_api.event_loop import happens_within
from nomaflow_api.log_levels import ALL_LEVELS, levels_from
from nomaflow_api.v1 import log_pb2
from nomaflow_api.v1.kernel_service_pb2 import ReadLogsRequest, ReadLogsResponse
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import CONTINUED, SHARED, LogLine, read_lines
from nomaflow_api.v1.log_pb2 import ReadLogChunksRequest, ReadLogChunksResponse
from nomaflow_api.v1.message_codec import encode
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import BadRequest, KernelStopping
from nomaflow_kernel.history.feed import LogNews
from nomaflow_kernel.history.lookups import LogFilter
from nomaflow_kernel.history.records import LogChunkRecord, LogHead
from nomaflow_kernel.history.states import RUN_TERMINAL
from nomaflow_kernel.rpc.pages import grouped
from nomaflow_kernel.rpc.parts import Calls
from nomaflow_kernel.rpc.requests import check_most, check_name, check_run_id
from nomaflow_kernel.rpc.watching import read_run

_CHUNKS = 4
_MOST_CHUNKS = 100
_PAGE_BYTES = 1024 * 1024
_HEADS = 2_000
_MAX_TAIL = 10_000
_BLOCK_LINES = 512
_BLOCK_BYTES = 256 * 1024
_RECHECK_SECONDS = 10.0
"""The time that a follower waits for a wake-up before it checks the store."""


class LogCalls(Calls):
    """Serves ReadLogs and ReadLogChunks."""

    def read_logs(self, request: ReadLogsRequest, _caller: Caller) -> AsyncIterator[ReadLogsResponse]:
        """Yield blocks of lines in order; with ``follow``, until the run is terminal and all lines are sent.

        :raises UnknownRun: if no run has the id
        :raises BadRequest: if the run has no such step
        :raises KernelStopping: if the kernel stops while the log is followed
        """
        check_run_id(request.run_id)
        check_name(request.step, "step")
        check_most(request.tail, _MAX_TAIL, "tail")
        if request.tail and request.limit:
            raise BadRequest("tail and limit are both set, expected one of them", field="limit")
        for field in ("before_seq", "limit"):
            if request.follow and getattr(request, field):
                raise BadRequest(f"follow and {field} are both set, expected one of them", field=field)
        return self._read(request, _filter(request, levels_from(request.min_level) if request.min_level else 0))

    async def _read(self, query: ReadLogsRequest, wanted: LogFilter) -> AsyncIterator[ReadLogsResponse]:
        with self._feed.log_news(query.run_id) as news:
            detail = await read_run(self._store, query.run_id, step=query.step)
            if query.tail:
                # Lines that are stored while the tail is read are left to the follower.
                end = min(wanted.before_seq or MOST_NUMBER, detail.run.log_lines + 1)
                async for block in self._tail(query, structs.replace(wanted, before_seq=end)):
                    yield block
                if not query.follow:
                    return
                wanted = structs.replace(wanted, after_seq=max(wanted.after_seq, detail.run.log_lines))
            left = query.limit
            finished = detail.run.state in RUN_TERMINAL or not query.follow
            while True:
                async for block, after in self._stored(query, wanted):
                    wanted = structs.replace(wanted, after_seq=after)
                    if query.limit:
                        del block.lines[left:]
                        left -= len(block.lines)
                    if block.lines:
                        yield block
                    if query.limit and not left:
                        return
                if finished:
                    return
                finished = await self._wait(news, query.run_id)

    async def read_log_chunks(
        self, request: ReadLogChunksRequest, _caller: Caller
    ) -> AsyncIterator[ReadLogChunksResponse]:
        """Yield the chunks of a log as they are stored, or their heads only, a few in a message.

        :raises UnknownRun: if no run has the id
        :raises BadRequest: if the run has no such step
        """
        check_run_id(request.run_id)
        check_name(request.step, "step")
        await read_run(self._store, request.run_id, step=request.step)
        filter = _filter(request, request.levels & ALL_LEVELS)
        if request.levels and not filter.levels:
            return
        if not request.without_body:
            async for chunks in self._pages(request.run_id, filter):
                for group in grouped(chunks, lambda chunk: len(chunk.body)):
                    told = [_chunk_message(chunk, size_bytes=len(chunk.body)) for chunk in group]
                    yield ReadLogChunksResponse(chunks=told)
            return
        more = True
        while more:
            page = await self._store.log_heads(request.run_id, filter, limit=_HEADS)
            more = page.more
            if page.chunks:
                yield ReadLogChunksResponse(chunks=[_chunk_message(head, body=b"") for head in page.chunks])
                filter = structs.replace(filter, after_seq=max(filter.after_seq, page.chunks[-1].last_seq))

    async def _pages(
        self, run_id: str, filter: LogFilter, *, newest_first: bool = False
    ) -> AsyncIterator[Sequence[LogChunkRecord]]:
        """Yield the chunks that a filter keeps, in pages of about a mebibyte."""
        more, limit = True, _CHUNKS
        while more:
            page = await self._store.log_page(run_id, filter, limit=limit, newest_first=newest_first)
            more, limit = page.more, _next_limit(page.chunks)
            if page.chunks:
                yield page.chunks
                last = page.chunks[-1]
                filter = (
                    structs.replace(filter, before_seq=last.first_seq)
                    if newest_first
                    else structs.replace(filter, after_seq=max(filter.after_seq, last.last_seq))
                )

    async def _wait(self, news: LogNews, run_id: str) -> bool:
        """Wait for more lines; return True once the run is terminal, so that the stored log is complete."""
        heard = await happens_within(news, _RECHECK_SECONDS)
        if self._feed.closed:
            raise KernelStopping
        news.clear()
        if heard:
            return news.ended
        detail = await read_run(self._store, run_id)
        return detail.run.state in RUN_TERMINAL

    async def _tail(self, query: ReadLogsRequest, wanted: LogFilter) -> AsyncIterator[ReadLogsResponse]:
        """Yield blocks of the last lines that are wanted. None is kept: a host may have sent lines of 2 MiB."""
        wanted = structs.replace(wanted, after_seq=await self._before_tail(query, wanted))
        async for chunks in self._pages(query.run_id, wanted):
            for block in _blocks(chain.from_iterable(_matching(chunk, wanted, query.min_level) for chunk in chunks)):
                yield block

    async def _before_tail(self, query: ReadLogsRequest, wanted: LogFilter) -> int:
        """Return the number of the line before the last ones that are wanted, reading backwards."""
        left = query.tail
        async for chunks in self._pages(query.run_id, wanted, newest_first=True):
            for chunk in chunks:
                found = [seq for seq, _ in _lines(chunk, wanted, query.min_level)]
                if len(found) >= left:
                    return found[-left] - 1
                left -= len(found)
                await asyncio.sleep(0)  # a chunk takes up to 50 ms: others have a turn
        return wanted.after_seq

    async def _stored(self, query: ReadLogsRequest, wanted: LogFilter) -> AsyncIterator[tuple[ReadLogsResponse, int]]:
        """Yield blocks of wanted lines, each with the number of the last line read."""
        async for chunks in self._pages(query.run_id, wanted):
            for chunk in chunks:
                for block in _blocks(_matching(chunk, wanted, query.min_level)):
                    yield block, block.lines[-1].seq
                yield ReadLogsResponse(), max(wanted.after_seq, chunk.last_seq)


def _filter(request: ReadLogsRequest | ReadLogChunksRequest, levels: int) -> LogFilter:
    """Return the chunks that a request wants, or that may hold lines that it wants."""
    return LogFilter(
        after_seq=min(request.after_seq, MOST_NUMBER),
        before_seq=min(request.before_seq, MOST_NUMBER),
        step=request.step,
        attempt=min(request.attempt, MOST_SMALL_NUMBER),
        levels=levels,
    )


def _next_limit(chunks: Sequence[LogChunkRecord]) -> int:
    """Return how many chunks to read next: as many as make up a mebibyte, if they are as large as the last ones."""
    size = sum(len(chunk.body) for chunk in chunks)
    return max(_CHUNKS, min(_MOST_CHUNKS, _PAGE_BYTES * len(chunks) // max(size, 1)))


def _chunk_message(source: LogChunkRecord | LogHead, **given: Any) -> log_pb2.LogChunk:
    return encode(log_pb2.LogChunk, source, compressed=source.codec == LogCodec.JSONL_ZLIB, **given)


def _blocks(lines: Iterator[log_pb2.LogLine]) -> Iterator[ReadLogsResponse]:
    block: list[log_pb2.LogLine] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line.message) + len(line.logger) + len(line.step) + 32
        if len(block) >= _BLOCK_LINES or size >= _BLOCK_BYTES:
            yield ReadLogsResponse(lines=block)
            block, size = [], 0
    if block:
        yield ReadLogsResponse(lines=block)


def _matching(chunk: LogChunkRecord, wanted: LogFilter, min_level: int) -> Iterator[log_pb2.LogLine]:
    for seq, line in _lines(chunk, wanted, min_level):
        yield log_pb2.LogLine(
            seq=seq,
            at_us=line.at_us,
            level=max(0, min(line.level, 2**32 - 1)),
            logger=line.logger.encode("utf-8", "replace").decode(),
            step=chunk.step,
            attempt=chunk.attempt,
            message=line.message_bytes,
            continued=bool(line.flags & CONTINUED),
            shared=bool(line.flags & SHARED),
        )


def _lines(chunk: LogChunkRecord, wanted: LogFilter, min_level: int) -> Iterator[tuple[int, LogLine]]:
    return read_lines(
        chunk.body,
        compressed=chunk.codec == LogCodec.JSONL_ZLIB,
        first_seq=chunk.first_seq,
        line_count=chunk.line_count,
        at_us=chunk.last_at_us,
        after_seq=wanted.after_seq,
        before_seq=wanted.before_seq,
        min_level=min_level,
    )
