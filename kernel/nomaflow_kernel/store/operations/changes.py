"""The row change of each transition, and how the changes of one row become one.

An attempt that starts, is reported on and ends in one batch is one update instead of three, and a run's newest event
goes with the change of its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from operator import add, itemgetter, or_
from typing import Any, Literal

from msgspec import Struct

from nomaflow_kernel.history.records import AttemptRecord, RunRecord
from nomaflow_kernel.history.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS
from nomaflow_kernel.history.transitions import (
    AppendLog,
    AttemptEnd,
    ClearPause,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    FoldRun,
    OpenAttempt,
    QueueRun,
    RecordReport,
    RecordRung,
    RequestCancel,
    SetNextFire,
    SetPause,
    StartAttempt,
    StartRun,
    Transition,
)
from nomaflow_kernel.store.rows import ATTEMPTS, CHUNKS, FIRES, PAUSES, RUNS, Rows
from nomaflow_kernel.store.statements import ADDED, JOINED, ONCE, RAISED, Statement, Write, delete, insert, update

_RUN_ENDS = Rows(RUNS.table, RunRecord, only=("state", "reason", "error", "rows_affected"))
_ATTEMPT_ENDS = Rows(ATTEMPTS.table, AttemptRecord, only=AttemptEnd.__struct_fields__)
_DISPATCHED = Rows(ATTEMPTS.table, AttemptRecord, only=("host", "incarnation", "epoch"))
_STARTED = Rows(ATTEMPTS.table, AttemptRecord, only=("worker_pid", "generation", "child_run_id", "exclusive"))
_CANCEL = Rows(RUNS.table, RunRecord, only=("cancel",))
_FACTS = Rows(ATTEMPTS.table, AttemptRecord, only=("facts",))
_PROGRESS = Rows(ATTEMPTS.table, AttemptRecord, only=("report_seq", "progress_json"))
_NO_REASON = {"reason_code": "", "reason_message": ""}


def _sources(following: Mapping[Any, frozenset[Any]]) -> dict[str, tuple[str, ...]]:
    """Return the states from which each may be entered, as plain texts: hashing a member of an enum is slow."""
    return {to.value: tuple(each.value for each, after in following.items() if to in after) for to in following}


_FROM_RUN = _sources(RUN_TRANSITIONS)
_FROM_ATTEMPT = _sources(ATTEMPT_TRANSITIONS)


class RowChange(Struct):
    """The change of one row.

    :param values: column → value; what an update does with it depends on the column, see ``statements``
    :param sources: the states that an update may find; None for any
    :param how: makes, makes or replaces, changes or removes the row
    :param required: whether a row that does not change as expected means a lost transition
    """

    rows: Rows[Any]
    key: tuple[Any, ...]
    values: dict[str, Any]
    sources: tuple[str, ...] | None = None
    how: Literal["insert", "replace", "update", "delete"] = "update"
    required: bool = True

    def include(self, later: RowChange) -> bool:
        """Make a later change of the row a part of this one; return False if it cannot follow or be joined."""
        state = self.values.get("state")
        if later.how != "update" and (self.how, later.how) != ("replace", "replace"):
            return False
        if later.sources is not None and state is None:
            self.sources = tuple(each for each in later.sources if self.sources is None or each in self.sources)
        elif later.sources is not None and state not in later.sources:
            return False
        self.required |= later.required
        joined = {}
        for column in self.values.keys() & later.values.keys() & _SPECIAL:
            earlier = self.values[column]
            if column in (ADDED if earlier is None else ONCE):
                return False
            if earlier is not None:
                joined[column] = _JOINED[column](earlier, later.values[column])
        self.values.update(later.values, **joined)
        return self.sources != ()


_SPECIAL = ADDED | JOINED | RAISED | ONCE
_JOINED: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(ADDED, add),
    **dict.fromkeys(JOINED, or_),
    **dict.fromkeys(RAISED, max),
}


def change_of(transition: Transition) -> RowChange | None:
    """Return the change of a transition, or None for a notice."""
    make = _MAKERS.get(type(transition))
    return None if make is None else make(transition)


def touch(run_id: str, values: dict[str, Any]) -> RowChange:
    """Return a change of a run that leaves its state alone; if the run is gone, nothing is lost."""
    return RowChange(RUNS, (run_id,), values, required=False)


def merge(changes: Iterable[RowChange]) -> list[RowChange] | None:
    """Return one change for each row, or None if the changes of a row cannot be joined."""
    joined: dict[tuple[Any, ...], RowChange] = {}
    for change in changes:
        earlier = joined.setdefault((change.rows, change.key), change)
        if earlier is not change and not earlier.include(change):
            return None
    return list(joined.values())


def writes_of(changes: Iterable[RowChange]) -> list[Write]:
    """Return the statements that make the changes, equal ones together."""
    groups: dict[tuple[Any, ...], list[list[Any]]] = {}
    for change in changes:
        row = [*change.values.values()]
        if change.how in ("update", "delete"):
            row += change.key
        shape = (change.rows, change.how, change.required, change.sources, *change.values)
        groups.setdefault(shape, []).append(row)
    return [Write(_statement(shape), rows, required=shape[2]) for shape, rows in groups.items()]


@cache
def _statement(shape: tuple[Any, ...]) -> Statement:
    rows, how, _, sources, *columns = shape
    key = _key(rows)
    if how == "delete":
        return delete(rows.table, key)
    if how == "update":
        return update(rows.table, columns, key=key, sources=sources)
    return insert(rows.table, columns, replaces=how == "replace")


def _key(rows: Rows[Any]) -> list[str]:
    return [column.name for column in rows.table.primary_key.columns]


_KEYS = {rows: itemgetter(*_key(rows)) for rows in (RUNS, ATTEMPTS, CHUNKS, FIRES, PAUSES)}


def _insert(rows: Rows[Any], record: Any, how: Literal["insert", "replace"] = "insert") -> RowChange:
    values = rows.changes(record)
    key = _KEYS[rows](values)
    return RowChange(rows, key if isinstance(key, tuple) else (key,), values, how=how)


def _update_run(t: Any, values: dict[str, Any], sources: tuple[str, ...]) -> RowChange:
    return RowChange(RUNS, (t.run_id,), values, sources)


def _update_attempt(t: Any, values: dict[str, Any], sources: tuple[str, ...] | None) -> RowChange:
    return RowChange(ATTEMPTS, (t.run_id, t.step_index, t.attempt), values, sources)


def _set_next_fire(t: SetNextFire) -> RowChange:
    if t.next_fire_us is None:  # the row goes: a project may have new jobs with each release
        return RowChange(FIRES, (t.job_id, t.preset), {}, how="delete", required=False)
    return _insert(FIRES, t, "replace")


def _start_run(t: StartRun) -> RowChange:
    values = {"state": "RUNNING", **_NO_REASON, "started_at_us": t.at_us}
    return _update_run(t, values, _FROM_RUN["RUNNING"])


def _finish_run(t: FinishRun) -> RowChange:
    values = {**_RUN_ENDS.changes(t), "finished_at_us": t.at_us, "current_step": ""}
    return _update_run(t, values, _FROM_RUN[values["state"]])


def _fold_run(t: FoldRun) -> RowChange:
    # Retention uses the newest fire of the row.
    values = {"fold_count": t.add_count, "fold_last_us": t.last_us, "finished_at_us": t.last_us}
    return _update_run(t, values, ("SKIPPED", "MISSED"))


def _dispatch_attempt(t: DispatchAttempt) -> RowChange:
    values = {"state": "DISPATCHED", **_NO_REASON, **_DISPATCHED.changes(t), "dispatched_at_us": t.at_us}
    return _update_attempt(t, values, _FROM_ATTEMPT["DISPATCHED"])


def _start_attempt(t: StartAttempt) -> RowChange:
    values = {"state": "RUNNING", **_NO_REASON, **_STARTED.changes(t), "started_at_us": t.at_us}
    sources = _FROM_ATTEMPT["RUNNING"] if t.child_run_id else ("DISPATCHED",)
    return _update_attempt(t, values, sources)


def _record_report(t: RecordReport) -> RowChange:
    values = _PROGRESS.changes(t) if t.progress_json else {"report_seq": t.report_seq}
    if t.facts is not None:
        values |= _FACTS.changes(t)
    return _update_attempt(t, values, None)


def _finish_attempt(t: FinishAttempt) -> RowChange:
    values = {**_ATTEMPT_ENDS.changes(t.end), "finished_at_us": t.at_us}
    return _update_attempt(t, values, _FROM_ATTEMPT[values["state"]])


_MAKERS: Mapping[type[Any], Callable[[Any], RowChange]] = {
    SetNextFire: _set_next_fire,
    SetPause: lambda t: _insert(PAUSES, t.pause, "replace"),
    ClearPause: lambda t: RowChange(PAUSES, (t.scope, t.name), {}, how="delete"),
    QueueRun: lambda t: _insert(RUNS, t.run),
    OpenAttempt: lambda t: _insert(ATTEMPTS, t.attempt),
    AppendLog: lambda t: _insert(CHUNKS, t.chunk),
    StartRun: _start_run,
    FinishRun: _finish_run,
    FoldRun: _fold_run,
    RequestCancel: lambda t: _update_run(t, _CANCEL.changes(t), ("QUEUED", "RUNNING")),
    DispatchAttempt: _dispatch_attempt,
    StartAttempt: _start_attempt,
    RecordReport: _record_report,
    RecordRung: lambda t: _update_attempt(t, _FACTS.changes(t), None),
    FinishAttempt: _finish_attempt,
}
