"""Streams of numbered requests, the kernel's side: when each is answered, and what holds them up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.rpc import numbered_exchanges
from nomaflow_kernel.rpc.numbered_exchanges import NumberedExchanges


class _Served:
    """Exchanges whose answers come when they are let go.

    :ivar sent: the numbers in each message
    """

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.under_way: dict[str, asyncio.Future[pb.TriggerRunResponse]] = {}
        self.sent: list[list[int]] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        exchanges = NumberedExchanges(
            answer=self._answer,
            takes=lambda request: bool(request.preset),
            write=self._write,
            response=pb.StreamTriggersResponse,
        )
        self.task = asyncio.create_task(exchanges.serve(self._received()))

    async def _received(self) -> AsyncIterator[Any]:
        while (message := await self.messages.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    async def _answer(self, requests: Sequence[pb.TriggerRunRequest]) -> Sequence[pb.TriggerRunResponse]:
        answers = {each.job_id: asyncio.get_running_loop().create_future() for each in requests}
        self.under_way |= answers
        return await asyncio.gather(*answers.values())

    async def _write(self, raw: bytes) -> None:
        self.sent.append([item.number for item in pb.StreamTriggersResponse.FromString(raw).items])
        await self.may_send.wait()

    def ask(self, *numbers: int, together: Sequence[int] = ()) -> None:
        items = [
            {"number": each, "request": pb.TriggerRunRequest(job_id=str(each), preset="x" if each in together else "")}
            for each in numbers
        ]
        self.messages.put_nowait(pb.StreamTriggersRequest(items=items))

    def let_go(self, *numbers: int, bytes_each: int = 0) -> None:
        for each in numbers:
            self.under_way[str(each)].set_result(pb.TriggerRunResponse(warnings=["x" * bytes_each]))


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_slow_request_holds_up_no_other_and_the_end_waits_for_it() -> None:
    """Not even those of its own message."""
    served = _Served()
    served.ask(1, 2)
    served.ask(3)
    await _turns()
    served.let_go(3)
    await _turns()
    served.let_go(2)
    await _turns()
    assert served.sent == [[3], [2]]
    served.messages.put_nowait(None)
    await _turns()
    assert not served.task.done()
    served.let_go(1)
    await served.task
    assert served.sent == [[3], [2], [1]]


async def test_requests_that_wait_for_no_host_are_answered_together() -> None:
    """In one commit; those that wait for one neither hold them up nor wait for them."""
    served = _Served()
    served.ask(1, 2, 3, 4, together=(1, 3, 4))
    await _turns()
    served.let_go(1, 4)
    await _turns()
    assert served.sent == []
    served.let_go(2)
    await _turns()
    assert served.sent == [[2]]
    served.let_go(3)
    served.messages.put_nowait(None)
    await served.task
    assert served.sent == [[2], [1, 3, 4]]


async def test_what_is_ready_while_something_is_sent_goes_together() -> None:
    """Else a message that the peer is slow to take would cost each answer a message of its own."""
    served = _Served()
    served.ask(1, 2, 3, 4)
    await _turns()
    served.may_send.clear()
    for each in (4, 1, 3, 2):
        served.let_go(each)
        await _turns()
    assert served.sent == [[4]]
    served.may_send.set()
    served.messages.put_nowait(None)
    await served.task
    assert served.sent == [[4], [1, 3, 2]]


async def test_answers_that_are_large_together_go_one_after_the_other() -> None:
    """Else the values of a few large jobs, checked at the same time, would be more than gRPC lets through."""
    served = _Served()
    served.ask(1, 2, 3, 4, 5)
    await _turns()
    served.may_send.clear()
    served.let_go(1)
    await _turns()
    served.let_go(2, 3, bytes_each=400_000)
    served.let_go(4, 5, bytes_each=2_000_000)
    await _turns()
    served.may_send.set()
    served.messages.put_nowait(None)
    await served.task
    assert served.sent == [[1], [2, 3], [4], [5]]


async def test_a_message_of_too_many_requests_ends_the_stream() -> None:
    """Two million empty ones fit into 4 MiB, take 80 MiB of memory, and would keep the kernel busy for minutes."""
    served = _Served()
    served.ask(*range(1001))
    with pytest.raises(BadRequest, match="items has 1001 items, expected at most 1000"):
        await served.task
    assert not served.under_way


async def test_a_message_that_is_wrong_ends_the_stream_once_the_others_are_answered() -> None:
    """The error is the kernel's own, not a group of errors."""
    served = _Served()
    served.ask(1)
    served.messages.put_nowait(BadRequest("not a message", field="request"))
    await _turns()
    served.let_go(1)
    with pytest.raises(BadRequest):
        await served.task
    assert served.sent == [[1]]


async def test_a_stream_is_not_read_while_too_many_of_its_requests_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A caller that sends without end finds no room, and the kernel keeps its memory."""
    monkeypatch.setattr(numbered_exchanges, "_MOST", 3)
    served = _Served()
    served.ask(1, 2, 3)
    served.ask(4, 5)
    await _turns()
    assert sorted(served.under_way) == ["1", "2", "3"]
    served.let_go(2)
    await _turns()
    assert sorted(served.under_way) == ["1", "2", "3", "4"]
    served.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served.task
    assert served.under_way["1"].cancelled()


async def test_a_stream_whose_answers_are_not_taken_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that sends without end, and reads no answer, must not fill the kernel's memory with answers."""
    monkeypatch.setattr(numbered_exchanges, "_MOST", 3)
    served = _Served()
    served.may_send.clear()
    served.ask(1, 2, 3)
    served.ask(4, 5)
    await _turns()
    served.let_go(1, 2, 3)
    await _turns()
    assert sorted(served.under_way) == ["1", "2", "3"]
    served.may_send.set()
    await _turns()
    assert sorted(served.under_way) == ["1", "2", "3", "4", "5"]
    served.let_go(4, 5)
    served.messages.put_nowait(None)
    await served.task
    assert served.sent == [[1], [2, 3], [4], [5]]
