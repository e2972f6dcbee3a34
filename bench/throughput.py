"""M1, M1u, M2, M3, M6: how many runs and steps a second, and how long one run takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.system import PATIENCE, Look, System
from nomaflow.client import KernelClient, TriggerOrder
from nomaflow.client.values import EventView, Triggered

__all__ = ["BATCH", "STEPS", "batched", "chain", "check_complete", "one_at_a_time", "unary", "until_over"]

BATCH = 1_000
STEPS = 200
_OPEN = "SELECT count(*) FROM runs WHERE state IN ('QUEUED', 'RUNNING') AND run_id >= '{}'"


async def until_over(look: Look, first: str = "") -> None:
    """Wait until no run is open in the store, of those since a first one."""
    async with asyncio.timeout(PATIENCE):
        while look.rows(_OPEN.format(first))[0][0]:
            await asyncio.sleep(0.005)


async def _trigger_all(client: KernelClient, job_id: str, runs: int) -> list[str]:
    found: list[str] = []
    for first in range(0, runs, BATCH):
        orders = [TriggerOrder(job_id=job_id) for _ in range(min(BATCH, runs - first))]
        answers = await client.trigger_many(orders)
        found += [answer.run_id for answer in answers if isinstance(answer, Triggered)]
    assert len(found) == runs, f"{len(found)} of {runs} triggers accepted"
    return found


async def batched(system: System, client: KernelClient, *, job_id: str = "one", runs: int = 2_000) -> float:
    """Return the runs a second of so many triggers in batches, until all are terminal in the store."""
    with system.look() as look:
        began = time.perf_counter()
        run_ids = await _trigger_all(client, job_id, runs)
        await until_over(look, min(run_ids))
        took = time.perf_counter() - began
        check_complete(look, run_ids, steps=1)
    return runs / took


async def unary(
    system: System, client: KernelClient, *, runs: int = 2_000, at_once: int = 64, in_calls: bool = False
) -> float:
    """Return the runs a second where every run is triggered on its own, 64 under way at once.

    :param in_calls: whether each trigger is a gRPC call, also where the client has a stream for them
    """
    left = iter(range(runs))
    run_ids: list[str] = []

    async def started() -> str:
        if not in_calls:
            return (await client.trigger("one")).run_id
        (answer,) = await client.trigger_many([TriggerOrder(job_id="one")])
        assert isinstance(answer, Triggered), answer
        return answer.run_id

    async def caller() -> None:
        run_ids.extend([await started() for _ in left])

    with system.look() as look:
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        await until_over(look, min(run_ids))
        took = time.perf_counter() - began
        check_complete(look, run_ids, steps=1)
    return runs / took


async def chain(system: System, client: KernelClient) -> float:
    """Return the steps a second of one run of 200 steps, until it is terminal in the store."""
    with system.look() as look:
        began = time.perf_counter()
        run_id = (await client.trigger("chain")).run_id
        await until_over(look, run_id)
        took = time.perf_counter() - began
        check_complete(look, [run_id], steps=STEPS)
    return STEPS / took


async def one_at_a_time(client: KernelClient, *, runs: int = 1_000, job_id: str = "one") -> list[float]:
    """Return the milliseconds from each trigger call to the terminal event at that client, one run after another."""
    took: list[float] = []
    over: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
    after = (await client.get_kernel()).last_event_seq

    async def watch() -> None:
        async for event in client.watch_events(after_seq=after, kinds=["run.finished"]):
            assert isinstance(event, EventView)
            over.put_nowait((event.run_id, time.perf_counter()))

    watching = asyncio.create_task(watch())
    try:
        for _ in range(runs):
            began = time.perf_counter()
            run_id = (await client.trigger(job_id)).run_id
            async with asyncio.timeout(PATIENCE):
                finished, at = await over.get()
            assert finished == run_id
            took.append((at - began) * 1000)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return took


def check_complete(look: Look, run_ids: Sequence[str], *, steps: int) -> None:
    """Check that every run succeeded and that its attempts and its events are all in the store."""
    first, last = min(run_ids), max(run_ids)
    span = f"run_id BETWEEN '{first}' AND '{last}'"  # ids of our own runs
    runs = look.rows(f"SELECT state, count(*) FROM runs WHERE {span} GROUP BY state")
    assert runs == [("SUCCEEDED", len(run_ids))], runs
    attempts = look.rows(f"SELECT state, count(*) FROM attempts WHERE {span} GROUP BY state")
    assert attempts == [("SUCCEEDED", len(run_ids) * steps)], attempts
    kinds = dict(look.rows(f"SELECT kind, count(*) FROM events WHERE {span} GROUP BY kind"))
    expected = {"run.queued": 1, "run.started": 1, "run.finished": 1}
    expected |= {f"attempt.{name}": steps for name in ("dispatched", "started", "finished")}
    for kind, each in expected.items():
        assert kinds.get(kind) == each * len(run_ids), kinds
