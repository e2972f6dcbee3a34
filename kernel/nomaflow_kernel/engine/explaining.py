"""Explain why a QUEUED or RUNNING run is not progressing."""

from __future__ import annotations

from nomaflow_kernel.engine import starting, stepping
from nomaflow_kernel.engine.active import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.states import AttemptState

__all__ = ["holdup"]


def holdup(state: EngineState, run_id: str) -> Reason | None:
    """Return why a run is not progressing; None if it is over, its step's code is running, or nothing blocks it."""
    entry = state.waiting.get(run_id)
    if entry is not None:
        return starting.waiting_reason(state, entry)
    run = state.active.get(run_id)
    if run is None or run.current is None:
        return None
    if run.current.state is AttemptState.PENDING:
        return _pending(state, run, run.current)
    if run.current.child_run_id:
        return Reason(
            "waiting_for_call", f"{run.current.child_run_id} of job {run.current.step.target_job_id!r} has not ended"
        )
    return _silent_host(state, run.current)


def _pending(state: EngineState, run: ActiveRun, current: CurrentAttempt) -> Reason | None:
    left = (current.not_before_us - state.clock.now_us()) / 1_000_000
    if left > 0:
        return Reason("waiting_for_retry", f"the next attempt of step {current.step.name!r} starts in {left:.0f} s")
    return None if current.step.calls_job else stepping.waits(state, run.host)


def _silent_host(state: EngineState, current: CurrentAttempt) -> Reason | None:
    """Return the reason of an attempt whose state is unknown, because its host is silent.

    Another instance of the same host may be attached: it knows nothing of the attempt.
    """
    instance = state.fleet.get(current.incarnation)
    if instance is None or (instance.link is not None and not instance.unreachable):
        return None
    silent = state.clock.monotonic() - instance.last_heard
    return Reason(
        "host_silent",
        f"the process of host {current.host!r} that runs step {current.step.name!r} has been silent for"
        f" {silent:.0f} s; the step stays RUNNING until the process is back or its grace ends",
    )
