"""Reports on streams that stay open: an exchange on a stream costs half of what a call costs, in time and in CPU."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session.failures import SessionDropped

if TYPE_CHECKING:
    from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceAsyncStub

    ReportCall = grpc.aio.StreamStreamCall[pb.StreamReportsRequest, pb.StreamReportsResponse]

__all__ = ["ReportStreams"]


class ReportStreams:
    """The streams of one channel. One takes one report at a time, so there are as many as reports under way at once."""

    def __init__(self, stub: HostGatewayServiceAsyncStub) -> None:
        self._stub = stub
        self._idle: list[ReportCall] = []

    async def report(self, request: pb.ReportRequest, *, deadline_s: float) -> pb.ReportResponse:
        """Deliver events on a stream that is idle, or on a new one. A stream that fails is given up.

        :raises grpc.aio.AioRpcError: if the exchange fails
        :raises SessionDropped: if the kernel ends the stream instead of an answer
        """
        stream = self._take()
        answered = False
        try:
            async with asyncio.timeout(deadline_s):
                response = await _exchange(stream, pb.StreamReportsRequest(report=request))
            answered = True
        except TimeoutError:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing, details=f"no answer within {deadline_s:g} seconds"
            ) from None
        finally:
            if answered:
                self._idle.append(stream)
            else:
                stream.cancel()
        return response.answer

    def _take(self) -> ReportCall:
        while self._idle:
            stream = self._idle.pop()
            if not stream.done():
                return stream
        return self._stub.StreamReports()


async def _exchange(stream: ReportCall, request: pb.StreamReportsRequest) -> pb.StreamReportsResponse:
    with contextlib.suppress(asyncio.InvalidStateError):  # it has ended meanwhile: the read raises the reason
        await stream.write(request)
    response = await stream.read()
    if not isinstance(response, pb.StreamReportsResponse):
        raise SessionDropped("the kernel ended a stream of reports")
    return response
