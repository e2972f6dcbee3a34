"""call_job steps, which the kernel runs itself: a child run, and the parent's attempt that waits for it."""

from __future__ import annotations

import json

from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine import stepping, triggering
from nomaflow_kernel.engine.active import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.engine.outcome import Outcome
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import Timer, TimerKind
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import Ancestor, AttemptRecord, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import FinishRun, OpenAttempt, StartAttempt

__all__ = ["call_job", "call_job_again", "child_ended"]


def call_job(state: EngineState, batch: Batch, run: ActiveRun, current: CurrentAttempt) -> None:
    """Open a call_job attempt: RUNNING with its child, or FAILED if the child cannot be triggered."""
    child = _trigger_child(state, batch, run, current)
    failure = child if isinstance(child, Reason) else None
    batch.add(
        OpenAttempt(
            job_id=run.job_id,
            at_us=batch.now_us,
            attempt=AttemptRecord(
                run_id=run.run_id,
                step_index=current.step.index,
                step=current.step.name,
                attempt=current.number,
                state=AttemptState.FAILED if failure else AttemptState.RUNNING,
                reason=failure,
                error=failure.message if failure else "",
                started_at_us=run.stamp(batch.now_us),
                finished_at_us=run.stamp(batch.now_us) if failure else None,
                child_run_id="" if isinstance(child, Reason) else child,
            ),
        )
    )
    _wait_for(state, batch, run, current, child)


def call_job_again(state: EngineState, batch: Batch, run: ActiveRun, current: CurrentAttempt) -> None:
    """Move a PENDING call_job attempt whose back-off is over to RUNNING or FAILED."""
    child = _trigger_child(state, batch, run, current)
    if isinstance(child, Reason):
        failed = Outcome(state=AttemptState.FAILED, reason=child, error=child.message)
        batch.add(failed.transition(run, current, run.stamp(batch.now_us)))
    else:
        batch.add(
            StartAttempt(
                run_id=run.run_id,
                job_id=run.job_id,
                step_index=current.step.index,
                step=current.step.name,
                attempt=current.number,
                at_us=run.stamp(batch.now_us),
                child_run_id=child,
            )
        )
    _wait_for(state, batch, run, current, child)


def _wait_for(state: EngineState, batch: Batch, run: ActiveRun, current: CurrentAttempt, child: str | Reason) -> None:
    if isinstance(child, Reason):
        failed = Outcome(state=AttemptState.FAILED, reason=child, error=child.message)
        stepping.after_attempt(state, batch, run, failed)
        return
    current.state = AttemptState.RUNNING
    current.child_run_id = child
    current.started_at_us = batch.now_us
    state.parents[child] = run.run_id
    if current.step.timeout_seconds is not None:
        timer = Timer(kind=TimerKind.CALL_TIMEOUT, run_id=run.run_id)
        state.timers.add(batch.now + current.step.timeout_seconds, timer)


def _trigger_child(state: EngineState, batch: Batch, run: ActiveRun, current: CurrentAttempt) -> str | Reason:
    """Trigger the child; return its run id, or the reason why it cannot run."""
    chain = (*run.record.parent_chain, Ancestor(job_id=run.job_id, run_id=run.run_id))
    target = current.step.target_job_id
    if any(ancestor.job_id == target for ancestor in chain):
        shown = " → ".join([*(ancestor.job_id for ancestor in chain), target])
        return Reason("call_job_cycle", f"call_job leads back to a job of its own chain: {shown}")
    command = TriggerCommand(
        job_id=target,
        kind=TriggerKind.CALL_JOB,
        inherited=run.plan.job_params,
        params={**run.plan.run_params, **current.step.child_params},
        op_kwargs={},
        log_level=run.asked_log_level(),
        by=f"{run.job_id}/{current.step.name}",
        parent_chain=chain,
        traceparent=state.traceparent(run.record),
    )
    try:
        outcome = triggering.trigger(state, batch, command)
    except KernelError as error:
        code = {"JOB_NOT_FOUND": "unknown_job", "JOB_DISABLED": "job_unavailable"}.get(error.reason, "child_not_run")
        return Reason(code, error.message)
    if outcome.state is RunState.SKIPPED:
        why = outcome.reason.message if outcome.reason else "it was skipped"
        return Reason("child_not_run", f"run {outcome.run_id} of job {target!r} did not run: {why}")
    return outcome.run_id


def child_ended(state: EngineState, batch: Batch, end: FinishRun, *, extras_json: bytes = b"") -> None:
    """Pass the outcome of a run to the call_job step that waits for it, if there is one.

    :param extras_json: extras returned by the last step that ran
    """
    parent_id = state.parents.pop(end.run_id, None)
    run = state.active.get(parent_id) if parent_id else None
    if run is None or run.current is None or run.current.child_run_id != end.run_id:
        return
    why = f": {end.reason.message}" if end.reason else ""
    to, reason, error = AttemptState.FAILED, None, end.error
    if run.current.timed_out is not None:
        reason, error = run.current.timed_out, run.current.timed_out.message
    elif end.state is RunState.SUCCEEDED:
        to = AttemptState.SUCCEEDED
    elif end.state is RunState.CANCELED:
        to, reason, error = AttemptState.CANCELED, Reason("child_canceled", f"run {end.run_id} was canceled{why}"), ""
    else:
        reason = Reason("child_failed", f"run {end.run_id} failed{why}")
    outcome = Outcome(
        state=to,
        reason=reason,
        error=error,
        rows_affected=end.rows_affected,
        extras_json=_extras(end, extras_json),
        has_result=True,
    )
    stepping.end_attempt(state, batch, run, outcome)


def _extras(end: FinishRun, last: bytes) -> bytes:
    """Return the extras of a call_job step: those of the child's last step, and facts about the child run."""
    child = {"child_run_id": end.run_id, "child_job_id": end.job_id, "child_state": end.state.value}
    return json.dumps({**(json.loads(last) if last else {}), **child}, separators=(",", ":")).encode()
