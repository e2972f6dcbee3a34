"""The bare kernel and host as processes, and the measures taken of them."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from bench.system import PATIENCE, eventually
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1 import kernel_service_pb2_grpc

__all__ = ["BareSystem"]

_BATCH = 1_000
_CHECKOUT = Path(__file__).parents[2]


class BareSystem:
    """Both processes, a channel to the kernel, and a look into its store."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="noma-bare-"))
        self._address = f"unix:{self._root / 'bare.sock'}"
        self._processes: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._channel.close()
            self._look.close()
        finally:
            self._stop()

    async def _start(self) -> None:
        socket, database = self._root / "bare.sock", self._root / "bare.db"
        self._spawn("bench.bare.kernel", self._address, str(database))
        eventually(lambda: socket.exists() and database.exists())
        self._spawn("bench.bare.host", self._address)
        self._look = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
        self._channel = grpc.aio.insecure_channel(self._address)
        self._stub: Any = kernel_service_pb2_grpc.KernelServiceStub(self._channel)
        async with asyncio.timeout(PATIENCE):
            await self._channel.channel_ready()  # the socket is there a moment before anybody listens on it
        await self.batched(runs=200)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self._root)

    async def batched(self, *, runs: int = 2_000) -> float:
        """Return the runs a second of so many triggers in batches, until all are terminal in the store."""
        began = time.perf_counter()
        for first in range(0, runs, _BATCH):
            orders = [_order() for _ in range(min(_BATCH, runs - first))]
            await self._stub.TriggerRuns(service.TriggerRunsRequest(requests=orders), timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while self._look.execute("SELECT count(*) FROM runs WHERE state IN ('QUEUED', 'DISPATCHED')").fetchone()[0]:
                await asyncio.sleep(0.002)
        return runs / (time.perf_counter() - began)

    async def one_at_a_time(self, *, runs: int = 300) -> list[float]:
        """Return the milliseconds from each trigger to the news of its end, one run after another."""
        took = []
        events = self._stub.WatchEvents(service.WatchEventsRequest())
        try:
            await events.wait_for_connection()
            for _ in range(runs):
                began = time.perf_counter()
                run_id = (await self._stub.TriggerRun(_order(), timeout=PATIENCE)).run_id
                async with asyncio.timeout(PATIENCE):
                    while (await events.read()).events[0].run_id != run_id:
                        pass
                took.append((time.perf_counter() - began) * 1000)
        finally:
            events.cancel()
        return took

    def _spawn(self, *arguments: str) -> None:
        self._processes.append(subprocess.Popen([sys.executable, "-m", *arguments], cwd=_CHECKOUT))


def _order() -> service.TriggerRunRequest:
    return service.TriggerRunRequest(job_id="one", request_id=uuid.uuid4().hex, by="bench")
