"""Streams for reports: how one that breaks is told."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session.report_streams import ReportStreams


class _Stream:
    """A stream that does as it is told."""

    def __init__(self, *, write: Exception | None = None, answer: Any = grpc.aio.EOF) -> None:
        self._write = write
        self._answer = answer
        self.canceled = False

    async def write(self, _request: Any) -> None:
        if self._write is not None:
            raise self._write

    async def read(self) -> Any:
        if self._answer is None:
            await asyncio.Event().wait()
        return self._answer

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.canceled = True


def _failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="as told")


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (_Stream(write=_failed(grpc.StatusCode.INTERNAL)), grpc.StatusCode.UNAVAILABLE),
        (_Stream(write=_failed(grpc.StatusCode.PERMISSION_DENIED)), grpc.StatusCode.PERMISSION_DENIED),
        (_Stream(write=asyncio.InvalidStateError("ended")), grpc.StatusCode.UNAVAILABLE),
        (_Stream(), grpc.StatusCode.UNAVAILABLE),
        (_Stream(answer=None), grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_a_stream_that_breaks_is_given_up_with_a_status(stream: _Stream, code: grpc.StatusCode) -> None:
    """A connection that broke is UNAVAILABLE, so that the report is sent again; gRPC calls it INTERNAL in a write."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ReportStreams(lambda: cast(Any, stream)).deliver(pb.ReportRequest(), timeout=0.1)
    assert caught.value.code() is code
    assert stream.canceled
