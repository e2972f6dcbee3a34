"""The dump of a kernel's state stays small, whatever the kernel holds."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.engine.demand import Demand
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.engine.overview import engine_overview, oldest_running
from nomaflow_kernel.engine.state import EngineSettings, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.observing.metrics import KERNEL_METRICS, KernelMetrics
from nomaflow_kernel.observing.state_dump import CommitLog, kernel_state
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_project.jobs.resources import Resources

RUNS, HOSTS = 100_000, 1_000


def crowded(runs: int) -> EngineState:
    """Return the memory of an engine with some runs that wait for a thousand hosts."""
    state = EngineState(
        settings=EngineSettings(),
        clock=SystemClock(),
        jobs=cast("Any", None),
        epoch=1,
        ids=RunIds(now_ms=lambda: 0),
        rng=random.Random(1),
    )
    for number in range(runs):
        host = f"host-{number % HOSTS}"
        state.waiting.add(QueuedRun(run_id=f"run_{number}", job_id="j", host=host, priority=0, queued_at_us=number))
        state.timers.put((TimerKind.QUEUE_TIMEOUT, f"run_{number}"), float(number))
    for number in range(HOSTS):
        hello = InstanceHello(
            host=f"host-{number}", incarnation=f"i-{number}", machine="m", pid=1, version="0",
            max_async=1, max_sync=1,
        )  # fmt: skip
        state.fleet.add(Instance(hello=hello, attached_at_us=1))
    return state


def _view(state: EngineState, demand: Sequence[Demand] = ()) -> KernelParts:
    view: Any = SimpleNamespace(
        info=StoreInfo(kind="sqlite", epoch=7, last_event_seq=0),
        store=SimpleNamespace(waiting=2),
        engine=SimpleNamespace(
            overview=lambda: engine_overview(state, turns=3),
            oldest_running=lambda limit: oldest_running(state, limit),
            demand=lambda: demand,
        ),
        scheduler=_Schedules(),
        sessions=SessionRegistry(),
        feed=EventFeed(0),
        audit=AuditLog(store=None, clock=SystemClock()),
    )
    return cast("KernelParts", view)


async def test_a_dump_is_bounded_with_100000_runs_waiting() -> None:
    """Counts are right, lists are cut, and the loop is held for a moment only."""
    view = _view(crowded(RUNS))
    waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3_000)]
    await asyncio.sleep(0)
    began = time.process_time()
    told = kernel_state(view, commits=CommitLog())
    took = time.process_time() - began
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert told["runs"] == {"QUEUED": RUNS, "RUNNING": 0}
    assert told["timers"]["count"] == RUNS
    assert told["instances"] == HOSTS
    assert told["engine"]["turns_waiting"] == 3
    assert told["store"]["waiting"] == 2
    assert (len(told["queues"]), len(told["hosts"])) == (100, 100)
    assert told["tasks"] > 3_000
    assert max(each["count"] for each in told["stacks"]) > 1_000, "tasks at one place are one entry"
    assert len(json.dumps(told)) < 256 * 1024
    assert took < 2


async def test_attempts_that_want_an_instance_of_their_own_scale_no_host() -> None:
    """An autoscaler of a whole host would add replicas for them for ever, and none of these could take them."""
    needs = Resources()
    wanted = [
        Demand(host="host-1", needs=needs, attempts=3, since_us=1),
        Demand(host="host-1", needs=Resources(gpus=1), attempts=1, since_us=1),
        Demand(host="host-1", needs=needs, attempts=1, since_us=1, attempt_key="run/fit/1"),
        Demand(host="host-2", needs=needs, attempts=1, since_us=1, attempt_key="run/fit/2"),
    ]
    told = KernelMetrics().reading(_view(crowded(10), wanted))["nomaflow_attempts_waiting"]
    assert (told[("host-1",)], told[("host-2",)]) == (4, 0)


async def test_a_kernel_that_stands_by_tells_that_too() -> None:
    """A standby has every metric and a state; metrics of a leader have no value."""
    told = kernel_state(None, commits=CommitLog())
    assert (told["part"], told["leader"]) == ("kernel", False)
    reading = KernelMetrics().reading(None)
    assert set(reading) == {metric.name for metric in KERNEL_METRICS}
    assert reading["nomaflow_leader"] == {(): 0}
    assert reading["nomaflow_runs"] == {}


class _Schedules:
    """A scheduler without schedules."""

    def __len__(self) -> int:
        return 0

    def next_due_us(self) -> int | None:
        return None
