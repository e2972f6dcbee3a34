"""A run's way through its steps: start, dispatch, outcome, retry, end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.engine import explaining
from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.attempt_end import finish
from nomaflow_kernel.engine.next_try import next_try
from nomaflow_kernel.engine.orders import dispatch_order, unreadable_secrets
from nomaflow_kernel.engine.placement import is_exclusive, pick
from nomaflow_kernel.engine.run_plan import PlannedStep
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.lookups import EndedAttempt
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import AttemptRecord, CancelRequest
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import AttemptEnd, DispatchAttempt, FinishRun, OpenAttempt, StartRun, end_data


def start_run(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    """Move a QUEUED run to RUNNING and to its first step."""
    run.started_at_us = run.stamp(batch.now_us)
    state.active[run.run_id] = run
    state.running.setdefault(run.job_id, set()).add(run.run_id)
    batch.add(StartRun(run_id=run.run_id, job_id=run.job_id, at_us=run.started_at_us))
    if run.definition.timeout_seconds is not None:
        run.due = batch.now + run.definition.timeout_seconds
        state.timers.put((TimerKind.JOB_TIMEOUT, run.run_id), run.due)
    _go_on(state, batch, run)


def _go_on(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    """Open the next enabled step, skipping the disabled ones; end the run if none is left."""
    while run.index < len(run.steps):
        step = run.steps[run.index]
        if not step.enabled:
            _settled(batch, run, step, AttemptState.SKIPPED, Reason("disabled", f"step {step.name!r} is switched off"))
        elif step.reuse is None:
            _open_attempt(state, batch, run, number=1, tries=1, delay_seconds=0.0)
            return
        else:
            _reuse(batch, run, step, step.reuse)
        run.index += 1
    end_run(state, batch, run, RunState.SUCCEEDED, None)


def _open_attempt(
    state: EngineState, batch: Batch, run: ActiveRun, *, number: int, tries: int, delay_seconds: float
) -> None:
    step = run.steps[run.index]
    run.tries += 1
    run.current = CurrentAttempt(
        step=step,
        number=number,
        key=attempt_key(run.run_id, step.name, number),
        state=AttemptState.PENDING,
        opened=False,
        tries=tries,
        not_before_us=batch.now_us + int(delay_seconds * 1_000_000),
    )
    if delay_seconds > 0:
        _open_pending(batch, run, Reason("waiting_for_retry", f"the next attempt starts in {time_span(delay_seconds)}"))
        run.current.due = batch.now + delay_seconds
        state.timers.put((TimerKind.ATTEMPT_DUE, run.run_id), run.current.due)
    elif step.calls_job:
        state.await_turn(run)
    elif not dispatch(state, batch, run):
        _open_pending(batch, run, explaining.waits(state, run.host, run, step))
        state.await_turn(run)


def _open_pending(batch: Batch, run: ActiveRun, reason: Reason) -> None:
    open_row(batch, run, AttemptState.PENDING, reason=reason, not_before_us=run.attempt.not_before_us)


def open_row(batch: Batch, run: ActiveRun, to: AttemptState, **fields: Any) -> None:
    """Record the current attempt, which has no row yet, in its first state.

    :param fields: fields of the row, see ``AttemptRecord``
    """
    current = run.attempt
    current.opened = True
    host = "" if current.step.calls_job else run.host
    _add_row(batch, run, current.step, to, number=current.number, host=host, **fields)


def _add_row(batch: Batch, run: ActiveRun, step: PlannedStep, to: AttemptState, *, number: int, **fields: Any) -> None:
    row = AttemptRecord(run_id=run.run_id, step_index=step.index, step=step.name, attempt=number, state=to, **fields)
    batch.add(OpenAttempt(job_id=run.job_id, attempt=row))


def dispatch(state: EngineState, batch: Batch, run: ActiveRun) -> bool:
    """Give a due attempt to an instance of its host; return False if none is free.

    An attempt whose secret params cannot be read fails at once.
    """
    current = run.attempt
    refusal = state.refusal_of(run) or unreadable_secrets(state, run, current.step)
    if refusal is not None:
        conclude(state, batch, run, AttemptState.FAILED, refusal)
        return True
    exclusive = is_exclusive(state, run.host, current.step.isolation, current.step.callable)
    instance = pick(state, run, current.step, exclusive=exclusive)
    if instance is None:
        return False
    instance.hold(current.key, exclusive=exclusive, needs=current.step.resources)
    current.incarnation = instance.incarnation
    at_us = run.stamp(batch.now_us)
    if current.opened:
        batch.add(
            DispatchAttempt(
                *run.named(), host=run.host, incarnation=instance.incarnation, epoch=state.epoch, at_us=at_us
            )
        )
    else:
        open_row(
            batch,
            run,
            AttemptState.DISPATCHED,
            incarnation=instance.incarnation,
            epoch=state.epoch,
            dispatched_at_us=at_us,
        )
    current.state = AttemptState.DISPATCHED
    batch.send(instance.key, dispatch_order(state, run, instance, batch.now))
    return True


def conclude(state: EngineState, batch: Batch, run: ActiveRun, to: AttemptState, reason: Reason) -> None:
    """End the current attempt without a report from a host.

    :param to: CANCELED, FAILED if it is certain that nothing of it is left, or LOST
    """
    error = "" if to is AttemptState.CANCELED else reason.message
    end_attempt(state, batch, run, AttemptEnd(state=to, reason=reason, error=error))


def end_attempt(state: EngineState, batch: Batch, run: ActiveRun, end: AttemptEnd) -> None:
    """Record the end of the current attempt, and decide what comes next."""
    current = run.attempt
    state.release(run)
    at_us = run.stamp(batch.now_us)
    if current.opened:
        batch.add(finish(run, end, at_us))
    else:
        open_row(batch, run, end.state, reason=end.reason, error=end.error, finished_at_us=at_us)
    state.ended.put(
        current.key,
        EndedAttempt(
            job_id=run.job_id,
            host=run.host,
            incarnation=current.incarnation,
            state=end.state,
            final_seq=current.report_seq,
            retry_on_lost=run.definition.retry_on_lost,
        ),
    )
    failed = end.state in (AttemptState.FAILED, AttemptState.LOST)
    if failed and run.cancel is None and run.timed_out is None:
        following = next_try(run, current, end, draw=state.rng.random)
        if following is not None:
            _open_attempt(state, batch, run, number=current.number + 1, **following)
            return
    run.note_result(current.step.name, end.state, end.rows_affected, end.extras_json)
    if run.cancel is not None:
        end_run(state, batch, run, RunState.CANCELED, cancel_reason(run.cancel))
    elif run.timed_out is not None:
        end_run(state, batch, run, RunState.FAILED, run.timed_out, run.timed_out.message)
    elif end.state is AttemptState.SUCCEEDED:
        run.index += 1
        _go_on(state, batch, run)
    else:
        to = RunState.CANCELED if end.state is AttemptState.CANCELED else RunState.FAILED
        end_run(state, batch, run, to, end.reason, end.error)


def cancel_reason(cancel: CancelRequest) -> Reason:
    """Return the reason for attempts and runs that a cancel ended."""
    who = f" by {cancel.by}" if cancel.by else ""
    why = f": {cancel.why}" if cancel.why else ""
    return Reason(cancel.code, f"canceled{who}{why}")


def end_run(
    state: EngineState, batch: Batch, run: ActiveRun, to: RunState, reason: Reason | None, error: str = ""
) -> None:
    """Move a run to its terminal state; the steps not reached become SKIPPED."""
    why = Reason("earlier_step_failed", "an earlier step failed")
    if to is RunState.CANCELED:
        why = Reason("run_canceled", "the run was canceled")
    for step in run.steps[run.index + 1 :]:
        _settled(batch, run, step, AttemptState.SKIPPED, why)
    facts = end_data(
        host=run.host,
        preset=run.record.request.preset,
        slot_us=run.record.slot_us,
        started_us=run.started_at_us,
        attempts=run.tries,
        failed_step=run.steps[run.index].name if to is RunState.FAILED else "",
    )
    finish = FinishRun(
        run_id=run.run_id,
        job_id=run.job_id,
        state=to,
        at_us=run.stamp(batch.now_us),
        reason=reason,
        error=error,
        rows_affected=run.rows_affected,
        data=facts,
    )
    state.leave(run)
    state.ends(batch, finish, extras_json=run.last_extras)


def _reuse(batch: Batch, run: ActiveRun, step: PlannedStep, output: Mapping[str, Any]) -> None:
    """Record a step before the one that a replay starts with, with its output in the replayed run if it has one."""
    if output.get("no_output"):
        why = "the replay starts after this step, and the replayed run has no output of it"
        _settled(batch, run, step, AttemptState.SKIPPED, Reason("before_replay", why))
        return
    rows, text = output.get("rows_affected"), output.get("extras_json", "")
    extras = None if text is None else str(text).encode()
    reason = Reason("reused", f"the output was taken from run {output.get('run_id', '')}")
    result = {"rows_affected": rows, "extras_json": extras or b"", "has_result": True}
    _settled(batch, run, step, AttemptState.SUCCEEDED, reason, **result)
    run.note_result(step.name, AttemptState.SUCCEEDED, rows, extras)


def _settled(batch: Batch, run: ActiveRun, step: PlannedStep, to: AttemptState, reason: Reason, **result: Any) -> None:
    """Record the only attempt of a step that does not run."""
    at_us = run.stamp(batch.now_us)
    _add_row(batch, run, step, to, number=1, reason=reason, finished_at_us=at_us, **result)
