"""The product as the peers meet it: default settings, its history in SQLite, and the same real step."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.figures import at_rank
from bench.peers.kept import Figures
from bench.peers.known import HERE
from bench.system import JOBS, System, job
from bench.throughput import batched, chain, one_at_a_time, unary
from nomaflow.client import KernelClient

__all__ = ["Product", "product"]

_REAL = job("real", "real_step").replace("work.steps:", "work.real:")


class Product:
    """A kernel and a host that are up."""

    def __init__(self, system: System, client: KernelClient) -> None:
        self._system, self._client = system, client

    async def take(self, measure: str, size: int) -> Figures:
        """Return the figures of one measure, in the units of :meth:`bench.peers.serving.Served.take`."""
        system, client = self._system, self._client
        if measure == "M1":
            return {"M1": await batched(system, client, runs=size)}
        if measure == "M1u":
            return {"M1u": await unary(system, client, runs=size)}
        if measure == "M2":
            took = await one_at_a_time(client, runs=size)
            return {"M2 p50": at_rank(took, 0.5), "M2 p99": at_rank(took, 0.99)}
        if measure == "M3":
            return {"M3": await chain(system, client)}
        return {"R": await batched(system, client, job_id="real", runs=size)}


@asynccontextmanager
async def product() -> AsyncIterator[Product]:
    """Start a kernel and a host."""
    with System(jobs=f"{JOBS}\n{_REAL}", settings=['pass_env = ["REAL_STEP_URL"]']) as system:
        code = system.root / "bench" / "plugins" / "work"
        code.mkdir(parents=True)
        shutil.copy(HERE / "programs" / "real_step.py", code / "real.py")
        system.start_kernel()
        system.start_host()
        async with system.client() as client:
            await system.until_attached(client)
            yield Product(system, client)
