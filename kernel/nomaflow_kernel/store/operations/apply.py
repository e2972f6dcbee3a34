"""Applying a batch of transitions: first all together, and one by one where something did not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, select

from nomaflow_kernel.domain.records import EventRecord
from nomaflow_kernel.domain.transitions import (
    PHASES,
    AppendLog,
    DispatchAttempt,
    FinishAttempt,
    FinishRun,
    FoldRun,
    OpenAttempt,
    QueueRun,
    RecordReport,
    SetNextFire,
    StartAttempt,
    StartRun,
    Transition,
    run_of,
)
from nomaflow_kernel.ports import ApplyResult, DuplicateRun
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.bulk import BulkStatement, bulk_insert
from nomaflow_kernel.store.driver import run
from nomaflow_kernel.store.operations.duplicates import find_duplicate
from nomaflow_kernel.store.operations.happenings import event_of
from nomaflow_kernel.store.operations.phases import CHANGES, Row
from nomaflow_kernel.store.rows import event_row
from nomaflow_kernel.store.session import WriteSession

__all__ = ["apply_transitions"]

_INSERT_DEFINITION = bulk_insert(schema.definitions)
_INSERT_EVENT = bulk_insert(schema.events, on_conflict="DO NOTHING")
_TOUCH_RUN = BulkStatement.parse(
    "UPDATE runs SET last_event_seq = COALESCE(NULLIF({bigint}, 0), last_event_seq),"
    " current_step = COALESCE(NULLIF({text}, ''), current_step), log_lines = log_lines + {bigint}"
    " WHERE run_id = {text}"
)

_RUN_EXISTS = select(schema.runs.c.run_id).where(schema.runs.c.run_id == bindparam("run_id"))

_CHAINED = frozenset({StartRun, StartAttempt, FinishAttempt, OpenAttempt, DispatchAttempt, FinishRun})
"""Kinds that build on each other: when one of a run is lost, the later ones of that run in the batch are lost too."""

_STEP_BEGINS = frozenset({"attempt.pending", "attempt.dispatched", "attempt.started"})


@dataclass(frozen=True, slots=True)
class _Item:
    """One change of a row, and the indices of the transitions that it stands for."""

    indices: tuple[int, ...]
    transition: Any


@dataclass(slots=True)
class _Losses:
    """What could not be applied, gathered one by one.

    :param unfolded: run id of a fold whose row is gone → what made the row in its place
    :param in_place: index → what was applied instead
    """

    duplicates: dict[str, DuplicateRun] = field(default_factory=dict)
    unfolded: dict[str, QueueRun] = field(default_factory=dict)
    in_place: dict[int, Transition] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    dropped_runs: set[str] = field(default_factory=set)
    broken_runs: set[str] = field(default_factory=set)

    def drops(self, item: _Item) -> bool:
        run_id = run_of(item.transition)
        if run_id in self.dropped_runs:
            return True
        return run_id in self.broken_runs and type(item.transition) in _CHAINED

    def lose(self, item: _Item) -> None:
        self.lost.update(item.indices)
        if run_of(item.transition) in self.dropped_runs:
            self.dropped.update(item.indices)
        if type(item.transition) in _CHAINED:
            self.broken_runs.add(run_of(item.transition))


def apply_transitions(session: WriteSession, transitions: Sequence[Transition], *, at_us: int) -> ApplyResult:
    """Apply a batch: change the rows, store the definitions, append the events.

    Where a row did not change as expected, the batch starts over and goes one by one, to find what was lost. In a run
    of which a change was lost, later changes of state are lost too, since they build on it; its logs are kept.
    """
    items = _items(transitions)
    connection = session.connection
    run(connection, "SAVEPOINT batch")
    _store_definitions(session, items.get(QueueRun, ()))
    losses = _Losses()
    if not _apply_together(session, items):
        run(connection, "ROLLBACK TO SAVEPOINT batch")
        losses = _apply_one_by_one(session, items)
    run(connection, "RELEASE SAVEPOINT batch")
    done = [losses.in_place.get(index, transition) for index, transition in enumerate(transitions)]
    events = _append_events(session, done, losses.lost, at_us=at_us)
    _touch_runs(session, done, losses.lost, events)
    return ApplyResult(
        duplicates=losses.duplicates,
        lost=frozenset(losses.lost),
        dropped=frozenset(losses.dropped),
        unfolded={gone: made.run.run_id for gone, made in losses.unfolded.items()},
        events=events,
    )


def _items(transitions: Sequence[Transition]) -> dict[type[Any], list[_Item]]:
    items: dict[type[Any], list[_Item]] = {}
    for index, transition in enumerate(transitions):
        items.setdefault(type(transition), []).append(_Item((index,), transition))
    if RecordReport in items:
        items[RecordReport] = _merge_reports(items[RecordReport])
    if SetNextFire in items:
        items[SetNextFire] = _keep_last_fire(items[SetNextFire])
    return items


def _merge_reports(items: Iterable[_Item]) -> list[_Item]:
    """Make one report of those of one attempt: the highest number, the progress that came last."""
    merged: dict[tuple[str, int, int], _Item] = {}
    for item in items:
        t = item.transition
        key = (t.run_id, t.step_index, t.attempt)
        earlier = merged.get(key)
        if earlier is None:
            merged[key] = item
            continue
        report = RecordReport(
            run_id=t.run_id,
            job_id=t.job_id,
            step_index=t.step_index,
            step=t.step,
            attempt=t.attempt,
            report_seq=max(t.report_seq, earlier.transition.report_seq),
            at_us=t.at_us,
            progress_json=t.progress_json or earlier.transition.progress_json,
        )
        merged[key] = _Item(earlier.indices + item.indices, report)
    return list(merged.values())


def _keep_last_fire(items: Iterable[_Item]) -> list[_Item]:
    return list({(i.transition.job_id, i.transition.preset): i for i in items}.values())


def _store_definitions(session: WriteSession, items: Iterable[_Item]) -> None:
    missing: dict[str, Row] = {}
    for item in items:
        run = item.transition.run
        if run.definition_digest not in session.known_digests and run.definition_digest not in missing:
            missing[run.definition_digest] = (
                run.definition_digest,
                run.job_id,
                item.transition.definition_json,
            )
    _INSERT_DEFINITION.execute(session.connection, list(missing.values()))
    session.new_digests.update(missing)


def _apply_together(session: WriteSession, items: Mapping[type[Any], Sequence[_Item]]) -> bool:
    """Execute equal statements together; return False as soon as one changed fewer rows than it should."""
    for phase in PHASES:
        change = CHANGES.get(phase)
        if change is None or phase not in items:
            continue
        groups: dict[BulkStatement, list[Row]] = {}
        for item in items[phase]:
            groups.setdefault(change.statement(item.transition), []).append(change.row(item.transition))
        for statement, rows in groups.items():
            if statement.execute(session.connection, rows) != len(rows):
                return False
    return True


def _apply_one_by_one(session: WriteSession, items: Mapping[type[Any], Sequence[_Item]]) -> _Losses:
    """Insert the new runs, then go in the order given, which is the order in which the changes of a run build on each
    other."""
    _store_definitions(session, items.get(QueueRun, ()))
    losses = _Losses()
    queued: set[str] = set()
    for item in items.get(QueueRun, ()):
        run_id = item.transition.run.run_id
        duplicate = find_duplicate(session.connection, item.transition.run)
        if duplicate is not None:
            losses.duplicates[run_id] = duplicate
            losses.lost.update(item.indices)
            losses.dropped.update(item.indices)
            if run_id not in queued:
                losses.dropped_runs.add(run_id)
            continue
        _change_one(session, item, losses)
        queued.add(run_id)
    rest = [item for kind, some in items.items() if kind is not QueueRun for item in some]
    for item in sorted(rest, key=lambda item: item.indices):
        _change_one(session, _fold_elsewhere(session, item, losses), losses)
    return losses


def _fold_elsewhere(session: WriteSession, item: _Item, losses: _Losses) -> _Item:
    """Return what records fires whose row is gone: a row in its place, and changes of that one from then on."""
    fold = item.transition
    if not isinstance(fold, FoldRun) or losses.drops(item):
        return item
    made = losses.unfolded.get(fold.run_id)
    if made is not None:
        return _Item(item.indices, replace(fold, run_id=made.run.run_id))
    if session.connection.execute(_RUN_EXISTS, {"run_id": fold.run_id}).first() is not None:
        return item
    losses.unfolded[fold.run_id] = fold.otherwise
    losses.in_place.update(dict.fromkeys(item.indices, fold.otherwise))
    instead = _Item(item.indices, fold.otherwise)
    _store_definitions(session, (instead,))
    return instead


def _change_one(session: WriteSession, item: _Item, losses: _Losses) -> None:
    if losses.drops(item):
        losses.lose(item)
        return
    change = CHANGES.get(type(item.transition))
    if change is None:
        return
    row = change.row(item.transition)
    if change.statement(item.transition).execute(session.connection, [row]) != 1:
        losses.lose(item)


def _append_events(
    session: WriteSession, transitions: Sequence[Transition], lost: set[int], *, at_us: int
) -> list[EventRecord]:
    events: list[EventRecord] = []
    seq = session.last_event_seq
    for index, transition in enumerate(transitions):
        if index in lost:
            continue
        event = event_of(transition, seq=seq + 1, at_us=at_us)
        if event is not None:
            events.append(event)
            seq += 1
    _INSERT_EVENT.execute(session.connection, [event_row(event) for event in events])
    session.last_event_seq = seq
    return events


def _touch_runs(
    session: WriteSession, transitions: Sequence[Transition], lost: set[int], events: Sequence[EventRecord]
) -> None:
    """Raise each run's newest event and line count, and name the step it is at."""
    newest: dict[str, int] = {}
    steps: dict[str, str] = {}
    lines: dict[str, int] = {}
    for event in events:
        if event.run_id:
            newest[event.run_id] = event.seq
            if event.kind in _STEP_BEGINS:
                steps[event.run_id] = event.step
            elif event.kind == "run.finished":
                steps.pop(event.run_id, None)
    for index, transition in enumerate(transitions):
        if type(transition) is AppendLog and index not in lost:
            run_id = transition.chunk.run_id
            lines[run_id] = lines.get(run_id, 0) + transition.chunk.line_count
    rows = [
        (newest.get(run_id, 0), steps.get(run_id, ""), lines.get(run_id, 0), run_id)
        for run_id in newest.keys() | lines.keys()
    ]
    rows.sort(key=lambda row: row[3])
    _TOUCH_RUN.execute(session.connection, rows)
