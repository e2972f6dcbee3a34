"""Stopping runs: on request, at a time limit, and those that no host would run now."""

from __future__ import annotations

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.engine import stepping
from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.orders import cancel_order
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import NO_HOST, CancelRequest, QueuedRun
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import FinishRun, RequestCancel, end_data

_LOOK_AGAIN_SECONDS = 1.0
"""Seconds between checks of a run whose time is up while its host, which enforces the limit, has not reported it."""
_AWAY_SECONDS = 60.0
"""Seconds after which a host that is away is no longer expected by the runs of jobs that have moved."""


def request_cancel(state: EngineState, batch: Batch, run_id: str, cancel: CancelRequest) -> bool:
    """Request that a run stops; return False if it is not waiting or running.

    A waiting run ends at once. A run whose code runs ends when the host has proved that the code stopped. A second
    request changes nothing. The runs that it has called are stopped likewise, one after the other: there may be many.
    """
    found = run_id in state.waiting or run_id in state.active
    while called := _cancel_one(state, batch, run_id, cancel):
        cancel = _of_parent(batch, by=cancel.by, why=f"run {run_id} that called it was canceled")
        run_id = called
    return found


def _cancel_one(state: EngineState, batch: Batch, run_id: str, cancel: CancelRequest) -> str:
    """Cancel a run; return the run that it has called and waits for, which has to be stopped first, or empty."""
    waiting, run = state.waiting.get(run_id), state.active.get(run_id)
    if waiting is not None:
        batch.add(RequestCancel(run_id=run_id, job_id=waiting.job_id, cancel=cancel))
        _end_waiting(state, batch, waiting, RunState.CANCELED, stepping.cancel_reason(cancel))
    elif run is not None and run.cancel is None:
        run.cancel = cancel
        batch.add(RequestCancel(run_id=run_id, job_id=run.job_id, cancel=cancel))
        return _stop_attempt(state, batch, run, cancel)
    return ""


def end_unaccepted(state: EngineState, batch: Batch) -> None:
    """Fail the waiting runs of jobs that the host to run them no longer accepts."""
    for job in state.jobs.unaccepted():
        for waiting in state.waiting.of_job(job.job_id):
            if waiting.job_host == job.host:
                _end_waiting(state, batch, waiting, RunState.FAILED, Reason("job_disabled", job.why_not_valid))


def end_stranded(state: EngineState, batch: Batch, host: str) -> None:
    """Cancel the runs that wait for a host that stays away for a minute, if their jobs now name another host.

    A misspelt ``host`` that was corrected leaves such runs: nothing would ever start them, and they hold up their job.
    A host that is away for less may only be starting anew, or not have come back yet to a kernel that has just started.
    A host that a launcher starts is not away: the run that waits makes it start an instance, which may take hours.
    Called when a host has left, at the kernel's start, and after a change of the catalogue; where the minute is not
    over, a timer calls it then.
    """
    absent = state.fleet.absent_since(host)
    if host == NO_HOST or absent is None or not state.waiting.count_of_host(host):
        return
    # not by the wall clock, which may be set
    over = max(absent[0] + _AWAY_SECONDS, state.fleet.launched_until(host))
    if batch.now < over:
        state.timers.put((TimerKind.HOST_AWAY, host), over)
        return
    why = f"host {host!r} is not attached, and the job names another host now"
    cancel = CancelRequest(at_us=batch.now_us, by="kernel", why=why, code="canceled_by_move")
    for job_id in state.waiting.jobs_of_host(host):
        job = state.jobs.job(job_id)
        if job is not None and job.runnable and job.host != host:
            for waiting in state.waiting.of_job(job_id, host=host):
                request_cancel(state, batch, waiting.run_id, cancel)


def _end_waiting(state: EngineState, batch: Batch, waiting: QueuedRun, to: RunState, reason: Reason) -> None:
    state.waiting.remove(waiting.run_id)
    state.stop_timers(waiting.run_id)
    state.specs.pop(waiting.run_id, None)
    facts = end_data(host=waiting.job_host, preset=waiting.preset, slot_us=waiting.slot_us)
    at_us = max(batch.now_us, waiting.queued_at_us)
    state.ends(
        batch,
        FinishRun(run_id=waiting.run_id, job_id=waiting.job_id, state=to, at_us=at_us, reason=reason, data=facts),
    )


def _stop_attempt(state: EngineState, batch: Batch, run: ActiveRun, cancel: CancelRequest) -> str:
    """Stop the current attempt of a run; return the run to stop instead if it is a call_job step, or empty."""
    current = run.current
    if current is None:
        return ""
    if not current.child_run_id and current.state is AttemptState.PENDING:
        stepping.conclude(state, batch, run, AttemptState.CANCELED, stepping.cancel_reason(cancel))
    elif not current.child_run_id:
        batch.send(run.instance, cancel_order(current.key, cancel))
    return current.child_run_id


def _stop_child(state: EngineState, batch: Batch, current: CurrentAttempt, why: str) -> None:
    request_cancel(state, batch, current.child_run_id, _of_parent(batch, by="", why=why))


def _of_parent(batch: Batch, *, by: str, why: str) -> CancelRequest:
    return CancelRequest(at_us=batch.now_us, by=by, why=why, code="canceled_by_parent")


def queue_timed_out(state: EngineState, batch: Batch, run_id: str) -> None:
    """Fail a run that has waited longer than its queue_timeout_seconds; other runs are left alone."""
    waiting = state.waiting.get(run_id)
    if waiting is not None:
        # By the wall clock, since it may have waited while no kernel ran; that clock may have been set back.
        waited = max((batch.now_us - waiting.queued_at_us) / 1_000_000, waiting.queue_timeout_seconds or 0)
        reason = Reason("queue_timed_out", f"the run waited {time_span(waited)} and did not start")
        _end_waiting(state, batch, waiting, RunState.FAILED, reason)


def job_timed_out(state: EngineState, batch: Batch, run_id: str) -> None:
    """Stop a run whose time is up, unless its attempt is with a host.

    While an attempt is with a host, the host enforces the limit: it keeps counting while the kernel is away.
    """
    run = state.active.get(run_id)
    if run is None or run.definition.timeout_seconds is None or run.current is None:
        return
    reason = Reason(
        "job_timed_out", f"the run took longer than its timeout of {time_span(run.definition.timeout_seconds)}"
    )
    if run.current.child_run_id:
        run.timed_out = reason
        _stop_child(state, batch, run.current, reason.message)
    elif run.current.state is AttemptState.PENDING:
        stepping.conclude(state, batch, run, AttemptState.FAILED, reason)
    else:
        # After the attempt, a wait for the next try or a call_job is again the kernel's to stop.
        state.timers.put((TimerKind.JOB_TIMEOUT, run_id), batch.now + _LOOK_AGAIN_SECONDS)


def call_timed_out(state: EngineState, batch: Batch, run_id: str) -> None:
    """Stop the child of a call_job step whose time is up; the step fails once the child has stopped."""
    run = state.active.get(run_id)
    current = run.current if run is not None else None
    seconds = current.step.timeout_seconds if current is not None and current.child_run_id else None
    if current is None or seconds is None:
        return  # the timer of an earlier step
    current.timed_out = Reason(
        "timed_out", f"run {current.child_run_id} took longer than the step's {time_span(seconds)}"
    )
    _stop_child(state, batch, current, current.timed_out.message)
