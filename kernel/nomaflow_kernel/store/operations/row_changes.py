"""The row change of each kind of transition: one compare-and-set statement and its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nomaflow_kernel.history.states import AttemptState, RunState, attempt_sources, run_sources
from nomaflow_kernel.history.transitions import (
    AppendLog,
    ClearPause,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    FoldRun,
    OpenAttempt,
    QueueRun,
    RecordReport,
    RequestCancel,
    SetNextFire,
    SetPause,
    StartAttempt,
    StartRun,
)
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.bulk import BulkStatement, bulk_insert
from nomaflow_kernel.store.rows import attempt_row, cancel_row, chunk_row, clean, reason_pair, run_row

__all__ = ["CHANGES", "FINISH_WHOLE", "TOUCHING", "Change", "Row", "Touch", "TouchingChange", "whole_row"]

Row = tuple[Any, ...]

_RUN = "run_id = {text}"
_ATTEMPT = "run_id = {text} AND step_index = {integer} AND attempt = {integer}"
_CLEAR_REASON = "reason_code = '', reason_message = ''"
_SET_REASON = "reason_code = {text}, reason_message = {text}"


class Touch(NamedTuple):
    """The changes that a batch makes to a run besides its state.

    :param seq: its newest event; 0 for none
    :param step: the step that started last; empty for none
    :param lines: log lines added
    """

    seq: int
    step: str
    lines: int


@dataclass(frozen=True, slots=True)
class Change:
    """The statement for a transition, and its row of values.

    The statement changes exactly one row, or none if the state no longer matches.
    """

    statement: Callable[[Any], BulkStatement]
    row: Callable[[Any], Row]


@dataclass(frozen=True, slots=True)
class TouchingChange:
    """A change of a run's row that includes the batch's other changes to the run."""

    statement: Callable[[Any], BulkStatement]
    row: Callable[[Any, Touch], Row]


def _update(table: str, assignments: str, *, key: str, sources: Iterable[str]) -> BulkStatement:
    """Return the compare-and-set: it changes the row of ``key`` only if its state is one of ``sources``."""
    states = ", ".join(f"'{state}'" for state in sorted(sources)) or "''"
    return BulkStatement.parse(
        f"UPDATE {table} SET {assignments} WHERE {key} AND state IN ({states})"  # noqa: S608 - constants of this module
    )


def _always(statement: BulkStatement) -> Callable[[Any], BulkStatement]:
    return lambda _: statement


_OUTCOME = "state = {text}, " + _SET_REASON + ", error = {text}, rows_affected = {bigint}, finished_at_us = {bigint}"
_FINISH_RUN = {
    state: _update("runs", _OUTCOME + ", current_step = ''", key=_RUN, sources=run_sources(state)) for state in RunState
}
_START_RUN = "state = 'RUNNING', started_at_us = {bigint}, " + _CLEAR_REASON
_TOUCH = "last_event_seq = {bigint}, log_lines = log_lines + {bigint}"
_FINISH_RUN_TOUCHED = {
    state: _update("runs", f"{_OUTCOME}, current_step = '', {_TOUCH}", key=_RUN, sources=run_sources(state))
    for state in RunState
}
_FINISH = (
    _OUTCOME + ", extras_json = {bytea}, has_result = {boolean}, peak_rss_bytes = {bigint}, cpu_seconds = {float8}"
)
_FINISH_ATTEMPT = {
    state: _update("attempts", _FINISH, key=_ATTEMPT, sources=attempt_sources(state)) for state in AttemptState
}
_START = (
    "state = 'RUNNING', " + _CLEAR_REASON + ", started_at_us = {bigint},"
    " worker_pid = {bigint}, generation = {bigint}, child_run_id = {text}"
)
_START_DISPATCHED = _update("attempts", _START, key=_ATTEMPT, sources={AttemptState.DISPATCHED})
_START_CALL_JOB = _update("attempts", _START, key=_ATTEMPT, sources=attempt_sources(AttemptState.RUNNING))

_RAISE_REPORT = "report_seq = CASE WHEN report_seq < {bigint} THEN {bigint} ELSE report_seq END"
_REPORT = _update("attempts", _RAISE_REPORT, key=_ATTEMPT, sources=AttemptState)
FINISH_WHOLE = {
    state: _update(
        "attempts",
        f"{_FINISH}, started_at_us = {{bigint}}, worker_pid = {{bigint}}, generation = {{bigint}}, {_RAISE_REPORT}",
        key=_ATTEMPT,
        sources={AttemptState.DISPATCHED},
    )
    for state in AttemptState
}
"""Changes of an attempt that starts, is reported on and ends in one batch, by its final state."""
_REPORT_PROGRESS = _update("attempts", _RAISE_REPORT + ", progress_json = {text}", key=_ATTEMPT, sources=AttemptState)


def _key(t: Any) -> Row:
    return t.run_id, t.step_index, t.attempt


def _finish_run_row(t: FinishRun) -> Row:
    return (
        t.state.value,
        *reason_pair(t.reason),
        clean(t.error),
        t.rows_affected,
        t.at_us,
        t.run_id,
    )


def _outcome_row(t: FinishAttempt) -> Row:
    return (
        t.state.value,
        *reason_pair(t.reason),
        clean(t.error),
        t.rows_affected,
        t.at_us,
        t.extras_json,
        t.has_result,
        t.peak_rss_bytes,
        t.cpu_seconds,
    )


def whole_row(start: StartAttempt, report: RecordReport, finish: FinishAttempt) -> Row:
    """Return the row for ``FINISH_WHOLE``."""
    began = (start.at_us, start.worker_pid, start.generation)
    return *_outcome_row(finish), *began, report.report_seq, report.report_seq, *_key(finish)


def _report_row(t: RecordReport) -> Row:
    progress = (clean(t.progress_json),) if t.progress_json else ()
    return t.report_seq, t.report_seq, *progress, *_key(t)


CHANGES: Mapping[type[Any], Change] = {
    SetNextFire: Change(
        _always(
            bulk_insert(
                schema.schedules,
                on_conflict="(job_id, preset) DO UPDATE"
                " SET next_fire_us = excluded.next_fire_us, fingerprint = excluded.fingerprint",
            )
        ),
        lambda t: (t.job_id, t.preset, t.next_fire_us, t.fingerprint),
    ),
    SetPause: Change(
        _always(
            bulk_insert(
                schema.pauses,
                on_conflict='(scope, name) DO UPDATE SET "by" = excluded."by", why = excluded.why,'
                " since_us = excluded.since_us, until_us = excluded.until_us",
            )
        ),
        lambda t: (
            t.pause.scope,
            t.pause.name,
            clean(t.pause.by),
            clean(t.pause.why),
            t.pause.since_us,
            t.pause.until_us,
        ),
    ),
    ClearPause: Change(
        _always(BulkStatement.parse("DELETE FROM pauses WHERE scope = {text} AND name = {text}")),
        lambda t: (t.scope, t.name),
    ),
    QueueRun: Change(_always(bulk_insert(schema.runs)), lambda t: run_row(t.run)),
    FoldRun: Change(
        _always(
            _update(
                "runs",
                # Retention uses the newest fire of the row. A late fire does not move it back.
                "fold_count = fold_count + {bigint}"
                ", fold_last_us = CASE WHEN fold_last_us < {bigint} THEN {bigint} ELSE fold_last_us END"
                ", finished_at_us = CASE WHEN finished_at_us < {bigint} THEN {bigint} ELSE finished_at_us END",
                key=_RUN + " AND fold_count IS NOT NULL",
                sources={RunState.SKIPPED, RunState.MISSED},
            )
        ),
        lambda t: (t.add_count, *[t.last_us] * 4, t.run_id),
    ),
    RequestCancel: Change(
        _always(
            _update(
                "runs",
                "cancel_at_us = {bigint}, cancel_by = {text}, cancel_why = {text}, cancel_code = {text}",
                key=_RUN + " AND cancel_at_us IS NULL",
                sources={RunState.QUEUED, RunState.RUNNING},
            )
        ),
        lambda t: (*cancel_row(t.cancel), t.run_id),
    ),
    StartRun: Change(
        _always(_update("runs", _START_RUN, key=_RUN, sources=run_sources(RunState.RUNNING))),
        lambda t: (t.at_us, t.run_id),
    ),
    StartAttempt: Change(
        lambda t: _START_CALL_JOB if t.child_run_id else _START_DISPATCHED,
        lambda t: (t.at_us, t.worker_pid, t.generation, t.child_run_id, *_key(t)),
    ),
    AppendLog: Change(_always(bulk_insert(schema.log_chunks)), lambda t: chunk_row(t.chunk)),
    RecordReport: Change(lambda t: _REPORT_PROGRESS if t.progress_json else _REPORT, _report_row),
    FinishAttempt: Change(lambda t: _FINISH_ATTEMPT[t.state], lambda t: (*_outcome_row(t), *_key(t))),
    OpenAttempt: Change(_always(bulk_insert(schema.attempts)), lambda t: attempt_row(t.attempt)),
    DispatchAttempt: Change(
        _always(
            _update(
                "attempts",
                "state = 'DISPATCHED', " + _CLEAR_REASON + ", host = {text}, incarnation = {text},"
                " epoch = {bigint}, dispatched_at_us = {bigint}",
                key=_ATTEMPT,
                sources=attempt_sources(AttemptState.DISPATCHED),
            )
        ),
        lambda t: (t.host, t.incarnation, t.epoch, t.at_us, *_key(t)),
    ),
    FinishRun: Change(lambda t: _FINISH_RUN[t.state], _finish_run_row),
}
"""The row change of each kind of transition; a Notice changes none."""


def _queue_row_touched(t: QueueRun, touch: Touch) -> Row:
    return *run_row(t.run)[:-3], touch.lines, touch.seq, touch.step


TOUCHING: Mapping[type[Any], TouchingChange] = {
    QueueRun: TouchingChange(CHANGES[QueueRun].statement, _queue_row_touched),
    StartRun: TouchingChange(
        _always(
            _update(
                "runs",
                f"{_START_RUN}, {_TOUCH}, current_step = COALESCE(NULLIF({{text}}, ''), current_step)",
                key=_RUN,
                sources=run_sources(RunState.RUNNING),
            )
        ),
        lambda t, touch: (t.at_us, touch.seq, touch.lines, touch.step, t.run_id),
    ),
    FinishRun: TouchingChange(
        lambda t: _FINISH_RUN_TOUCHED[t.state],
        lambda t, touch: (*_finish_run_row(t)[:-1], touch.seq, touch.lines, t.run_id),
    ),
}
"""The changes of a run that include its touch, in the order of the phases; the last of a batch includes it."""
