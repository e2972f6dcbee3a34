"""The client's calls about logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypedDict, Unpack

from nomaflow.client import values
from nomaflow.client.calls import Calls
from nomaflow.client.requests import filled
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1 import log_pb2
from nomaflow_api.v1.message_codec import decode


class LogFilters(TypedDict, total=False):
    """Filters of the lines of a run's log; a key that is missing, or 0, or empty, keeps all.

    ``follow`` waits for more until the run is terminal and all lines were sent; it cannot be combined with an end or a
    limit. ``after_seq`` keeps lines after this one, ``before_seq`` lines before this one, ``attempt`` lines of tries
    with this number, ``min_level`` lines of at least that level number. ``tail`` keeps only the last lines of those
    stored now, at most 10,000; ``limit`` ends after that many lines, and cannot be combined with ``tail``.
    """

    follow: bool
    after_seq: int
    before_seq: int
    step: str
    attempt: int
    min_level: int
    tail: int
    limit: int


class LogCalls(Calls):
    """Reads logs, as lines or as stored. Every call needs the verb logs."""

    async def read_log_blocks(
        self, run_id: str, **filters: Unpack[LogFilters]
    ) -> AsyncGenerator[list[values.LogLine], None]:
        """Yield the log lines of a run in blocks as they arrive; see :class:`LogFilters`."""
        request = filled(service.ReadLogsRequest, run_id=run_id, **filters)
        if not request.follow:
            async for lines in self._blocks(request):
                yield lines
            return
        run = await self._run(run_id)
        if request.tail and not request.before_seq:
            # Read on its own: after a break before the first line, the tail of a longer log would leave lines out.
            tail = filled(service.ReadLogsRequest, **{**filters, "run_id": run_id, "follow": False})
            tail.before_seq = run.log_lines + 1
            async for lines in self._blocks(tail):
                yield lines
            request.after_seq, request.tail = max(request.after_seq, run.log_lines), 0
        while True:
            async for lines in self._blocks(request):
                yield lines
            # A stream may also end because of its age. A run that was over before the stream had all its lines stored.
            if run.terminal:
                return
            run = await self._run(run_id)

    async def _blocks(self, request: service.ReadLogsRequest) -> AsyncIterator[list[values.LogLine]]:
        """Yield the blocks of one call, which is repeated if it breaks; the request is kept up to date."""
        limited = bool(request.limit)
        async for message in self._connection.stream("ReadLogs", request):
            lines = [decode(values.LogLine, line) for line in message.lines if line.seq > request.after_seq]
            if not lines:
                continue
            request.after_seq, request.tail = lines[-1].seq, 0
            yield lines
            if limited:
                request.limit -= len(lines)
                if not request.limit:
                    return

    async def read_logs(self, run_id: str, **filters: Unpack[LogFilters]) -> AsyncIterator[values.LogLine]:
        """Yield the log lines of a run in order; see :class:`LogFilters`."""
        async for block in self.read_log_blocks(run_id, **filters):
            for line in block:
                yield line

    async def read_log_chunks(
        self,
        run_id: str,
        *,
        after_seq: int = 0,
        before_seq: int = 0,
        step: str = "",
        attempt: int = 0,
        levels: int = 0,
        without_body: bool = False,
    ) -> AsyncIterator[list[values.LogChunk]]:
        """Yield the blocks of a run's log as they are stored, some at a time: to search it all, or to draw its map.

        :param after_seq: keeps chunks with a line after this one
        :param before_seq: keeps chunks with a line before this one; 0 for no end
        :param levels: keeps chunks in which one of these levels occurs: bit n is levels 10·n to 10·n+9; 0 for all
        :param without_body: leave the lines out
        """
        request = filled(
            log_pb2.ReadLogChunksRequest,
            run_id=run_id,
            after_seq=after_seq,
            before_seq=before_seq,
            step=step,
            attempt=attempt,
            levels=levels,
            without_body=without_body,
        )
        async for message in self._connection.stream("ReadLogChunks", request):
            chunks = [values.LogChunk.of(chunk) for chunk in message.chunks]
            if chunks:
                request.after_seq = max(request.after_seq, chunks[-1].last_seq)
                yield chunks

    async def _run(self, run_id: str) -> values.RunView:
        return decode(values.RunView, (await self._ask("GetRun", run_id=run_id)).run)
