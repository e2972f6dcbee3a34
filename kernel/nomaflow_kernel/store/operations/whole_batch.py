"""A batch in which everything fits: equal statements together, and one statement for all changes of a row.

The common batch: an attempt that starts, is reported on and ends in it is one update instead of three, and a run's
newest event goes with the change of its state. Less common batches are applied one by one after this has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.history.transitions import (
    PHASES,
    AppendLog,
    FinishAttempt,
    RecordReport,
    StartAttempt,
    Transition,
    run_of,
)
from nomaflow_kernel.store.bulk import BulkStatement
from nomaflow_kernel.store.operations.row_changes import CHANGES, FINISH_WHOLE, TOUCHING, Touch, whole_row

__all__ = ["Item", "apply_together", "touch_runs", "touches"]

_TOUCH_RUN = BulkStatement.parse(
    "UPDATE runs SET last_event_seq = COALESCE(NULLIF({bigint}, 0), last_event_seq),"
    " current_step = COALESCE(NULLIF({text}, ''), current_step), log_lines = log_lines + {bigint}"
    " WHERE run_id = {text}"
)
_STEP_BEGINS = frozenset({"attempt.pending", "attempt.dispatched", "attempt.started"})


class Item(NamedTuple):
    """One change of a row, and the indices of the transitions it stands for."""

    indices: tuple[int, ...]
    transition: Any


def touches(transitions: Sequence[Transition], lost: set[int], events: Sequence[EventRecord]) -> dict[str, Touch]:
    """Return, by run, the newest event, the current step and the added log lines of the transitions not lost."""
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
    return {
        run_id: Touch(newest.get(run_id, 0), steps.get(run_id, ""), lines.get(run_id, 0))
        for run_id in newest.keys() | lines.keys()
    }


def touch_runs(connection: Connection, touched: Mapping[str, Touch]) -> None:
    """Raise each run's newest event and line count, and set its current step."""
    _TOUCH_RUN.execute(connection, [(*touch, run_id) for run_id, touch in sorted(touched.items())])


def apply_together(
    connection: Connection, items: Mapping[type[Any], Sequence[Item]], touched: Mapping[str, Touch]
) -> bool:
    """Change all rows; return False as soon as a statement changes fewer rows than expected."""
    left = dict(touched)
    for statement, rows in _statements(items, left):
        if statement.execute(connection, rows) != len(rows):
            return False
    touch_runs(connection, left)
    return True


def _statements(
    items: Mapping[type[Any], Sequence[Item]], touched: dict[str, Touch]
) -> Iterator[tuple[BulkStatement, list[tuple[Any, ...]]]]:
    """Yield the statements in the order of the phases, and remove the touches included in them."""
    by_kind = {kind: [item.transition for item in some] for kind, some in items.items()}
    whole = _take_whole_attempts(by_kind)
    carriers = {run_of(t): t for kind in TOUCHING for t in by_kind.get(kind, ())}
    for phase in PHASES:
        groups: dict[BulkStatement, list[tuple[Any, ...]]] = {}
        if phase is FinishAttempt:
            for start, report, finish in whole:
                groups.setdefault(FINISH_WHOLE[finish.state], []).append(whole_row(start, report, finish))
        change, touching = CHANGES.get(phase), TOUCHING.get(phase)
        for transition in by_kind.get(phase, ()) if change is not None else ():
            touch = None
            if touching is not None and carriers[run_of(transition)] is transition:
                touch = touched.pop(run_of(transition), None)
            if touching is not None and touch is not None:
                groups.setdefault(touching.statement(transition), []).append(touching.row(transition, touch))
            elif change is not None:
                groups.setdefault(change.statement(transition), []).append(change.row(transition))
        yield from groups.items()


def _take_whole_attempts(by_kind: dict[type[Any], list[Any]]) -> list[tuple[StartAttempt, RecordReport, FinishAttempt]]:
    """Remove and return the attempts of a host that start, are reported on and end in this batch."""
    ends = {_key(t): t for t in by_kind.get(FinishAttempt, ())}
    starts = {_key(t): t for t in by_kind.get(StartAttempt, ()) if not t.child_run_id}
    reports = {_key(t): t for t in by_kind.get(RecordReport, ()) if not t.progress_json}
    keys = [key for key in ends if key in starts and key in reports]
    if not keys:
        return []
    whole = [(starts[key], reports[key], ends[key]) for key in keys]
    taken = {id(t) for parts in whole for t in parts}
    for kind in (StartAttempt, RecordReport, FinishAttempt):
        by_kind[kind] = [t for t in by_kind[kind] if id(t) not in taken]
    return whole


def _key(t: Any) -> tuple[str, int, int]:
    return t.run_id, t.step_index, t.attempt
