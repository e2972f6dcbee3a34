"""The event that each transition stands for; ``docs/events.md`` is their table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import EventRecord, TriggerKind
from nomaflow_kernel.history.states import RUN_TERMINAL, AttemptState
from nomaflow_kernel.history.transitions import (
    ClearPause,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    Notice,
    OpenAttempt,
    QueueRun,
    RecordReport,
    RecordRung,
    RequestCancel,
    SetPause,
    StartAttempt,
    StartRun,
    Transition,
    end_data,
)

_BY_NOBODY = (TriggerKind.CRON, TriggerKind.CALL_JOB)
"""Triggers whose ``by`` names no person: a schedule, a step."""


def event_of(transition: Transition, *, seq: int, at_us: int) -> EventRecord | None:
    """Return the event, numbered ``seq``, of a transition applied at ``at_us``, or None if it has none."""
    make = _MAKERS.get(type(transition))
    return None if make is None else make(transition, seq, at_us)


def _run_event(t: Any, seq: int, at_us: int, kind: str, data: Mapping[str, Any], **of_state: Any) -> EventRecord:
    return EventRecord(seq=seq, at_us=at_us, kind=kind, run_id=t.run_id, job_id=t.job_id, data=data, **of_state)


def _attempt_event(t: Any, seq: int, at_us: int, kind: str, data: Mapping[str, Any], **of_state: Any) -> EventRecord:
    return _run_event(t, seq, at_us, kind, data, step=t.step, attempt=t.attempt, **of_state)


def _queued(t: QueueRun, seq: int, at_us: int) -> EventRecord:
    run = t.run
    data: dict[str, Any] = {"trigger": run.trigger.kind.value, "by": run.trigger.by}
    kind = "run.queued"
    if run.state in RUN_TERMINAL:
        kind = "run.finished"
        facts = end_data(host=run.host, preset=run.request.preset, slot_us=run.slot_us)
        data = {"rows_affected": run.rows_affected, "error": run.error, **facts, **data}
    by = "" if run.trigger.kind in _BY_NOBODY else run.trigger.by
    return _run_event(run, seq, at_us, kind, data, state=run.state.value, reason=run.reason, host=run.host, by=by)


def _cancel_requested(t: RequestCancel, seq: int, at_us: int) -> EventRecord:
    cancel = t.cancel
    reason = Reason(cancel.code, cancel.why or f"cancel requested by {cancel.by or 'nobody named'}")
    return _run_event(
        t, seq, at_us, "run.cancel_requested", {"by": cancel.by, "why": cancel.why}, reason=reason, by=cancel.by
    )


def _run_finished(t: FinishRun, seq: int, at_us: int) -> EventRecord:
    return _run_event(t, seq, at_us, "run.finished", _end(t, t.data), state=t.state.value, reason=t.reason)


def _opened(t: OpenAttempt, seq: int, at_us: int) -> EventRecord:
    attempt = t.attempt
    kind: str
    data: Mapping[str, Any]
    match attempt.state:
        case AttemptState.DISPATCHED:
            kind, data = "attempt.dispatched", {"incarnation": attempt.incarnation}
        case AttemptState.PENDING:
            kind, data = "attempt.pending", {"not_before_us": attempt.not_before_us}
        case AttemptState.RUNNING:
            kind, data = "attempt.started", _start(attempt)
        case _:
            kind, data = "attempt.finished", _end(attempt, {})
    return EventRecord(
        seq=seq,
        at_us=at_us,
        kind=kind,
        run_id=attempt.run_id,
        job_id=t.job_id,
        step=attempt.step,
        attempt=attempt.attempt,
        state=attempt.state.value,
        reason=attempt.reason,
        host=attempt.host,
        data=data,
    )


def _dispatched(t: DispatchAttempt, seq: int, at_us: int) -> EventRecord:
    data = {"incarnation": t.incarnation}
    return _attempt_event(t, seq, at_us, "attempt.dispatched", data, state="DISPATCHED", host=t.host)


def _progress(t: RecordReport, seq: int, at_us: int) -> EventRecord | None:
    if not t.progress_json:
        return None
    try:
        progress = json.loads(t.progress_json)
    except ValueError:
        progress = t.progress_json
    return _attempt_event(t, seq, at_us, "attempt.progress", {"progress": progress})


def _stopping(t: RecordRung, seq: int, at_us: int) -> EventRecord:
    rung = t.rung
    data = {
        "rung": rung.rung,
        "what": rung.what,
        "why": rung.why,
        "at_us": rung.at_us,
        "after_seconds": rung.after_us / 1_000_000,
        "next_at_us": rung.next_at_us or None,
    }
    return _attempt_event(t, seq, at_us, "attempt.stopping", data)


def _finished(t: FinishAttempt, seq: int, at_us: int) -> EventRecord:
    end = t.end
    data = _end(end, end.data)
    return _attempt_event(t, seq, at_us, "attempt.finished", data, state=end.state.value, reason=end.reason)


def _start(t: Any) -> dict[str, Any]:
    return {"worker_pid": t.worker_pid, "generation": t.generation, "child_run_id": t.child_run_id}


def _end(t: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"rows_affected": t.rows_affected, "error": t.error, **more}


def _pause_set(t: SetPause, seq: int, at_us: int) -> EventRecord:
    pause = t.pause
    data = {"scope": pause.scope, "why": pause.why, "until_us": pause.until_us}
    return _pause_event("pause.set", pause.scope, pause.name, pause.by, data, seq, at_us)


def _pause_cleared(t: ClearPause, seq: int, at_us: int) -> EventRecord:
    return _pause_event("pause.cleared", t.scope, t.name, t.by, {"scope": t.scope}, seq, at_us)


def _pause_event(
    kind: str, scope: str, name: str, by: str, data: Mapping[str, Any], seq: int, at_us: int
) -> EventRecord:
    job_id, host = name if scope == "job" else "", name if scope == "host" else ""
    return EventRecord(seq=seq, at_us=at_us, kind=kind, job_id=job_id, host=host, by=by, data=data)


_MAKERS: Mapping[type[Any], Callable[[Any, int, int], EventRecord | None]] = {
    QueueRun: _queued,
    StartRun: lambda t, seq, at_us: _run_event(t, seq, at_us, "run.started", {}, state="RUNNING"),
    RequestCancel: _cancel_requested,
    FinishRun: _run_finished,
    OpenAttempt: _opened,
    DispatchAttempt: _dispatched,
    StartAttempt: lambda t, seq, at_us: _attempt_event(t, seq, at_us, "attempt.started", _start(t), state="RUNNING"),
    RecordReport: _progress,
    RecordRung: _stopping,
    FinishAttempt: _finished,
    Notice: lambda t, seq, at_us: _attempt_event(t, seq, at_us, t.kind, t.data, reason=t.reason, host=t.host, by=t.by),
    SetPause: _pause_set,
    ClearPause: _pause_cleared,
}
