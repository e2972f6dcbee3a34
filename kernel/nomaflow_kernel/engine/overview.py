"""The engine's contents in numbers, for dumps and metrics: counts of everything, and a few of the oldest runs."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping

from msgspec import Struct

from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.lookups import RunCount
from nomaflow_kernel.history.states import RunState


class EngineOverview(Struct, frozen=True, kw_only=True):
    """Counts of the engine's contents.

    :param attempts: state → current attempts
    :param queued: host → runs waiting for it; ``*`` for runs that need no host
    :param next_timer_seconds: seconds until the earliest timer is due; None without one
    :param turns: inputs that wait for the engine's loop
    """

    running: int
    attempts: Mapping[str, int]
    queued: Mapping[str, int]
    instances: tuple[Instance, ...]
    timers: int
    next_timer_seconds: float | None
    pauses: int
    turns: int
    rebuilt: int


def engine_overview(state: EngineState, *, turns: int) -> EngineOverview:
    """Return counts of an engine's contents. It iterates over the RUNNING runs, but not over the QUEUED ones."""
    due = state.timers.next_due()
    return EngineOverview(
        running=len(state.active),
        attempts=Counter(str(run.current.state) for run in state.active.values() if run.current is not None),
        queued={host: state.waiting.count_of_host(host) for host in state.waiting.hosts()},
        instances=tuple(instance for instance in state.fleet if instance.introduced),
        timers=len(state.timers),
        next_timer_seconds=None if due is None else due - state.clock.monotonic(),
        pauses=len(state.pauses),
        turns=turns,
        rebuilt=state.rebuilt,
    )


def oldest_running(state: EngineState, limit: int) -> list[ActiveRun]:
    """Return the runs that have been RUNNING longest, oldest first."""
    return heapq.nsmallest(limit, state.active.values(), key=lambda run: run.started_at_us)


def count_open_runs(state: EngineState) -> Iterator[RunCount]:
    """Yield the number of QUEUED runs by job, host and trigger kind, and each RUNNING run with its rows so far."""
    for (job_id, host, kind), count in state.waiting.counts().items():
        yield RunCount(
            state=RunState.QUEUED,
            runs=count,
            fires=count,
            rows_affected=0,
            job_id=job_id,
            host=host,
            trigger_kind=kind.value,
        )
    for run in state.active.values():
        yield RunCount(
            state=RunState.RUNNING,
            runs=1,
            fires=1,
            rows_affected=run.rows_affected or 0,
            job_id=run.job_id,
            host=run.host,
            trigger_kind=run.record.trigger.kind.value,
        )
