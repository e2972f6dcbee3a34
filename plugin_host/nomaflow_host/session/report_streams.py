"""Streams that stay open, for reports: an exchange on one costs half of what a call costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from nomaflow.client.numbered_exchanges import grpc_error, is_broken_connection
from nomaflow_api.v1 import host_gateway_service_pb2 as pb

if TYPE_CHECKING:
    ReportStream = grpc.aio.StreamStreamCall[pb.StreamReportsRequest, pb.StreamReportsResponse]


class ReportStreams:
    """The streams for reports on a channel. One takes one report at a time, which is the quickest way for each.

    :param method: opens a stream
    """

    def __init__(self, method: Callable[[], ReportStream]) -> None:
        self._method = method
        self._idle: list[ReportStream] = []

    async def deliver(self, report: pb.ReportRequest, *, timeout: float) -> pb.ReportResponse:  # noqa: ASYNC109  # answered with gRPC's error
        """Send a report on a stream that is idle, or on a new one, and return its answer. A failed stream is given up.

        :param timeout: seconds
        :raises grpc.aio.AioRpcError: if it fails; UNAVAILABLE if the stream ends instead
        """
        stream = self._take()
        answered = False
        try:
            async with asyncio.timeout(timeout):
                await _write(stream, pb.StreamReportsRequest(report=report))
                answer: Any = await stream.read()
            if answer is grpc.aio.EOF:
                raise grpc_error(grpc.StatusCode.UNAVAILABLE, "the stream has ended without an answer")
            answered = True
        except TimeoutError:
            raise grpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:g} seconds") from None
        finally:
            if answered:
                self._idle.append(stream)
            else:
                stream.cancel()
        found: pb.ReportResponse = answer.answer
        return found

    def _take(self) -> ReportStream:
        while self._idle:
            stream = self._idle.pop()
            if not stream.done():
                return stream
        return self._method()


async def _write(stream: ReportStream, request: pb.StreamReportsRequest) -> None:
    try:
        await stream.write(request)
    except asyncio.InvalidStateError:
        return  # it has ended meanwhile: the read raises why
    except grpc.aio.AioRpcError as error:
        if not is_broken_connection(error):
            raise
        raise grpc_error(grpc.StatusCode.UNAVAILABLE, "the connection broke as the report was sent") from None
