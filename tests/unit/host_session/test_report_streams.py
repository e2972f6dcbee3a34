"""Streams for reports: how their answers come, and how one that breaks is told."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session.report_streams import ReportStreams


class _Stream:
    """A stream that does as it is told."""

    def __init__(self, *, write: Exception | None = None, end: Exception | None = None, ends: bool = False) -> None:
        self._write = write
        self.numbers: list[int] = []
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if end is not None:
            self._end.set_exception(end)
        elif ends:
            self._end.set_result(None)

    async def write(self, request: Any) -> None:
        self.numbers.append(request.number)
        if self._write is not None:
            raise self._write

    def __await__(self) -> Generator[Any, None, None]:
        return self._end.__await__()

    @property
    def canceled(self) -> bool:
        return self._end.cancelled()

    def cancel(self) -> None:
        self._end.cancel()


def _failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="as told")


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"write": _failed(grpc.StatusCode.INTERNAL)}, grpc.StatusCode.UNAVAILABLE),
        ({"write": _failed(grpc.StatusCode.PERMISSION_DENIED)}, grpc.StatusCode.PERMISSION_DENIED),
        (
            {"write": asyncio.InvalidStateError("ended"), "end": _failed(grpc.StatusCode.INVALID_ARGUMENT)},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"ends": True}, grpc.StatusCode.UNAVAILABLE),
        ({}, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_a_stream_that_breaks_is_given_up_with_a_status(told: dict[str, Any], code: grpc.StatusCode) -> None:
    """A connection that broke is UNAVAILABLE, so that the report is sent again; gRPC calls it INTERNAL in a write."""
    opened = [_Stream(**told), _Stream(**told)]
    streams = ReportStreams(lambda: cast(Any, opened.pop(0)))
    first = opened[0]
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streams.deliver(pb.StreamReportsRequest(), timeout=0.1)
        assert caught.value.code() is code
    assert first.canceled or told.keys() & {"end", "ends"}
    assert opened == []


async def test_an_answer_goes_to_the_report_with_its_number() -> None:
    """Streams are used again once their report is answered; an answer that nobody waits for changes nothing."""
    opened: list[_Stream] = []

    def opens() -> Any:
        opened.append(_Stream())
        return opened[-1]

    streams = ReportStreams(opens)
    for _ in range(2):
        delivery = asyncio.create_task(streams.deliver(pb.StreamReportsRequest(), timeout=20))
        await asyncio.sleep(0)
        number = opened[0].numbers[-1]
        streams.take_answer(pb.ReportAnswer(number=number + 1, acks=b"of another"))
        streams.take_answer(pb.ReportAnswer(number=number, acks=b"its own"))
        assert await delivery == b"its own"
    assert len(opened) == 1


async def test_a_report_has_the_number_of_no_earlier_one() -> None:
    """A kernel that reads a report of the last channel late answers it on the session that is open then."""
    opened = [_Stream(), _Stream()]
    for each in opened:
        streams = ReportStreams(lambda stream=each: cast(Any, stream))
        with pytest.raises(grpc.aio.AioRpcError):
            await streams.deliver(pb.StreamReportsRequest(), timeout=0.01)
    first, second = (stream.numbers for stream in opened)
    assert first < second
