"""Conversion of run and attempt records to client messages."""

from __future__ import annotations

import json
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.engine.plan import PlannedStep, plan_run
from nomaflow_kernel.history.ids import attempt_key
from nomaflow_kernel.history.port import RunDetail
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import AttemptRecord, CancelRequest, Fold, RunRecord, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.definitions import JobDefinition

__all__ = [
    "RUN_STATES",
    "attempt_state_number",
    "reason_message",
    "run_detail_message",
    "run_message",
    "run_state_number",
    "timestamp",
]

_RUN_STATES = {state: run_pb2.RunState.Value(f"RUN_STATE_{state.name}") for state in RunState}
_ATTEMPT_STATES = {state: run_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}
_TRIGGER_KINDS = {kind: run_pb2.TriggerKind.Value(f"TRIGGER_KIND_{kind.name}") for kind in TriggerKind}

RUN_STATES = {number: state for state, number in _RUN_STATES.items()}
"""Number on the wire → state."""


def run_state_number(state: RunState) -> run_pb2.RunState.ValueType:
    """Return a run state's number on the wire."""
    return _RUN_STATES[state]


def attempt_state_number(state: AttemptState) -> run_pb2.AttemptState.ValueType:
    """Return an attempt state's number on the wire."""
    return _ATTEMPT_STATES[state]


def timestamp(at_us: int | None) -> Timestamp | None:
    """Return the message of microseconds since the epoch; None for None."""
    if at_us is None:
        return None
    seconds, micros = divmod(at_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def reason_message(reason: Reason | None) -> run_pb2.Reason | None:
    """Return the message of a reason; None for None."""
    return None if reason is None else run_pb2.Reason(code=reason.code, message=reason.message)


def run_message(run: RunRecord) -> run_pb2.Run:
    """Return a run as listed: without steps, params and log level, which only its job's snapshot holds."""
    return run_pb2.Run(
        run_id=run.run_id,
        job_id=run.job_id,
        state=_RUN_STATES[run.state],
        reason=reason_message(run.reason),
        error=run.error,
        trigger=_trigger_message(run.trigger),
        rows_affected=run.rows_affected,
        host=run.host,
        preset=run.request.preset,
        log_level=run.request.log_level,
        parent_chain=[run_pb2.Ancestor(job_id=each.job_id, run_id=each.run_id) for each in run.parent_chain],
        queued_at=timestamp(run.queued_at_us),
        started_at=timestamp(run.started_at_us),
        finished_at=timestamp(run.finished_at_us),
        cancel=_cancel_message(run.cancel),
        fold=_fold_message(run.fold),
        replay_of=run.replay_of,
        log_lines=run.log_lines,
        last_event_seq=run.last_event_seq,
        current_step=run.current_step,
        priority=run.priority,
    )


def run_detail_message(detail: RunDetail) -> run_pb2.Run:
    """Return a run with its steps, attempts and merged params."""
    message = run_message(detail.run)
    plan = plan_run(JobDefinition.from_json(detail.definition), detail.run.request)
    message.params_json = plan.params_json.encode("utf-8", "surrogatepass")
    message.log_level = plan.log_level
    tries: dict[int, list[AttemptRecord]] = {}
    for attempt in detail.attempts:
        tries.setdefault(attempt.step_index, []).append(attempt)
    message.steps.extend(_step_message(step, tries.get(step.index, [])) for step in plan.steps)
    return message


def _step_message(step: PlannedStep, tries: Sequence[AttemptRecord]) -> run_pb2.Step:
    return run_pb2.Step(
        name=step.name,
        index=step.index,
        type=step.type,
        callable=step.target_job_id or step.callable,
        attempts=[_attempt_message(attempt, step) for attempt in sorted(tries, key=lambda each: each.attempt)],
    )


def _attempt_message(attempt: AttemptRecord, step: PlannedStep) -> run_pb2.Attempt:
    message = run_pb2.Attempt(
        attempt_key=attempt_key(attempt.run_id, attempt.step, attempt.attempt),
        attempt=attempt.attempt,
        state=_ATTEMPT_STATES[attempt.state],
        reason=reason_message(attempt.reason),
        error=attempt.error,
        host=attempt.host,
        incarnation=attempt.incarnation,
        worker_pid=attempt.worker_pid,
        generation=attempt.generation,
        dispatched_at=timestamp(attempt.dispatched_at_us),
        started_at=timestamp(attempt.started_at_us),
        finished_at=timestamp(attempt.finished_at_us),
        progress=_progress_message(attempt.progress_json),
        peak_rss_bytes=attempt.peak_rss_bytes,
        cpu_seconds=attempt.cpu_seconds,
        child_run_id=attempt.child_run_id,
        child_job_id=step.target_job_id if attempt.child_run_id else "",
    )
    if attempt.has_result:
        message.result.extras_json = attempt.extras_json
        if attempt.rows_affected is not None:
            message.result.rows_affected = attempt.rows_affected
        message.result.SetInParent()
    return message


def _progress_message(progress_json: str) -> run_pb2.Progress | None:
    if not progress_json:
        return None
    told = json.loads(progress_json)
    return run_pb2.Progress(done=told["done"], total=told.get("total"), message=told.get("message", ""))


def _trigger_message(trigger: RunTrigger) -> run_pb2.Trigger:
    return run_pb2.Trigger(kind=_TRIGGER_KINDS[trigger.kind], by=trigger.by, at=timestamp(trigger.at_us))


def _cancel_message(cancel: CancelRequest | None) -> run_pb2.CancelRequest | None:
    if cancel is None:
        return None
    return run_pb2.CancelRequest(requested_at=timestamp(cancel.at_us), by=cancel.by, why=cancel.why)


def _fold_message(fold: Fold | None) -> run_pb2.Fold | None:
    if fold is None:
        return None
    return run_pb2.Fold(first=timestamp(fold.first_us), last=timestamp(fold.last_us), count=fold.count)
