"""A run's way through its steps: start, dispatch, outcome, retry, end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from nomaflow_kernel.engine import calling
from nomaflow_kernel.engine.active import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.orders import dispatch_order
from nomaflow_kernel.engine.outcome import Outcome
from nomaflow_kernel.engine.plan import PlannedStep
from nomaflow_kernel.engine.state import Batch, EndedAttempt, EngineState
from nomaflow_kernel.engine.timers import Timer, TimerKind
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import AttemptRecord, CancelRequest
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import DispatchAttempt, FinishRun, OpenAttempt, StartRun, end_data

__all__ = [
    "after_attempt",
    "cancel_reason",
    "dispatch",
    "end_attempt",
    "end_canceled",
    "end_run",
    "longest_delay",
    "start_run",
    "waits",
]

UNCOUNTED_REASONS = frozenset({"host_refused"})
"""Failures that the code did not cause and that use up no attempt."""

_REFUSED_DELAY_SECONDS, _LONGEST_REFUSED_DELAY_SECONDS = 0.2, 30.0
"""Each refusal of a step makes a row: a host that keeps refusing is asked less and less often."""

_LOST_TRIES = 3
"""With retry_on_lost, a step gets at least this many tries before repeated losses fail the run."""


def start_run(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    """Move a QUEUED run to RUNNING and to its first step."""
    run.started_at_us = run.stamp(batch.now_us)
    state.active[run.run_id] = run
    state.running.setdefault(run.job_id, set()).add(run.run_id)
    batch.add(StartRun(run_id=run.run_id, job_id=run.job_id, at_us=run.started_at_us))
    if run.definition.timeout_seconds is not None:
        state.timers.add(
            batch.now + run.definition.timeout_seconds, Timer(kind=TimerKind.JOB_TIMEOUT, run_id=run.run_id)
        )
    _go_on(state, batch, run)


def _go_on(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    """Open the next enabled step, skipping the disabled ones; end the run if none is left."""
    while run.index < len(run.steps):
        step = run.steps[run.index]
        if not step.enabled:
            _skip(batch, run, step, Reason("disabled", f"step {step.name!r} is switched off"))
        elif step.reuse is None:
            _open_attempt(state, batch, run, number=1, tries=1, delay_seconds=0.0)
            return
        elif step.reuse.get("no_output"):
            _skip(
                batch,
                run,
                step,
                Reason("before_replay", "the replay starts after this step, and the replayed run has no output of it"),
            )
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
        key=run.key_of(number),
        state=AttemptState.PENDING,
        tries=tries,
        not_before_us=batch.now_us + int(delay_seconds * 1_000_000),
        exclusive=not step.calls_job and state.uses_exclusive(run.host, step),
    )
    if delay_seconds > 0:
        _open_pending(batch, run, Reason("waiting_for_retry", f"the next attempt starts in {delay_seconds:.3g} s"))
        state.timers.add(batch.now + delay_seconds, Timer(kind=TimerKind.ATTEMPT_DUE, run_id=run.run_id))
    elif step.calls_job:
        calling.call_job(state, batch, run, run.current)
    else:
        _assign_or_wait(state, batch, run)


def _assign_or_wait(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    current = _current(run)
    instance = state.pick(run.host, exclusive=current.exclusive)
    if instance is None:
        _open_pending(batch, run, waits(state, run.host))
        state.continuing.setdefault(run.host, deque()).append(run.run_id)
        return
    _assign(state, run, instance)
    batch.add(
        OpenAttempt(
            job_id=run.job_id,
            at_us=batch.now_us,
            attempt=_record(
                run,
                state=AttemptState.DISPATCHED,
                incarnation=instance.incarnation,
                epoch=state.epoch,
                dispatched_at_us=run.stamp(batch.now_us),
            ),
        )
    )
    batch.send(instance.incarnation, dispatch_order(state, run, current, batch.now_us))
    current.state = AttemptState.DISPATCHED


def _assign(state: EngineState, run: ActiveRun, instance: Instance) -> None:
    current = _current(run)
    current.host = run.host
    current.incarnation = instance.incarnation
    current.epoch = state.epoch
    instance.hold(current.key, exclusive=current.exclusive)


def waits(state: EngineState, host: str) -> Reason:
    """Return the reason why a due attempt waits."""
    if state.fleet.has_serving(host):
        limit = state.jobs.max_parallel(host)
        if limit is not None and state.fleet.held(host) >= limit:
            return Reason("waiting_for_slot", f"host {host!r} is already running {limit} steps (its max_parallel)")
        return Reason("waiting_for_slot", f"host {host!r} has no free slot")
    return Reason("waiting_for_host", f"no instance of host {host!r} takes work")


def _open_pending(batch: Batch, run: ActiveRun, reason: Reason) -> None:
    current = _current(run)
    batch.add(
        OpenAttempt(
            job_id=run.job_id,
            at_us=batch.now_us,
            attempt=_record(run, state=AttemptState.PENDING, reason=reason, not_before_us=current.not_before_us),
        )
    )


def dispatch(state: EngineState, batch: Batch, run: ActiveRun) -> bool:
    """Give a due PENDING attempt to an instance; return False if none is free."""
    current = _current(run)
    if current.step.calls_job:
        calling.call_job_again(state, batch, run, current)
        return True
    current.exclusive = state.uses_exclusive(run.host, current.step)
    instance = state.pick(run.host, exclusive=current.exclusive)
    if instance is None:
        return False
    _assign(state, run, instance)
    current.state = AttemptState.DISPATCHED
    batch.add(
        DispatchAttempt(
            run_id=run.run_id,
            job_id=run.job_id,
            step_index=current.step.index,
            step=current.step.name,
            attempt=current.number,
            host=run.host,
            incarnation=instance.incarnation,
            epoch=state.epoch,
            at_us=run.stamp(batch.now_us),
        )
    )
    batch.send(instance.incarnation, dispatch_order(state, run, current, batch.now_us))
    return True


def end_attempt(state: EngineState, batch: Batch, run: ActiveRun, outcome: Outcome) -> None:
    """Record the end of the current attempt, and decide what comes next."""
    current = _current(run)
    state.release(current)
    batch.add(outcome.transition(run, current, run.stamp(batch.now_us)))
    after_attempt(state, batch, run, outcome)


def after_attempt(state: EngineState, batch: Batch, run: ActiveRun, outcome: Outcome) -> None:
    """Decide what follows an attempt whose end is recorded."""
    current = _current(run)
    state.ended.put(
        current.key,
        EndedAttempt(
            job_id=run.job_id,
            incarnation=current.incarnation,
            state=outcome.state,
            final_seq=current.report_seq,
            retry_on_lost=run.definition.retry_on_lost,
        ),
    )
    run.current = None
    failed = outcome.state in (AttemptState.FAILED, AttemptState.LOST)
    if failed and run.cancel is None and run.timed_out is None and _open_next_try(state, batch, run, current, outcome):
        return
    run.note_result(current.step.name, outcome.state, outcome.rows_affected, outcome.extras_json)
    if run.cancel is not None:
        end_canceled(state, batch, run, run.cancel)
    elif run.timed_out is not None:
        end_run(state, batch, run, RunState.FAILED, run.timed_out, run.timed_out.message)
    elif outcome.state is AttemptState.SUCCEEDED:
        run.index += 1
        _go_on(state, batch, run)
    elif outcome.state is AttemptState.CANCELED:
        end_run(state, batch, run, RunState.CANCELED, outcome.reason, outcome.error)
    else:
        end_run(state, batch, run, RunState.FAILED, outcome.reason, outcome.error)


def end_canceled(state: EngineState, batch: Batch, run: ActiveRun, cancel: CancelRequest) -> None:
    """End a run whose code has stopped after a cancel."""
    end_run(state, batch, run, RunState.CANCELED, cancel_reason(cancel))


def cancel_reason(cancel: CancelRequest) -> Reason:
    """Return the reason for attempts and runs that a cancel ended."""
    who = f" by {cancel.by}" if cancel.by else ""
    why = f": {cancel.why}" if cancel.why else ""
    return Reason(cancel.code, f"canceled{who}{why}")


def _open_next_try(state: EngineState, batch: Batch, run: ActiveRun, ended: CurrentAttempt, outcome: Outcome) -> bool:
    """Open the next attempt if the step is to be retried; return False if the step has failed for good."""
    code = outcome.reason.code if outcome.reason else ""
    again = run.definition.retry_on_lost
    if code in UNCOUNTED_REASONS or (outcome.innocent and again):
        delay = _refused_delay(ended.number - ended.tries) if code in UNCOUNTED_REASONS else 0.0
        _open_attempt(state, batch, run, number=ended.number + 1, tries=ended.tries, delay_seconds=delay)
        return True
    lost = outcome.state is AttemptState.LOST
    # The host itself may have kept the grace: it killed the attempt and reports it before the kernel gave it up.
    if (lost or code == "host_lost") and again and ended.tries < max(ended.step.retry.attempts, _LOST_TRIES):
        _open_attempt(state, batch, run, number=ended.number + 1, tries=ended.tries + 1, delay_seconds=0.0)
        return True
    if lost:
        return False
    return code != "job_timed_out" and _retry_by_policy(state, batch, run, ended, outcome)


def _refused_delay(refusals: int) -> float:
    return min(_REFUSED_DELAY_SECONDS * 2.0 ** min(refusals, 16), _LONGEST_REFUSED_DELAY_SECONDS)


def longest_delay(attempt: CurrentAttempt) -> float:
    """Return the longest time, in seconds, that an attempt may wait after the one before."""
    by_policy = attempt.step.retry.delay_seconds(max(1, attempt.tries - 1), 1.0)
    return max(by_policy, _refused_delay(attempt.number - attempt.tries))


def _retry_by_policy(state: EngineState, batch: Batch, run: ActiveRun, ended: CurrentAttempt, outcome: Outcome) -> bool:
    policy = ended.step.retry
    if ended.tries >= policy.attempts or not policy.retries(outcome.exception_types):
        return False
    delay = policy.delay_seconds(ended.tries, state.rng.random())
    _open_attempt(state, batch, run, number=ended.number + 1, tries=ended.tries + 1, delay_seconds=delay)
    return True


def end_run(
    state: EngineState, batch: Batch, run: ActiveRun, to: RunState, reason: Reason | None, error: str = ""
) -> None:
    """Move a run to its terminal state; the steps not reached become SKIPPED."""
    canceled = to is RunState.CANCELED
    why = (
        Reason("run_canceled", "the run was canceled")
        if canceled
        else Reason("earlier_step_failed", "an earlier step failed")
    )
    for step in run.steps[run.index + 1 :]:
        _skip(batch, run, step, why)
    finish = FinishRun(
        run_id=run.run_id,
        job_id=run.job_id,
        state=to,
        at_us=run.stamp(batch.now_us),
        reason=reason,
        error=error,
        rows_affected=run.rows_affected,
        data=end_data(
            host=run.host,
            preset=run.record.request.preset,
            slot_us=run.record.slot_us,
            started_us=run.started_at_us,
            attempts=run.tries,
            failed_step=run.steps[run.index].name if to is RunState.FAILED else "",
        ),
    )
    batch.add(finish)
    state.leave(run)
    calling.child_ended(state, batch, finish, extras_json=run.last_extras)


def _skip(batch: Batch, run: ActiveRun, step: PlannedStep, reason: Reason) -> None:
    batch.add(
        OpenAttempt(
            job_id=run.job_id,
            at_us=batch.now_us,
            attempt=AttemptRecord(
                run_id=run.run_id,
                step_index=step.index,
                step=step.name,
                attempt=1,
                state=AttemptState.SKIPPED,
                reason=reason,
                finished_at_us=run.stamp(batch.now_us),
            ),
        )
    )


def _reuse(batch: Batch, run: ActiveRun, step: PlannedStep, output: Mapping[str, Any]) -> None:
    rows, extras = output.get("rows_affected"), str(output.get("extras_json", "")).encode()
    source = str(output.get("run_id", ""))
    batch.add(
        OpenAttempt(
            job_id=run.job_id,
            at_us=batch.now_us,
            attempt=AttemptRecord(
                run_id=run.run_id,
                step_index=step.index,
                step=step.name,
                attempt=1,
                state=AttemptState.SUCCEEDED,
                reason=Reason("reused", f"the output was taken from run {source}"),
                rows_affected=rows,
                extras_json=extras,
                has_result=True,
                finished_at_us=run.stamp(batch.now_us),
            ),
        )
    )
    run.note_result(step.name, AttemptState.SUCCEEDED, rows, extras)


def _record(
    run: ActiveRun,
    *,
    state: AttemptState,
    reason: Reason | None = None,
    incarnation: str = "",
    epoch: int = 0,
    not_before_us: int | None = None,
    dispatched_at_us: int | None = None,
) -> AttemptRecord:
    current = _current(run)
    return AttemptRecord(
        run_id=run.run_id,
        step_index=current.step.index,
        step=current.step.name,
        attempt=current.number,
        state=state,
        reason=reason,
        host=run.host,
        incarnation=incarnation,
        epoch=epoch,
        not_before_us=not_before_us,
        dispatched_at_us=dispatched_at_us,
    )


def _current(run: ActiveRun) -> CurrentAttempt:
    if run.current is None:
        raise AssertionError(f"run {run.run_id} has no attempt in hand")
    return run.current
