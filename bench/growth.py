"""Measures M1, M2 and memory as the queue, the history and the number of attached hosts grow."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.figures import at_rank
from bench.history import copies
from bench.idle import cpu_seconds, pss_mib
from bench.system import System, job
from bench.throughput import BATCH, batched, one_at_a_time, until_over
from nomaflow.client import KernelClient, TriggerOrder

__all__ = ["HISTORY", "HOSTS", "QUEUED", "Row", "measured", "with_history", "with_hosts", "with_queue"]

Row = dict[str, float]

QUEUED = (0, 1_000, 10_000, 100_000)
HISTORY = (0, 1_000, 10_000, 100_000, 1_000_000)
HOSTS = (1, 10, 100)
_ROUNDS = 3
_RUNS = 2_000
_STARTED_TOGETHER = 5


async def measured(system: System, client: KernelClient, x: int) -> Row:
    """Return M1, M2, and what the kernel takes, where there are so many of what grows."""
    await batched(system, client)
    pid = system.processes["kernel"].pid
    before = cpu_seconds(pid)
    rates = [await batched(system, client, runs=_RUNS) for _ in range(_ROUNDS)]
    cpu_us = (cpu_seconds(pid) - before) / (_ROUNDS * _RUNS) * 1e6
    took = await one_at_a_time(client, runs=300)
    row = {
        "runs_a_second": statistics.median(rates),
        "p50_ms": at_rank(took, 0.5),
        "p99_ms": at_rank(took, 0.99),
        "kernel_cpu_us": cpu_us,
        "kernel_mib": pss_mib(pid),
    }
    return {"x": x, **{name: round(value, 3) for name, value in row.items()}}


async def with_queue(counts: Sequence[int] = QUEUED) -> list[Row]:
    """Measure while so many runs wait for a host that is away."""
    rows = []
    with System() as system:
        system.start_kernel()
        system.start_host("away", jobs=job("later", "nothing"))
        system.start_host()
        async with system.client() as client:
            await system.until_attached(client, hosts=2)
            system.stop("away")
            queued = 0
            for count in counts:
                while queued < count:
                    more = min(BATCH, count - queued)
                    await client.trigger_many([TriggerOrder(job_id="later")] * more)
                    queued += more
                rows.append(await measured(system, client, count))
    return rows


async def with_history(counts: Sequence[int] = HISTORY) -> list[Row]:
    """Measure with so many finished runs in the store."""
    rows = []
    for count in counts:
        with System() as system:
            system.start_kernel()
            system.start_host()
            async with system.client() as client:
                await system.until_attached(client)
                run_id = (await client.trigger("one")).run_id
                with system.look() as look:
                    await until_over(look)
            if count:
                system.stop("kernel")
                copies(system.database, run_id=run_id, count=count)
                system.start_kernel()
            async with system.client() as client:
                await system.until_attached(client)
                rows.append(await measured(system, client, count))
    return rows


async def with_hosts(counts: Sequence[int] = HOSTS) -> list[Row]:
    """Measure with so many hosts attached, one of which has the jobs that run."""
    rows = []
    with System(settings=("shared_workers = 1",)) as system:
        system.start_kernel()
        system.start_host()
        async with system.client() as client:
            attached = 1
            for count in counts:
                while attached < count:
                    more = min(_STARTED_TOGETHER, count - attached)
                    for number in range(attached, attached + more):
                        system.start_host(f"team{number:03d}", jobs=job(f"job{number:03d}", "nothing"))
                    attached += more
                    await system.until_attached(client, hosts=attached)
                await system.until_attached(client, hosts=attached)
                rows.append(await measured(system, client, count))
    return rows
