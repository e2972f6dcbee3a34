"""Requests that come to a door for strangers: how many of one caller come at once."""

from __future__ import annotations

import asyncio
from typing import Any

from rpc_world import World

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import Principal, PrincipalKind
from nomaflow_kernel.access.quotas import CallsAtOnce
from nomaflow_kernel.rpc.endpoints import Endpoints
from waiting import eventually


class _Call:
    """A call as gRPC hands it over: its request comes once it is let go."""

    def __init__(self) -> None:
        self.asked = False
        self.sent = asyncio.Event()

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def add_done_callback(self, _: object) -> None:
        """Call nothing: it is never over."""

    async def read(self) -> bytes:
        self.asked = True
        await self.sent.wait()
        return kernel.ListRunsRequest().SerializeToString()


async def test_eight_requests_of_a_caller_come_at_once(world: World) -> None:
    """Each may have 4 MiB. The others wait for those, in order, and not those of another caller."""

    async def answered(_: Any, _caller: Any) -> kernel.ListRunsResponse:
        return kernel.ListRunsResponse()

    names = iter(["ann"] * 20 + ["ben"])
    endpoints = Endpoints(
        identify=lambda *_: Principal(
            kind=PrincipalKind.USER, name=next(names), grants=(Grant.parse("read job:mine"),)
        ),
        guard=world.parts.guard,
        audit=world.parts.audit,
        on_error=lambda _: None,
        body_seconds=60,
        calls=CallsAtOnce(),
    )
    behaviour: Any = endpoints.unary("/nomaflow_api.v1.KernelService/ListRuns", answered, kernel.ListRunsRequest)
    calls = [_Call() for _ in range(21)]
    working = [asyncio.create_task(behaviour(None, call)) for call in calls]
    await eventually(lambda: calls[-1].asked)
    assert [call.asked for call in calls] == [True] * 8 + [False] * 12 + [True]
    calls[3].sent.set()
    await eventually(lambda: calls[8].asked)
    assert sum(call.asked for call in calls) == 10
    for call in calls:
        call.sent.set()
    await asyncio.gather(*working)
