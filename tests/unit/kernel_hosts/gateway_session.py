"""A host that says what a test wants, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from rpc_world import RUN_ID, World

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import AttemptOrder, DispatchOrder
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_api.v1.sealing import seal

INCARNATION = "incarnation-1"


KEY = f"{RUN_ID}/step/1"


def hello(**fields: Any) -> gateway.AttachRequest:
    """Return a hello that is welcome, but for what the test changes."""
    told: dict[str, Any] = {
        "protocol_min": 1, "protocol_max": 1, "host": "team", "incarnation": INCARNATION, "max_async": 5,
    }  # fmt: skip
    return gateway.AttachRequest(hello=gateway.Hello(**{**told, **fields}))


class Session:
    """One Attach stream, a message at a time."""

    def __init__(self, world: World) -> None:
        self._queue: asyncio.Queue[gateway.AttachRequest | None] = asyncio.Queue()
        self.call = world.gateway.Attach(self._requests(), timeout=20)

    async def _requests(self) -> AsyncIterator[gateway.AttachRequest]:
        while (request := await self._queue.get()) is not None:
            yield request

    def say(self, request: gateway.AttachRequest | None) -> None:
        """Send a message; None ends the host's side."""
        self._queue.put_nowait(request)

    async def attach(self, **fields: Any) -> gateway.Welcome:
        """Say hello and return the welcome."""
        self.say(hello(**fields))
        message = await self.call.read()
        if message is grpc.aio.EOF:
            await self.call.wait_for_connection()
            raise AssertionError(await self.call.details())
        return message.welcome

    async def commands(self, count: int) -> list[list[gateway.Command]]:
        """Return batches until there are that many commands."""
        batches: list[list[gateway.Command]] = []
        while sum(map(len, batches)) < count:
            batches.append(list((await self.call.read()).commands.commands))
        return batches

    async def _read_to_the_end(self) -> None:
        while await self.call.read() is not grpc.aio.EOF:
            pass

    async def refusal(self) -> tuple[grpc.StatusCode, str, Mapping[str, str]]:
        """Return code, reason and data of the error that the stream ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._read_to_the_end()
        told = read_details(caught.value.trailing_metadata())
        return caught.value.code(), told.reason, told.metadata


def order(number: int, kwargs: bytes = b"") -> DispatchOrder:
    """Return an order to run an attempt."""
    key = f"{RUN_ID}/step/{number}"
    letter = AttemptOrder(
        attempt_key=key, run_id=RUN_ID, job_id="job", step="step", attempt=number, callable="m:f", kwargs_json=kwargs
    )
    return DispatchOrder(attempt_key=key, epoch=1, callable="m:f", order=seal(letter))
