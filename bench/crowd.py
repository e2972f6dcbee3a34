"""A kernel with a thousand instances, a hundred thousand jobs and a hundred thousand queued runs.

Ten instances are real hosts of one name; the others are played by one process that speaks the protocol, see
``tests/host_crowd.py``. It shares the processor with the kernel, so the seconds are those of both; what only the kernel
takes is beside them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import at_rank
from bench.growth import Row, measured
from bench.idle import cpu_seconds, pss_mib
from bench.system import System
from bench.throughput import BATCH, batched, one_at_a_time
from nomaflow.client import KernelClient, TriggerOrder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crowd_plan import Plan
from crowd_process import CrowdProcess

__all__ = ["INSTANCES", "Size", "crowd", "crowded", "with_instances"]

INSTANCES = (10, 100, 1_000)
_IDLE_SECONDS = 20.0
_SETTLE_SECONDS = 6.0  # each instance has sent a heartbeat since
_PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Size of the measure.

    :param real: instances that are real hosts, of a host of their own
    :param jobs: of each played host
    """

    hosts: int = 99
    instances: int = 10
    real: int = 10
    jobs: int = 1_010
    queued: int = 100_000


class Crowded:
    """A system with its crowd, and the figures taken of it so far."""

    def __init__(self, system: System, client: KernelClient, crowd: CrowdProcess) -> None:
        self.system, self.client, self.crowd = system, client, crowd
        self.found: dict[str, list[float]] = {}

    @property
    def kernel(self) -> int:
        """The kernel's process id."""
        return self.system.processes["kernel"].pid

    def note(self, name: str, value: float) -> None:
        """Keep a figure, and show it: there are minutes between two of them."""
        self.found[name] = [value]
        print(f"{name} {value:.3f}", flush=True)

    async def until_attached(self, sessions: int) -> None:
        """Wait until every instance is attached and has been welcomed so often."""
        await asyncio.to_thread(self.crowd.until_attached, sessions=sessions, seconds=_PATIENCE)

    async def runs(self, name: str) -> None:
        """Measure M1 and M2 on the real instances."""
        await batched(self.system, self.client)
        rates = [await batched(self.system, self.client) for _ in range(3)]
        took = await one_at_a_time(self.client, runs=300)
        self.note(f"{name} M1", sorted(rates)[1])
        self.note(f"{name} M2 p50", at_rank(took, 0.5))
        self.note(f"{name} M2 p99", at_rank(took, 0.99))

    async def idle(self) -> None:
        """Measure what attached instances cost while nothing happens."""
        await asyncio.sleep(_SETTLE_SECONDS)
        before = cpu_seconds(self.kernel)
        await asyncio.sleep(_IDLE_SECONDS)
        self.note("S idle CPU", 100 * (cpu_seconds(self.kernel) - before) / _IDLE_SECONDS)
        self.note("S PSS", pss_mib(self.kernel))

    async def reload(self) -> None:
        """Measure the reload of a host, of which one job has changed."""
        before, began = cpu_seconds(self.kernel), time.perf_counter()
        await self.client.reload_host(self.crowd.plan.host_names()[0])
        self.note("S reload", time.perf_counter() - began)
        self.note("S reload CPU", cpu_seconds(self.kernel) - before)

    async def queue(self, runs: int) -> None:
        """Queue runs over all jobs, while every step of the crowd goes on."""
        await asyncio.to_thread(self.crowd.ask, "hold")
        job_ids = self.crowd.job_ids()
        began = time.perf_counter()
        for first in range(0, runs, BATCH):
            numbers = range(first, min(first + BATCH, runs))
            await self.client.trigger_many([TriggerOrder(job_id=job_ids[n % len(job_ids)]) for n in numbers])
        self.note("S queued", runs / (time.perf_counter() - began))
        self.note("S queued PSS", pss_mib(self.kernel))

    async def storm(self) -> None:
        """Kill the kernel, start it, and wait until everybody is back."""
        sessions = int(self.crowd.ask()["sessions"])
        process = self.system.processes["kernel"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.perf_counter()
        await asyncio.to_thread(self.system.start_kernel)
        self.note("S serving", time.perf_counter() - began)
        await self.until_attached(sessions + self.crowd.count)
        self.note("S back", time.perf_counter() - began)
        self.note("S back CPU", cpu_seconds(self.kernel))

    async def drain(self, runs: int) -> None:
        """Let all steps end and all queued runs run; each was started once and has succeeded."""
        before, began = cpu_seconds(self.kernel), time.perf_counter()
        await asyncio.to_thread(self.crowd.ask, "release")
        async with asyncio.timeout(_PATIENCE):
            while (told := await asyncio.to_thread(self.crowd.ask))["finished"] < runs:
                await asyncio.sleep(0.2)
        self.note("S drained", runs / (time.perf_counter() - began))
        self.note("S drained CPU", (cpu_seconds(self.kernel) - before) / runs * 1e6)
        assert (told["accepted"], told["twice"], told["refused"], told["killed"]) == (runs, 0, {}, 0), told
        with self.system.look() as look:
            states = look.rows("SELECT state, count(*) FROM runs WHERE job_id LIKE 'team%' GROUP BY state")
        assert states == [("SUCCEEDED", runs)], states


@asynccontextmanager
async def crowded(size: Size, *, store: str = "") -> AsyncIterator[Crowded]:
    """Start a kernel and the real instances, and then the crowd, which begins to attach."""
    with System(settings=("shared_workers = 1",), store=store) as system:
        system.start_kernel()
        for number in range(size.real):
            system.start_host(state=f"real{number}")
        async with system.client() as client:
            await system.until_attached(client, instances=size.real)
            plan = Plan(addresses=system.address, hosts=size.hosts, instances=size.instances, jobs=size.jobs)
            with CrowdProcess(plan, folder=system.root) as played:
                yield Crowded(system, client, played)


async def crowd(_: int, size: Size = Size()) -> dict[str, list[float]]:  # frozen
    """Measure a full kernel, once: it takes ten minutes."""
    async with crowded(size) as full:
        before, began = cpu_seconds(full.kernel), time.perf_counter()
        await full.until_attached(full.crowd.count)
        full.note("S attached", time.perf_counter() - began)
        full.note("S attached CPU", cpu_seconds(full.kernel) - before)
        await full.idle()
        await full.runs("S")
        await full.reload()
        await full.queue(size.queued)
        await full.runs("S queued")
        await full.storm()
        await full.drain(size.queued)
        return full.found


async def with_instances(counts: Sequence[int] = INSTANCES) -> list[Row]:
    """Measure with so many instances attached, one of which is real and has the jobs that run; ten make a host."""
    rows = []
    for count in counts:
        size = Size(hosts=max(1, count // 10), instances=min(10, count), real=1, jobs=10)
        async with crowded(size) as full:
            await full.until_attached(full.crowd.count)
            rows.append(await measured(full.system, full.client, count))
    return rows
