"""The task that introduces a host's code to the kernel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc.aio

from nomaflow_host.session.facts import HostIdentity
from nomaflow_host.session.introducing import Introducer
from waiting import PATIENCE


@dataclass(eq=False)
class Generation:
    """The part of a generation that is introduced."""

    digest: str
    body: bytes = b"{}"
    loaded_at_us: int = 1
    explicit: bool = False


class Refusing:
    """A kernel that accepts no manifest for now."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def introduce(self, _request: object, *, timeout: float) -> Any:
        self.asked.set()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


class Loading:
    """A runner that serves one generation, and then a second."""

    def __init__(self) -> None:
        self.serving = Generation("first")
        self._loaded = asyncio.Event()

    async def another(self, than: object) -> Generation:
        while self.serving is than:
            await self._loaded.wait()
        return self.serving

    def load(self) -> None:
        self.serving = Generation("second")
        loaded, self._loaded = self._loaded, asyncio.Event()
        loaded.set()


async def test_a_session_that_ends_just_as_code_is_loaded_ends_its_introducing() -> None:
    """The introducing went on after its session, which never ended, so that the host never came back."""
    identity = HostIdentity(host="demo", incarnation="one", machine="here", pid=1, version="0", max_async=1, max_sync=1)
    for turns in range(6):
        runner, kernel = Loading(), Refusing()
        introducer = Introducer(runner=runner, identity=identity)  # type: ignore[arg-type]  # the parts that it uses
        running = asyncio.create_task(introducer.run(kernel, on_verdict=lambda: None))  # type: ignore[arg-type]
        await asyncio.wait_for(kernel.asked.wait(), PATIENCE)
        await asyncio.sleep(0)
        runner.load()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=PATIENCE / 10)
        running.cancel()
        assert done, turns
