"""Streams that stay open, for reports. The kernel answers on the session, together with the orders that follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from nomaflow.client.numbered_exchanges import grpc_error, is_broken_connection
from nomaflow_api.v1 import host_gateway_service_pb2 as pb

if TYPE_CHECKING:
    ReportStream = grpc.aio.StreamUnaryCall[pb.StreamReportsRequest, pb.StreamReportsResponse]


class ReportStreams:
    """The streams for reports on a channel. One takes one report at a time, so that an error speaks of that report.

    :param method: opens a stream
    """

    _numbers = count(1)  # of the process: an answer to a report of an earlier channel is no other report's

    def __init__(self, method: Callable[[], ReportStream]) -> None:
        self._method = method
        self._idle: list[_Stream] = []
        self._under_way: dict[int, asyncio.Future[bytes]] = {}

    async def deliver(self, request: pb.StreamReportsRequest, *, timeout: float) -> bytes:  # noqa: ASYNC109  # answered with gRPC's error
        """Send a report on a stream that is idle, or on a new one, and return its acks. A failed stream is given up.

        :param request: gets its number here
        :param timeout: seconds
        :raises grpc.aio.AioRpcError: if it fails; UNAVAILABLE if the stream ends instead
        """
        stream, request.number = self._take(), next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        stream.answer = self._under_way[request.number] = answer
        answered = False
        try:
            async with asyncio.timeout(timeout):
                await stream.write(request)
                acks = await answer
            answered = True
        except TimeoutError:
            raise grpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:g} seconds") from None
        finally:
            del self._under_way[request.number]
            if answered:
                self._idle.append(stream)
            else:
                stream.give_up()
        return acks

    def take_answer(self, answer: pb.ReportAnswer) -> None:
        """Give an answer to the report that waits for it; one that nobody waits for is ignored."""
        waiting = self._under_way.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.acks)

    def _take(self) -> _Stream:
        while self._idle:
            stream = self._idle.pop()
            if not stream.ended:
                return stream
        return _Stream(self._method())


class _Stream:
    """One stream. When it ends, so does the wait for the answer to its report."""

    def __init__(self, call: ReportStream) -> None:
        self.answer: asyncio.Future[bytes] | None = None
        self._call = call
        self._end = asyncio.create_task(self._watch())

    @property
    def ended(self) -> bool:
        return self._end.done()

    def give_up(self) -> None:
        self._call.cancel()
        self._end.cancel()

    async def write(self, request: pb.StreamReportsRequest) -> None:
        try:
            await self._call.write(request)
        except asyncio.InvalidStateError:
            return  # it has ended meanwhile, and its end says why
        except grpc.aio.AioRpcError as error:
            if not is_broken_connection(error):
                raise
            raise grpc_error(grpc.StatusCode.UNAVAILABLE, "the connection broke as the report was sent") from None

    async def _watch(self) -> None:
        error = grpc_error(grpc.StatusCode.UNAVAILABLE, "the stream has ended without an answer")
        try:
            await self._call
        except grpc.aio.AioRpcError as failure:
            error = failure
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)
