"""Reading logs: unpacking stored chunks, filtering, and sending blocks; with follow, until the run is over."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator

from nomaflow_api.v1 import log_pb2
from nomaflow_api.v1.kernel_service_pb2 import ReadLogsRequest, ReadLogsResponse
from nomaflow_api.v1.letters import LogCodec
from nomaflow_api.v1.log_lines import CONTINUED, SHARED, LogChunkError, decode_line, split_lines
from nomaflow_kernel.domain.errors import KernelStopping
from nomaflow_kernel.history.feed import EventFeed, RunSubscription
from nomaflow_kernel.history.port import RunDetail, Store
from nomaflow_kernel.history.records import LogChunkRecord
from nomaflow_kernel.history.states import RUN_TERMINAL
from nomaflow_kernel.rpc.watching import read_run

__all__ = ["LogReading"]

_CHUNKS = 4
_BLOCK_LINES = 512
_BLOCK_BYTES = 256 * 1024
_ERROR_LEVEL = 40


class LogReading:
    """Serves ReadLogs.

    :param recheck_seconds: time that a follower waits for a wake-up before it checks the store
    """

    def __init__(self, *, store: Store, feed: EventFeed, recheck_seconds: float = 10.0) -> None:
        self._store = store
        self._feed = feed
        self._recheck_seconds = recheck_seconds

    async def read(self, query: ReadLogsRequest) -> AsyncIterator[ReadLogsResponse]:
        """Yield blocks of lines in order; with ``follow``, until the run is terminal and all lines are sent.

        :raises UnknownRun: if no run has the id
        :raises KernelStopping: if the kernel stops while the log is followed
        """
        with self._feed.subscribe(query.run_id) as subscription:
            detail = await read_run(self._store, query.run_id)
            cursor = query.after_seq
            if query.tail:
                lines, cursor = await self._tail(query, detail)
                for block in _blocks(lines):
                    yield block
            finished = detail.run.state in RUN_TERMINAL or not query.follow
            while True:
                async for block, seq in self._stored(query, cursor):
                    cursor = seq
                    if block.lines:
                        yield block
                if finished:
                    return
                finished = await self._wait(subscription, query.run_id)

    async def _wait(self, subscription: RunSubscription, run_id: str) -> bool:
        """Wait for more lines; return True once the run is terminal, so that the stored log is complete."""
        heard = await subscription.wait(self._recheck_seconds)
        if self._feed.closed:
            raise KernelStopping
        events = subscription.take()
        if heard and events is not None:
            return any(event.kind == "run.finished" for event in events)
        detail = await read_run(self._store, run_id)
        return detail.run.state in RUN_TERMINAL

    async def _tail(self, query: ReadLogsRequest, detail: RunDetail) -> tuple[list[log_pb2.LogLine], int]:
        """Return the last stored lines, and the number of the last line read."""
        start = query.after_seq
        if not query.step and not query.min_level:
            start = max(start, detail.run.log_lines - query.tail)
        kept: deque[log_pb2.LogLine] = deque(maxlen=query.tail)
        cursor = start
        async for block, seq in self._stored(query, start):
            cursor = seq
            kept.extend(block.lines)
        return list(kept), cursor

    async def _stored(self, query: ReadLogsRequest, after: int) -> AsyncIterator[tuple[ReadLogsResponse, int]]:
        """Yield blocks of matching lines after a number, each with the number of the last line read."""
        while True:
            page = await self._store.log_page(
                query.run_id, after_seq=after, limit=_CHUNKS, step=query.step, min_level=query.min_level
            )
            for chunk in page.chunks:
                last = chunk.first_seq + chunk.line_count - 1
                for block in _blocks(_matching(chunk, query, after)):
                    yield block, block.lines[-1].seq
                after = max(after, last)
                yield ReadLogsResponse(), after
            if not (page.more and page.chunks):
                return


def _blocks(lines: Iterator[log_pb2.LogLine] | list[log_pb2.LogLine]) -> Iterator[ReadLogsResponse]:
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


def _matching(chunk: LogChunkRecord, query: ReadLogsRequest, after: int) -> Iterator[log_pb2.LogLine]:
    if query.step and chunk.step != query.step:
        return
    for line in _lines(chunk):
        if line.seq > after and line.level >= query.min_level:
            yield line


def _lines(chunk: LogChunkRecord) -> Iterator[log_pb2.LogLine]:
    """Yield the lines of a chunk. A line that cannot be read becomes one that says so; the others stay readable."""
    seq, end = chunk.first_seq, chunk.first_seq + chunk.line_count
    trouble, at_us = "the chunk ends early", chunk.last_at_us
    try:
        for raw in split_lines(chunk.body, compressed=chunk.codec == LogCodec.JSONL_ZLIB):
            if seq == end:
                return
            try:
                line = decode_line(raw)
            except LogChunkError as error:
                yield _unreadable(chunk, seq, at_us, f"this line cannot be read: {error}")
            else:
                at_us = line.at_us
                yield log_pb2.LogLine(
                    seq=seq,
                    at_us=at_us,
                    level=max(0, min(line.level, 2**32 - 1)),
                    logger=line.logger.encode("utf-8", "replace").decode(),
                    step=chunk.step,
                    attempt=chunk.attempt,
                    message=line.message_bytes,
                    continued=bool(line.flags & CONTINUED),
                    shared=bool(line.flags & SHARED),
                )
            seq += 1
    except LogChunkError as error:
        trouble = str(error)
    if seq < end:
        missing = "1 line" if end - seq == 1 else f"{end - seq} lines"
        yield _unreadable(chunk, seq, at_us, f"{missing} cannot be read: {trouble}")


def _unreadable(chunk: LogChunkRecord, seq: int, at_us: int, trouble: str) -> log_pb2.LogLine:
    return log_pb2.LogLine(
        seq=seq,
        at_us=at_us,
        level=_ERROR_LEVEL,
        logger="nomaflow.kernel",
        step=chunk.step,
        attempt=chunk.attempt,
        message=trouble.encode("utf-8", "replace"),
    )
