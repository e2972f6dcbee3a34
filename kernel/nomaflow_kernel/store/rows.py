"""Conversion of records to rows and back. Rows are tuples in the order of the table's columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import (
    Ancestor,
    AttemptRecord,
    CancelRequest,
    EventRecord,
    Fold,
    LogChunkRecord,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState

__all__ = [
    "attempt_from_row",
    "attempt_row",
    "cancel_row",
    "chunk_from_row",
    "chunk_row",
    "clean",
    "dump_json",
    "event_from_row",
    "event_row",
    "reason_pair",
    "run_from_row",
    "run_row",
]

dump_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Compact JSON in ASCII: safe for every text a program may produce."""

_NO_REQUEST = RunRequest()
_NO_REASON = ("", "")


def clean(text: str) -> str:
    """Return ``text`` in a form that every database keeps: NUL as ``␀``, lone surrogates as ``\\udcXX``."""
    if "\x00" in text:
        text = text.replace("\x00", "\u2400")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def reason_pair(reason: Reason | None) -> tuple[str, str]:
    """Return code and message, both empty for no reason."""
    return _NO_REASON if reason is None else (reason.code, clean(reason.message))


def _reason(code: str, message: str) -> Reason | None:
    return Reason(code, message) if code else None


_PLAIN: Mapping[type[Any], Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    type(None): lambda _: "null",
}


def _dump_object(value: Mapping[str, Any]) -> str:
    """Return the JSON of an object. Plain members are joined directly: setting up the encoder each time is slow."""
    members = []
    for name, member in value.items():
        dump = _PLAIN.get(type(member))
        if dump is None:
            return dump_json(dict(value))
        members.append(f"{encode_basestring_ascii(name)}:{dump(member)}")
    return "{" + ",".join(members) + "}"


def run_row(run: RunRecord) -> tuple[Any, ...]:
    """Return the row of a run."""
    cancel, fold = run.cancel, run.fold
    return (
        run.run_id,
        run.job_id,
        run.host,
        run.state.value,
        *reason_pair(run.reason),
        clean(run.error),
        run.trigger.kind.value,
        clean(run.trigger.by),
        run.trigger.at_us,
        run.definition_digest,
        "{}" if run.request == _NO_REQUEST else dump_json(run.request.to_json()),
        run.priority,
        dump_json([[a.job_id, a.run_id] for a in run.parent_chain]) if run.parent_chain else "[]",
        run.queued_at_us,
        run.started_at_us,
        run.finished_at_us,
        *(cancel_row(cancel) if cancel else (None, "", "", "")),
        *((fold.first_us, fold.last_us, fold.count) if fold else (None, None, None)),
        run.replay_of,
        clean(run.request_id),
        run.request_hash,
        run.slot,
        run.rows_affected,
        run.log_lines,
        run.last_event_seq,
        run.current_step,
    )


def cancel_row(cancel: CancelRequest) -> tuple[int, str, str, str]:
    """Return the four columns of a cancel request."""
    return cancel.at_us, clean(cancel.by), clean(cancel.why), cancel.code


def run_from_row(row: Any) -> RunRecord:
    """Return the run of a row of ``runs``, columns in the table's order."""
    return RunRecord(
        run_id=row[0],
        job_id=row[1],
        host=row[2],
        state=RunState(row[3]),
        reason=_reason(row[4], row[5]),
        error=row[6],
        trigger=RunTrigger(kind=TriggerKind(row[7]), by=row[8], at_us=row[9]),
        definition_digest=row[10],
        request=_NO_REQUEST if row[11] == "{}" else RunRequest.from_json(json.loads(row[11])),
        priority=row[12],
        parent_chain=_ancestors(row[13]),
        queued_at_us=row[14],
        started_at_us=row[15],
        finished_at_us=row[16],
        cancel=_cancel(row[17], row[18], row[19], row[20]),
        fold=_fold(row[21], row[22], row[23]),
        replay_of=row[24],
        request_id=row[25],
        request_hash=row[26],
        slot=row[27],
        rows_affected=row[28],
        log_lines=row[29],
        last_event_seq=row[30],
        current_step=row[31],
    )


def _ancestors(text: str) -> tuple[Ancestor, ...]:
    if text == "[]":
        return ()
    return tuple(Ancestor(job_id=job_id, run_id=run_id) for job_id, run_id in json.loads(text))


def _cancel(at_us: int | None, by: str, why: str, code: str) -> CancelRequest | None:
    return None if at_us is None else CancelRequest(at_us=at_us, by=by, why=why, code=code)


def _fold(first_us: int | None, last_us: int | None, count: int | None) -> Fold | None:
    if first_us is None or last_us is None or count is None:
        return None
    return Fold(first_us=first_us, last_us=last_us, count=count)


def attempt_row(attempt: AttemptRecord) -> tuple[Any, ...]:
    """Return the row of an attempt."""
    return (
        attempt.run_id,
        attempt.step_index,
        attempt.attempt,
        attempt.step,
        attempt.state.value,
        *reason_pair(attempt.reason),
        clean(attempt.error),
        attempt.host,
        attempt.incarnation,
        attempt.epoch,
        attempt.rows_affected,
        attempt.extras_json,
        attempt.has_result,
        attempt.report_seq,
        attempt.not_before_us,
        attempt.dispatched_at_us,
        attempt.started_at_us,
        attempt.finished_at_us,
        attempt.worker_pid,
        attempt.generation,
        clean(attempt.progress_json),
        attempt.child_run_id,
        attempt.peak_rss_bytes,
        attempt.cpu_seconds,
    )


def attempt_from_row(row: Any) -> AttemptRecord:
    """Return the attempt of a row of ``attempts``, columns in the table's order."""
    return AttemptRecord(
        run_id=row[0],
        step_index=row[1],
        attempt=row[2],
        step=row[3],
        state=AttemptState(row[4]),
        reason=_reason(row[5], row[6]),
        error=row[7],
        host=row[8],
        incarnation=row[9],
        epoch=row[10],
        rows_affected=row[11],
        extras_json=bytes(row[12]),
        has_result=bool(row[13]),
        report_seq=row[14],
        not_before_us=row[15],
        dispatched_at_us=row[16],
        started_at_us=row[17],
        finished_at_us=row[18],
        worker_pid=row[19],
        generation=row[20],
        progress_json=row[21],
        child_run_id=row[22],
        peak_rss_bytes=row[23],
        cpu_seconds=row[24],
    )


def event_row(event: EventRecord) -> tuple[Any, ...]:
    """Return the row of an event."""
    return (
        event.seq,
        event.at_us,
        event.kind,
        event.run_id,
        event.job_id,
        event.step,
        event.attempt,
        event.state,
        *reason_pair(event.reason),
        event.host,
        _dump_object(event.data),
    )


def event_from_row(row: Any) -> EventRecord:
    """Return the event of a row of ``events``, columns in the table's order."""
    return EventRecord(
        seq=row[0],
        at_us=row[1],
        kind=row[2],
        run_id=row[3],
        job_id=row[4],
        step=row[5],
        attempt=row[6],
        state=row[7],
        reason=_reason(row[8], row[9]),
        host=row[10],
        data={} if row[11] == "{}" else json.loads(row[11]),
    )


def chunk_row(chunk: LogChunkRecord) -> tuple[Any, ...]:
    """Return the row of a log chunk."""
    return (
        chunk.run_id,
        chunk.first_seq,
        chunk.line_count,
        chunk.attempt,
        chunk.levels,
        chunk.codec,
        chunk.first_at_us,
        chunk.last_at_us,
        chunk.step,
        chunk.body,
    )


def chunk_from_row(row: Any) -> LogChunkRecord:
    """Return the chunk of a row of ``log_chunks``, columns in the table's order."""
    return LogChunkRecord(
        run_id=row[0],
        first_seq=row[1],
        line_count=row[2],
        attempt=row[3],
        levels=row[4],
        codec=row[5],
        first_at_us=row[6],
        last_at_us=row[7],
        step=row[8],
        body=bytes(row[9]),
    )
