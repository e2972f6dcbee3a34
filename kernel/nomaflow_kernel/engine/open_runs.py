"""Counts of the open runs, from the engine's memory."""

from __future__ import annotations

from collections.abc import Iterator

from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.lookups import RunCount
from nomaflow_kernel.history.states import RunState

__all__ = ["count_open_runs"]


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
