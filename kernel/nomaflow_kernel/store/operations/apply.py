"""Applying a batch of transitions: all together first, then one by one if something did not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from sqlalchemy import bindparam, select

from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.history.transitions import (
    AppendAudit,
    AppendLog,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    FoldRun,
    OpenAttempt,
    QueueRun,
    StartAttempt,
    StartRun,
    Transition,
    run_of,
)
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.operations.changes import RowChange, change_of, touch, writes_of
from nomaflow_kernel.store.operations.duplicates import find_duplicate
from nomaflow_kernel.store.operations.events_of_transitions import event_of
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.statements import execute_all

_RUN_EXISTS = select(schema.runs.c.run_id).where(schema.runs.c.run_id == bindparam("run_id"))
_CHAINED = frozenset({StartRun, StartAttempt, FinishAttempt, OpenAttempt, DispatchAttempt, FinishRun})
"""Kinds that build on each other: if one of a run is lost, later ones of that run in the batch are lost too."""
_STEP_BEGINS = frozenset({"attempt.pending", "attempt.dispatched", "attempt.started"})


@dataclass(slots=True)
class _Losses:
    """Transitions that could not be applied, found one by one.

    :param unfolded: run id of a fold whose row is gone → the transition that created the row instead
    :param in_place: index → the transition that was applied instead
    """

    duplicates: dict[str, str] = field(default_factory=dict)
    unfolded: dict[str, QueueRun] = field(default_factory=dict)
    in_place: dict[int, Transition] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    dropped_runs: set[str] = field(default_factory=set)
    broken_runs: set[str] = field(default_factory=set)

    def drops(self, transition: Transition) -> bool:
        run_id = run_of(transition)
        return run_id in self.dropped_runs or (run_id in self.broken_runs and type(transition) in _CHAINED)

    def lose(self, index: int, transition: Transition) -> None:
        self.lost.add(index)
        if run_of(transition) in self.dropped_runs:
            self.dropped.add(index)
        if type(transition) in _CHAINED:
            self.broken_runs.add(run_of(transition))


def apply_transitions(session: WriteSession, transitions: Sequence[Transition], *, at_us: int) -> ApplyResult:
    """Apply a batch: change the rows, store the definitions, append the events.

    If a row does not change as expected, the session has the batch applied one by one, to find the lost transitions. If
    a run loses a change, its later changes of state are lost too, since they build on it; its logs are kept.
    """
    losses, done = _Losses(), transitions
    if session.one_by_one:
        losses = _apply_one_by_one(session, transitions)
        done = [losses.in_place.get(index, transition) for index, transition in enumerate(transitions)]
    else:
        _store_definitions(session, transitions)
        session.changes += [change for transition in transitions if (change := change_of(transition)) is not None]
    events = _events(session, done, losses.lost, at_us=at_us)
    session.changes += _touches(done, losses.lost, events)
    session.events += events
    if events:
        session.last_event_seq = events[-1].seq
    _append_audit(session, transitions, losses.duplicates)
    return ApplyResult(
        duplicates=losses.duplicates,
        lost=frozenset(losses.lost),
        dropped=frozenset(losses.dropped),
        unfolded={gone: made.run.run_id for gone, made in losses.unfolded.items()},
        events=events,
    )


def _append_audit(session: WriteSession, transitions: Sequence[Transition], duplicates: Mapping[str, str]) -> None:
    """Append the audit's rows; one about a run that turned out to be a duplicate names the other run."""
    for each in transitions:
        if type(each) is AppendAudit:
            known = duplicates.get(each.record.correlation)
            session.audit.append(each.record if known is None else replace(each.record, correlation=known))


def _touches(transitions: Sequence[Transition], lost: set[int], events: Sequence[EventRecord]) -> Iterator[RowChange]:
    """Yield, for each run, its newest event, its current step and what its log gains; lost transitions do not count."""
    touched: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.run_id:
            values = touched.setdefault(event.run_id, {})
            values["last_event_seq"] = event.seq
            if event.kind in _STEP_BEGINS:
                values["current_step"] = event.step
            elif event.kind == "run.finished":
                values.pop("current_step", None)
    for index, transition in enumerate(transitions):
        if type(transition) is AppendLog and index not in lost:
            values = touched.setdefault(transition.chunk.run_id, {})
            values["log_lines"] = values.get("log_lines", 0) + transition.chunk.line_count
            values["log_levels"] = values.get("log_levels", 0) | transition.chunk.levels
    return (touch(run_id, values) for run_id, values in touched.items())


def _store_definitions(session: WriteSession, transitions: Sequence[Transition]) -> None:
    for t in transitions:
        if type(t) is QueueRun and t.run.definition_digest not in session.known_digests:
            session.definitions[t.run.definition_digest] = (t.run.definition_digest, t.run.job_id, t.definition_json)


def _apply_one_by_one(session: WriteSession, transitions: Sequence[Transition]) -> _Losses:
    """Insert the new runs, then apply the rest in the given order, in which changes of a run build on each other."""
    _store_definitions(session, transitions)
    losses = _Losses()
    queued: set[str] = set()
    for index, transition in enumerate(transitions):
        if not isinstance(transition, QueueRun):
            continue
        run_id = transition.run.run_id
        duplicate = find_duplicate(session.connection, transition.run)
        if duplicate is not None:
            losses.duplicates[run_id] = duplicate
            losses.lost.add(index)
            losses.dropped.add(index)
            if run_id not in queued:
                losses.dropped_runs.add(run_id)
            continue
        _apply_one(session, index, transition, losses)
        queued.add(run_id)
    for index, transition in enumerate(transitions):
        if not isinstance(transition, QueueRun):
            _apply_one(session, index, _fold_elsewhere(session, index, transition, losses), losses)
    return losses


def _fold_elsewhere(session: WriteSession, index: int, fold: Transition, losses: _Losses) -> Transition:
    """Replace a fold whose row is gone: by the insert of a new row, and later by folds into that row."""
    if not isinstance(fold, FoldRun) or losses.drops(fold):
        return fold
    made = losses.unfolded.get(fold.run_id)
    if made is not None:
        return replace(fold, run_id=made.run.run_id)
    if session.connection.execute(_RUN_EXISTS, {"run_id": fold.run_id}).first() is not None:
        return fold
    losses.unfolded[fold.run_id] = losses.in_place[index] = fold.otherwise
    _store_definitions(session, [fold.otherwise])
    return fold.otherwise


def _apply_one(session: WriteSession, index: int, transition: Transition, losses: _Losses) -> None:
    change = change_of(transition)
    if losses.drops(transition) or (change is not None and not execute_all(session.connection, writes_of([change]))):
        losses.lose(index, transition)


def _events(
    session: WriteSession, transitions: Sequence[Transition], lost: set[int], *, at_us: int
) -> list[EventRecord]:
    """Return the events of the transitions that were not lost, numbered from the newest stored one on."""
    events: list[EventRecord] = []
    seq = session.last_event_seq
    for index, transition in enumerate(transitions):
        if index in lost:
            continue
        event = event_of(transition, seq=seq + 1, at_us=at_us)
        if event is not None:
            events.append(event)
            seq += 1
    return events
