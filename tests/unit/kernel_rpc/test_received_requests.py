"""The most that one caller may have in the kernel at once: requests that come, those that wait, and answers to them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message
from rpc_world import World

from nomaflow_api.v1 import event_pb2
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access import quotas
from nomaflow_kernel.access.doors import Identify
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import ANYONE, OWNER, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import CallsAtOnce
from nomaflow_kernel.rpc.endpoints import Endpoints
from nomaflow_kernel.rpc.numbered_exchanges import ManyCalls
from waiting import eventually


class _Call:
    """A call as gRPC hands it over: its request comes once it is let go."""

    def __init__(self, request: Message) -> None:
        self.asked = self.written = False
        self.sent, self.taken = asyncio.Event(), asyncio.Event()
        self.ends: list[Callable[[object], None]] = []
        self.refused: list[Any] = []
        self._request = request.SerializeToString()

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self.ends.append(callback)

    def take_answer(self) -> None:
        """Be over."""
        for end in self.ends:
            end(self)

    async def read(self) -> bytes:
        self.asked = True
        await self.sent.wait()
        self.sent.clear()
        return self._request

    async def write(self, _: bytes) -> None:
        """Return once the message is taken."""
        self.written = True
        await self.taken.wait()

    async def abort(self, *status: Any) -> None:
        self.refused += status
        raise grpc.aio.AbortError


def _endpoints(world: World, identify: Identify, **limits: Any) -> Endpoints:
    return Endpoints(
        identify=identify,
        guard=world.parts.guard,
        audit=world.parts.audit,
        on_error=lambda _: None,
        body_seconds=60,
        **limits,
    )


async def test_eight_requests_of_a_caller_come_at_once(world: World) -> None:
    """Each may have 4 MiB. The others wait for those, in order, and not those of another caller."""

    async def answered(_: Any, _caller: Any) -> kernel.ListRunsResponse:
        return kernel.ListRunsResponse()

    names = itertools.chain(["ann"] * 20, ["ben"], itertools.repeat("ann"))
    granted = (Grant.parse("read job:mine"),)
    endpoints = _endpoints(
        world, lambda *_: Principal(kind=PrincipalKind.USER, name=next(names), grants=granted), calls=CallsAtOnce()
    )
    behaviour: Any = endpoints.unary("/nomaflow_api.v1.KernelService/ListRuns", answered, kernel.ListRunsRequest)
    calls = [_Call(kernel.ListRunsRequest()) for _ in range(21)]
    working = [asyncio.create_task(behaviour(None, call)) for call in calls]
    await eventually(lambda: calls[-1].asked)
    assert [call.asked for call in calls] == [True] * 8 + [False] * 12 + [True]
    calls[3].sent.set()
    await eventually(lambda: calls[8].asked)
    assert sum(call.asked for call in calls) == 10
    for call in calls:
        call.sent.set()
    await asyncio.gather(*working)


async def test_a_credential_that_is_withdrawn_while_a_call_waits_for_its_turn_ends_that_call(world: World) -> None:
    """Else a few hundred calls before it, each without a request, would keep it good for minutes."""
    served: list[Any] = []

    async def answered(request: Any, _caller: Any) -> kernel.ListRunsResponse:
        served.append(request)
        return kernel.ListRunsResponse()

    known = Principal(kind=PrincipalKind.USER, name="ann", grants=(Grant.parse("read job:mine"),))
    good = [known]
    endpoints = _endpoints(world, lambda *_: good[-1], calls=CallsAtOnce())
    behaviour: Any = endpoints.unary("/nomaflow_api.v1.KernelService/ListRuns", answered, kernel.ListRunsRequest)
    calls = [_Call(kernel.ListRunsRequest()) for _ in range(9)]
    working = [asyncio.create_task(behaviour(None, call)) for call in calls]
    await eventually(lambda: all(call.asked for call in calls[:8]))
    good.append(ANYONE)
    for call in calls:
        call.sent.set()
    await asyncio.wait(working)
    assert len(served) == 8
    assert calls[8].refused[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_report_is_refused_while_too_much_of_its_host_has_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends with that. The one that has no answer yet is not disturbed, and makes room once it has."""
    monkeypatch.setattr(quotas, "_HOST_REPORTS", 1500)
    answer = asyncio.Event()

    async def answered(_: Any, _caller: Any) -> gateway.StreamReportsResponse:
        await answer.wait()
        return gateway.StreamReportsResponse()

    host = Principal(kind=PrincipalKind.HOST, name="team")
    path = "/nomaflow_api.v1.HostGatewayService/StreamReports"
    behaviour: Any = _endpoints(world, lambda *_: host).one_way(path, answered, gateway.StreamReportsRequest)
    first, second = (_Call(gateway.StreamReportsRequest(attempts=b"x" * 1000)) for _ in range(2))
    first.sent.set()
    working = asyncio.create_task(behaviour(None, first))
    await eventually(lambda: world.parts.quotas._reports)
    second.sent.set()
    with pytest.raises(grpc.aio.AbortError):
        await behaviour(None, second)
    assert second.refused[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "host:team has 1,500 bytes of reports without an answer" in second.refused[1]
    answer.set()
    await eventually(lambda: not world.parts.quotas._reports)
    working.cancel()
    await asyncio.wait((working,))


async def test_answers_that_a_caller_does_not_take_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large is refused until those before are taken; a small one never is: its call may have changed something."""
    monkeypatch.setattr(quotas, "_MOST_UNTAKEN", 1500)
    monkeypatch.setattr(quotas, "_SMALL", 100)
    sizes = [1000, 1000, 50, 1000]

    async def answered(_: Any, _caller: Any) -> kernel.ListRunsResponse:
        return kernel.ListRunsResponse(next_page_token="x" * sizes.pop(0))

    ann = Principal(kind=PrincipalKind.USER, name="ann", grants=(Grant.parse("read job:mine"),))
    endpoints = _endpoints(world, lambda *_: ann, calls=CallsAtOnce())
    behaviour: Any = endpoints.unary("/nomaflow_api.v1.KernelService/ListRuns", answered, kernel.ListRunsRequest)
    first, refused, small, last = calls = [_Call(kernel.ListRunsRequest()) for _ in range(4)]
    for call in calls:
        call.sent.set()
    assert len(await behaviour(None, first)) > 1000
    with pytest.raises(grpc.aio.AbortError):
        await behaviour(None, refused)
    assert refused.refused[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ann leaves answers of more than 1,500 bytes untaken" in refused.refused[1]
    assert len(await behaviour(None, small)) > 50
    first.take_answer()
    assert len(await behaviour(None, last)) > 1000


async def test_messages_of_streams_that_a_caller_does_not_take_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty watches of a run with large results would each hold them, whether they are read or not."""
    monkeypatch.setattr(quotas, "_MOST_UNTAKEN", 1500)
    monkeypatch.setattr(quotas, "_SMALL", 100)

    async def told(_: Any, _caller: Any) -> AsyncIterator[kernel.WatchEventsResponse]:
        yield kernel.WatchEventsResponse(events=[event_pb2.Event(kind="x" * 1000)])

    ann = Principal(kind=PrincipalKind.USER, name="ann", grants=(Grant.parse("read job:mine"),))
    endpoints = _endpoints(world, lambda *_: ann, calls=CallsAtOnce())
    path = "/nomaflow_api.v1.KernelService/WatchEvents"
    behaviour: Any = endpoints.stream(path, told, kernel.WatchEventsRequest, many=False)
    first, refused, last = calls = [_Call(kernel.WatchEventsRequest()) for _ in range(3)]
    for call in calls:
        call.sent.set()
    watching = asyncio.create_task(behaviour(None, first))
    await eventually(lambda: first.written)
    refused.taken.set()
    with pytest.raises(grpc.aio.AbortError):
        await behaviour(None, refused)
    assert "ann leaves answers of more than 1,500 bytes untaken" in refused.refused[1]
    first.taken.set()
    await watching
    last.taken.set()
    await behaviour(None, last)


@pytest.mark.parametrize("method", ["StreamReports", "StreamTriggers"])
async def test_a_call_that_is_given_up_keeps_nothing_of_its_request(world: World, method: str) -> None:
    """A circle would keep it until garbage is collected, which is rare: a host could fill gigabytes that way."""
    kept: list[weakref.ref[Any]] = []

    async def answered(*_: Any) -> Any:
        of_request = asyncio.Event()  # stands for the request, to which there is no weak reference
        kept.append(weakref.ref(of_request))
        await of_request.wait()

    endpoints = _endpoints(world, lambda *_: OWNER)
    if method == "StreamReports":
        path = "/nomaflow_api.v1.HostGatewayService/StreamReports"
        behaviour: Any = endpoints.one_way(path, answered, gateway.StreamReportsRequest)
        call = _Call(gateway.StreamReportsRequest())
    else:
        messages = kernel.DESCRIPTOR.services_by_name["KernelService"].methods_by_name[method]
        unary, of_many = "/nomaflow_api.v1.KernelService/TriggerRun", ManyCalls(answered, lambda _: True)
        behaviour = endpoints.numbered(f"/nomaflow_api.v1.KernelService/{method}", unary, of_many, messages)
        call = _Call(kernel.StreamTriggersRequest(items=[{"number": 1}]))
    call.sent.set()
    gc.collect()
    gc.disable()
    try:
        working = asyncio.create_task(behaviour(None, call))
        await eventually(lambda: kept)
        working.cancel()
        await asyncio.wait((working,))
        del working
        await asyncio.sleep(0)  # the loop lets go of it
        assert not any(each() for each in kept)
    finally:
        gc.enable()
