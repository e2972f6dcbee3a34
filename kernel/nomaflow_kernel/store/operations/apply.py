"""Applying a batch of transitions: all together first, then one by one if something did not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, select

from nomaflow_kernel.history.port import ApplyResult
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.history.transitions import (
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
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.bulk import bulk_insert
from nomaflow_kernel.store.driver import run
from nomaflow_kernel.store.operations.duplicates import find_duplicate
from nomaflow_kernel.store.operations.events_of_transitions import event_of
from nomaflow_kernel.store.operations.row_changes import CHANGES, Row
from nomaflow_kernel.store.operations.whole_batch import Item, apply_together, touch_runs, touches
from nomaflow_kernel.store.rows import event_row
from nomaflow_kernel.store.session import WriteSession

__all__ = ["apply_transitions"]

_INSERT_DEFINITION = bulk_insert(schema.definitions)
_INSERT_EVENT = bulk_insert(schema.events, on_conflict="DO NOTHING")
_RUN_EXISTS = select(schema.runs.c.run_id).where(schema.runs.c.run_id == bindparam("run_id"))
_CHAINED = frozenset({StartRun, StartAttempt, FinishAttempt, OpenAttempt, DispatchAttempt, FinishRun})
"""Kinds that build on each other: if one of a run is lost, later ones of that run in the batch are lost too."""


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

    def drops(self, item: Item) -> bool:
        run_id = run_of(item.transition)
        if run_id in self.dropped_runs:
            return True
        return run_id in self.broken_runs and type(item.transition) in _CHAINED

    def lose(self, item: Item) -> None:
        self.lost.update(item.indices)
        if run_of(item.transition) in self.dropped_runs:
            self.dropped.update(item.indices)
        if type(item.transition) in _CHAINED:
            self.broken_runs.add(run_of(item.transition))


def apply_transitions(session: WriteSession, transitions: Sequence[Transition], *, at_us: int) -> ApplyResult:
    """Apply a batch: change the rows, store the definitions, append the events.

    If a row did not change as expected, the batch starts over one by one, to find the lost transitions. If a run loses
    a change, its later changes of state are lost too, since they build on it; its logs are kept.
    """
    items = _items(transitions)
    connection = session.connection
    run(connection, "SAVEPOINT batch")
    _store_definitions(session, items.get(QueueRun, ()))
    losses = _Losses()
    events = _events(session, transitions, losses.lost, at_us=at_us)
    if not apply_together(connection, items, touches(transitions, losses.lost, events)):
        run(connection, "ROLLBACK TO SAVEPOINT batch")
        losses = _apply_one_by_one(session, items)
        done = [losses.in_place.get(index, transition) for index, transition in enumerate(transitions)]
        events = _events(session, done, losses.lost, at_us=at_us)
        touch_runs(connection, touches(done, losses.lost, events))
    run(connection, "RELEASE SAVEPOINT batch")
    _INSERT_EVENT.execute(connection, [event_row(event) for event in events])
    if events:
        session.last_event_seq = events[-1].seq
    return ApplyResult(
        duplicates=losses.duplicates,
        lost=frozenset(losses.lost),
        dropped=frozenset(losses.dropped),
        unfolded={gone: made.run.run_id for gone, made in losses.unfolded.items()},
        events=events,
    )


def _items(transitions: Sequence[Transition]) -> dict[type[Any], list[Item]]:
    items: dict[type[Any], list[Item]] = {}
    for index, transition in enumerate(transitions):
        items.setdefault(type(transition), []).append(Item((index,), transition))
    if RecordReport in items:
        items[RecordReport] = _merge_reports(items[RecordReport])
    if SetNextFire in items:
        items[SetNextFire] = _keep_last_fire(items[SetNextFire])
    return items


def _merge_reports(items: Iterable[Item]) -> list[Item]:
    """Merge the reports of each attempt into one: the highest number, the latest progress."""
    merged: dict[tuple[str, int, int], Item] = {}
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
        merged[key] = Item(earlier.indices + item.indices, report)
    return list(merged.values())


def _keep_last_fire(items: Iterable[Item]) -> list[Item]:
    return list({(i.transition.job_id, i.transition.preset): i for i in items}.values())


def _store_definitions(session: WriteSession, items: Iterable[Item]) -> None:
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


def _apply_one_by_one(session: WriteSession, items: Mapping[type[Any], Sequence[Item]]) -> _Losses:
    """Insert the new runs, then apply the rest in the given order, in which changes of a run build on each other."""
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


def _fold_elsewhere(session: WriteSession, item: Item, losses: _Losses) -> Item:
    """Replace a fold whose row is gone: by the insert of a new row, and later by folds into that row."""
    fold = item.transition
    if not isinstance(fold, FoldRun) or losses.drops(item):
        return item
    made = losses.unfolded.get(fold.run_id)
    if made is not None:
        return Item(item.indices, replace(fold, run_id=made.run.run_id))
    if session.connection.execute(_RUN_EXISTS, {"run_id": fold.run_id}).first() is not None:
        return item
    losses.unfolded[fold.run_id] = fold.otherwise
    losses.in_place.update(dict.fromkeys(item.indices, fold.otherwise))
    instead = Item(item.indices, fold.otherwise)
    _store_definitions(session, (instead,))
    return instead


def _change_one(session: WriteSession, item: Item, losses: _Losses) -> None:
    if losses.drops(item):
        losses.lose(item)
        return
    change = CHANGES.get(type(item.transition))
    if change is None:
        return
    row = change.row(item.transition)
    if change.statement(item.transition).execute(session.connection, [row]) != 1:
        losses.lose(item)


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
