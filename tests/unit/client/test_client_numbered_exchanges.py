"""The stream for calls that are made often: what goes together, and how one that breaks is told."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from nomaflow.client.numbered_exchanges import NumberedExchanges
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.reason_statuses import ErrorDetails, write_details


class _Stream:
    """A stream that takes messages when it is told to, and answers what it is told.

    :ivar taken: the requests of each message, by number
    """

    def __init__(self, *, write: Exception | None = None) -> None:
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.taken: list[dict[int, str]] = []
        self.canceled = False
        self._write = write
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def write(self, message: pb.StreamTriggersRequest) -> None:
        self.taken.append({item.number: item.request.job_id for item in message.items})
        await self.may_take.wait()
        if self._write is not None:
            raise self._write

    async def read(self) -> Any:
        answer = await self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self) -> None:
        self.canceled = True

    def answer(self, *numbers: int, status: bytes = b"") -> None:
        """Answer requests in one message: with the name of a run, or with a status."""
        message = pb.StreamTriggersResponse()
        for number in numbers:
            if status:
                message.items.add(number=number, status=status)
            else:
                message.items.add(number=number, response=pb.TriggerRunResponse(run_id=f"run {number}"))
        self._answers.put_nowait(message)

    def end(self, word: Any = grpc.aio.EOF) -> None:
        self._answers.put_nowait(word)


def _failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="as told")


class _World:
    """Exchanges on streams that are made when they are asked for."""

    def __init__(self, *streams: _Stream) -> None:
        self.opened = 0
        self._streams = streams
        self._exchanges = NumberedExchanges(self._open, pb.StreamTriggersRequest)

    def _open(self) -> _Stream:
        self.opened += 1
        return self._streams[self.opened - 1]

    def ask(self, job_id: str, *, size: int = 0, seconds: float = 20) -> asyncio.Task[Any]:
        request = pb.TriggerRunRequest(job_id=job_id, params_json=bytes(size))
        return asyncio.create_task(self._exchanges.exchange(request, seconds=seconds))


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_requests_that_wait_go_together_and_answers_come_in_any_order() -> None:
    """A request is sent at once; what comes while it is sent is the next message."""
    stream = _Stream()
    world = _World(stream)
    stream.may_take.clear()
    asked = [world.ask(f"job {number}") for number in range(1, 5)]
    await _turns()
    assert stream.taken == [{1: "job 1"}]
    stream.may_take.set()
    await _turns()
    assert stream.taken[1:] == [{2: "job 2", 3: "job 3", 4: "job 4"}]
    stream.answer(4, 2)
    stream.answer(1)
    stream.answer(3, status=_status(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [each.run_id for each in found if isinstance(each, pb.TriggerRunResponse)] == ["run 1", "run 2", "run 4"]
    assert isinstance(found[2], grpc.aio.AioRpcError)
    assert (found[2].code(), found[2].details()) == (grpc.StatusCode.NOT_FOUND, "no")
    assert world.opened == 1


async def test_nobody_sends_for_others_while_its_own_answer_is_there() -> None:
    """Else it would wait as long as the others go on asking."""
    stream = _Stream()
    world = _World(stream)
    stream.may_take.clear()
    first, second = world.ask("one"), world.ask("two")
    await _turns()
    stream.may_take.set()
    stream.may_take.clear()  # the first message is taken, and the second one is not
    await _turns()
    assert stream.taken == [{1: "one"}, {2: "two"}]
    stream.answer(1)
    assert (await asyncio.wait_for(first, 10)).run_id == "run 1"
    third = world.ask("three")
    await _turns()
    stream.may_take.set()
    stream.answer(2, 3)
    await asyncio.gather(second, third)
    assert stream.taken[2:] == [{3: "three"}]


async def test_a_message_has_a_bounded_size() -> None:
    """A kernel takes no message of more than a few MiB; what is too large with others goes alone."""
    stream = _Stream()
    world = _World(stream)
    stream.may_take.clear()
    asked = [world.ask("job", size=size) for size in (0, 400_000, 400_000, 2_000_000, 9)]
    await _turns()
    stream.may_take.set()
    await _turns()
    assert [list(numbers) for numbers in stream.taken] == [[1], [2, 3], [4], [5]]
    stream.answer(1, 2, 3, 4, 5)
    await asyncio.gather(*asked)


async def test_a_caller_that_gives_up_disturbs_no_other() -> None:
    """Its answer, when it comes, is nobody's."""
    stream = _Stream()
    world = _World(stream)
    asked = [world.ask("one"), world.ask("two", seconds=0.05), world.ask("three")]
    await _turns()
    asked[0].cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked[1]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stream.answer(1, 2, 3)
    assert (await asked[2]).run_id == "run 3"
    assert not stream.canceled


async def test_a_write_that_is_given_up_ends_the_stream_and_the_others_are_told() -> None:
    """gRPC ends a stream whose write is canceled, so the other requests are to be sent again."""
    stuck, next_one = _Stream(), _Stream()
    world = _World(stuck, next_one)
    stuck.may_take.clear()
    asked = [world.ask("one", seconds=0.05), world.ask("two")]
    found = await asyncio.gather(*asked, return_exceptions=True)
    codes = [each.code() for each in found if isinstance(each, grpc.aio.AioRpcError)]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE]
    assert stuck.canceled
    again = world.ask("two")
    await _turns()
    next_one.answer(1)
    assert (await again).run_id == "run 1"
    assert world.opened == 2


@pytest.mark.parametrize(
    ("stream", "word", "code"),
    [
        (_Stream(write=_failed(grpc.StatusCode.INTERNAL)), None, grpc.StatusCode.UNAVAILABLE),
        (_Stream(write=_failed(grpc.StatusCode.PERMISSION_DENIED)), None, grpc.StatusCode.PERMISSION_DENIED),
        (_Stream(write=asyncio.InvalidStateError("ended")), grpc.aio.EOF, grpc.StatusCode.UNAVAILABLE),
        (_Stream(), grpc.aio.EOF, grpc.StatusCode.UNAVAILABLE),
        (_Stream(), _failed(grpc.StatusCode.UNIMPLEMENTED), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_a_stream_that_breaks_is_given_up_with_a_status(
    stream: _Stream, word: Any, code: grpc.StatusCode
) -> None:
    """A connection that broke is UNAVAILABLE, so that requests are sent again; gRPC calls it INTERNAL in a write."""
    world = _World(stream)
    stream.may_take.clear()
    asked = [world.ask("one"), world.ask("two")]
    await _turns()
    stream.may_take.set()
    await _turns()
    if word is not None:
        stream.end(word)
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [each.code() for each in found if isinstance(each, grpc.aio.AioRpcError)] == [code, code]
    assert stream.canceled
    assert world.opened == 1


async def test_a_channel_that_is_closed_ends_what_is_under_way() -> None:
    """As it ends a call that is under way."""
    stream = _Stream()
    asked = _World(stream).ask("one")
    await _turns()
    stream.end(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await asked


def _status(code: grpc.StatusCode, reason: str) -> bytes:
    ((_, status),) = write_details(code, "no", ErrorDetails(reason=reason))
    return status
