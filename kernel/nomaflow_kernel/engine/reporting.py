"""Host reports on attempts, recorded by number: each event once, in order, even if sent twice or late."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence

from msgspec import structs

from nomaflow_api.v1.letter_words import AckStatus
from nomaflow_api.v1.letters import AttemptAck, AttemptReport, Event, Finished, LogChunk, Progress, Started, Stopping
from nomaflow_api.v1.sealing import LetterError, open_event
from nomaflow_kernel.engine import stepping
from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.attempt_end import reported_end
from nomaflow_kernel.engine.host_messages import InstanceKey
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.ids import split_attempt_key
from nomaflow_kernel.history.lookups import EndedAttempt
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import LogChunkRecord
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import AppendLog, AttemptEnd, Notice, RecordReport, RecordRung, StartAttempt
from nomaflow_telemetry.process_log import attempt_fields

_LOG = logging.getLogger(__name__)
_RUNGS = 8
_RUNG_TEXT = 1000
_NOT_OPEN = "no such attempt is open"
"""The answer for an attempt of another host too: the reporter learns nothing about it."""


def find_attempt(state: EngineState, attempt_key: str) -> tuple[ActiveRun, CurrentAttempt] | None:
    """Return the run and its current attempt that the key names, or None."""
    run = state.active.get(attempt_key.partition("/")[0])
    if run is None or run.current is None or run.current.key != attempt_key:
        return None
    return run, run.current


def report(state: EngineState, batch: Batch, reporter: InstanceKey, told: AttemptReport) -> AttemptAck:
    """Record one attempt's events and return the answer, which is true once the batch is committed."""
    try:
        return _answer(state, batch, reporter, told)
    except LetterError as error:
        _tell_invalid(state, reporter, told.attempt_key, error)
        return _refuse(told, AckStatus.INVALID, str(error)[:500])


def _tell_invalid(state: EngineState, reporter: InstanceKey, attempt_key: str, error: LetterError) -> None:
    """Log that a report is invalid, once for each attempt: a host could send thousands a second."""
    if state.invalid.find(attempt_key) is None:
        host, incarnation = reporter
        state.invalid.put(attempt_key, incarnation)
        fields = {"host": host} | attempt_fields(attempt_key)
        _LOG.warning("instance %s sent an invalid report: %s", incarnation, str(error)[:500], extra=fields)


def _answer(state: EngineState, batch: Batch, reporter: InstanceKey, told: AttemptReport) -> AttemptAck:
    found, (host, incarnation) = find_attempt(state, told.attempt_key), reporter
    if found is None:
        return _answer_ended(state, batch, reporter, told)
    run, current = found
    if run.host != host:
        return _refuse(told, AckStatus.FENCED, _NOT_OPEN)
    if current.incarnation != incarnation:
        return _refuse(told, AckStatus.FENCED, "the attempt is assigned to another instance")
    if told.first_seq > current.report_seq + 1:
        return AttemptAck(
            attempt_key=told.attempt_key,
            acknowledged_seq=current.report_seq,
            status=AckStatus.GAP,
            detail=f"expected event {current.report_seq + 1}, got {told.first_seq}",
        )
    fresh = _opened(told.events[current.report_seq + 1 - told.first_seq :])
    if fresh:
        _take_in(state, batch, run, current, fresh)
    return AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=current.report_seq)


def _opened(letters: Sequence[bytes]) -> list[Event]:
    """Open sealed events.

    :raises LetterError: if one of them cannot be read, or follows the end of the attempt
    """
    events = [open_event(letter) for letter in letters]
    if any(isinstance(event, Finished) for event in events[:-1]):
        raise LetterError("there are events after finished, expected it to be the last")
    return events


def _take_in(
    state: EngineState, batch: Batch, run: ActiveRun, current: CurrentAttempt, events: Sequence[Event]
) -> None:
    progress: Progress | None = None
    last, lost = events[-1], 0
    if not current.report_seq:
        state.heard_of(run)
    # Opened before anything is recorded: nothing of an invalid report counts.
    end = reported_end(last) if isinstance(last, Finished) else None
    for event in events:
        match event:
            case LogChunk():
                _append_log(batch, run, current, event)
                lost += event.lost_lines
            case Started():
                _start(batch, run, current, event)
            case Progress():
                progress = event
            case Stopping():
                _climb(batch, run, current, event)
    if lost:
        current.facts = structs.replace(current.facts, lost_lines=current.facts.lost_lines + lost)
    current.report_seq += len(events)
    batch.add(
        RecordReport(
            *run.named(),
            report_seq=current.report_seq,
            progress_json=_progress_json(progress) if progress else "",
            facts=current.facts if lost else None,
        )
    )
    if end is not None:
        stepping.end_attempt(state, batch, run, end)


def _start(batch: Batch, run: ActiveRun, current: CurrentAttempt, event: Started) -> None:
    if current.state is not AttemptState.DISPATCHED:
        return
    current.state = AttemptState.RUNNING
    batch.add(
        StartAttempt(
            *run.named(),
            at_us=run.stamp(min(event.at_us, batch.now_us)),
            worker_pid=event.worker_pid,
            generation=event.generation,
            exclusive=event.exclusive,
        )
    )


def _climb(batch: Batch, run: ActiveRun, current: CurrentAttempt, event: Stopping) -> None:
    """Record a rung; any beyond the number that a ladder has are ignored."""
    if len(current.facts.rungs) >= _RUNGS:
        return
    rung = structs.replace(event, what=event.what[:_RUNG_TEXT], why=event.why[:_RUNG_TEXT])
    current.facts = structs.replace(current.facts, rungs=(*current.facts.rungs, rung))
    batch.add(RecordRung(*run.named(), rung=rung, facts=current.facts))


def _append_log(batch: Batch, run: ActiveRun, current: CurrentAttempt, event: LogChunk) -> None:
    chunk = LogChunkRecord(
        run_id=run.run_id,
        step=current.step.name,
        attempt=current.number,
        first_seq=run.log_lines + 1,
        line_count=event.line_count,
        first_at_us=event.first_at_us,
        last_at_us=event.last_at_us,
        levels=event.levels,
        codec=event.codec,
        body=event.body,
    )
    batch.add(AppendLog(chunk=chunk))
    run.log_lines += event.line_count


def _progress_json(event: Progress) -> str:
    done = event.done if math.isfinite(event.done) else 0.0
    total = event.total if event.total is not None and math.isfinite(event.total) else None
    return json.dumps({"done": done, "total": total, "message": event.message[:1000], "at_us": event.at_us})


def _answer_ended(state: EngineState, batch: Batch, reporter: InstanceKey, told: AttemptReport) -> AttemptAck:
    """Answer a report on an attempt that is not current: it has ended, or never existed."""
    ended, (host, incarnation) = state.ended.get(told.attempt_key), reporter
    if ended is None or not ended.exists or ended.host != host:
        return _refuse(told, AckStatus.FENCED, _NOT_OPEN)
    if ended.incarnation != incarnation:
        return _refuse(told, AckStatus.FENCED, "the attempt was assigned to another instance")
    last_seq = told.first_seq + len(told.events) - 1
    if last_seq <= ended.final_seq:
        return AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=ended.final_seq)
    events = _opened(told.events)
    if events and isinstance(events[-1], Finished):
        _note_late_result(batch, told.attempt_key, ended, reported_end(events[-1]))
    elif ended.result_is_wanted:  # a host that was fenced now would never report it
        return AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=last_seq)
    return _refuse(
        told,
        AckStatus.FENCED if ended.state is AttemptState.LOST else AckStatus.CONFLICT,
        f"the attempt ended as {ended.state} after event {ended.final_seq}",
    )


def _refuse(told: AttemptReport, status: AckStatus, detail: str) -> AttemptAck:
    return AttemptAck(attempt_key=told.attempt_key, acknowledged_seq=0, status=status, detail=detail)


def _note_late_result(batch: Batch, attempt_key: str, ended: EndedAttempt, late: AttemptEnd) -> None:
    run_id, step, number = split_attempt_key(attempt_key)
    batch.add(
        Notice(
            kind="attempt.late_result",
            run_id=run_id,
            job_id=ended.job_id,
            step=step,
            attempt=number,
            reason=late.reason or Reason("", ""),
            data={
                "state": str(late.state),
                "rows_affected": late.rows_affected,
                "error": late.error,
                "extras_json": late.extras_json.decode(),
            },
        )
    )
