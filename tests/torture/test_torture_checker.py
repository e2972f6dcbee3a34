"""The checker of invariants sees what it is there for: each promise, broken on purpose in a record that was good."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from torture_invariants import violations
from torture_play import Acknowledged, Record
from torture_schedule import KERNEL_POINTS, Order, Schedule, make_schedule

from nomaflow.client.values import AncestorView, AttemptView, EventView, LogLine, ReasonView, RunView, StepView

KEY = "run_1/quick/1"
KINDS = ("run.queued", "run.started", "attempt.dispatched", "attempt.started", "attempt.finished", "run.finished")


def _good(tmp_path: Path) -> Record:
    """Return the record of a schedule in which one run went well."""
    order = Order(at_ms=0, job="quick", again_after_ms=0)
    attempt = AttemptView(attempt_key=KEY, attempt=1, state="SUCCEEDED", rows_affected=3)
    run = RunView(
        run_id="run_1",
        job_id="quick",
        state="SUCCEEDED",
        steps=(StepView(name="quick", attempts=(attempt,)),),
        log_lines=2,
    )
    events = [
        EventView(
            seq=number,
            at=None,
            kind=kind,
            run_id="run_1",
            step="quick",
            attempt=1,
            run_state="SUCCEEDED" if kind == "run.finished" else "",
        )
        for number, kind in enumerate(KINDS, 11)
    ]
    ledger = tmp_path / "ledger"
    entries = [("start", {}), ("end", {"outcome": "ok", "rows": 3})]
    ledger.write_text("".join(_entry(what, number, **more) for number, (what, more) in enumerate(entries)))
    lines = [LogLine(number, 0, 20, "torment", "quick", 1, f"line {number}") for number in (1, 2)]
    return Record(
        schedule=Schedule(seed=0, orders=(order,), faults=(), restart_ms={}, resume_at=0.5),
        ledger=ledger,
        base_seq=10,
        acknowledged=[Acknowledged(order=order, run_id="run_1", again="run_1")],
        watched=list(events),
        events=list(events),
        resumed=events[3:],
        resumed_after=13,
        runs={"run_1": run},
        logs={"run_1": lines},
    )


def _entry(what: str, at: int, *, key: str = KEY, **more: object) -> str:
    return json.dumps({"key": key, "pid": 0, "what": what, "at": at, **more}) + "\n"


def _append(record: Record, line: str) -> None:
    with record.ledger.open("a") as file:
        file.write(line)


def _change(record: Record, **changes: object) -> None:
    record.runs["run_1"] = structs.replace(record.runs["run_1"], **changes)  # type: ignore[arg-type]  # names of its fields


def _attempts(record: Record, *attempts: AttemptView) -> None:
    _change(record, steps=(StepView(name="quick", attempts=attempts),))


def _only(record: Record) -> AttemptView:
    return record.runs["run_1"].steps[0].attempts[0]


BREAKS: dict[str, tuple[str, Callable[[Record], object]]] = {
    "a trigger that is no run": ("I1", lambda record: record.acknowledged.clear()),
    "two runs of one request": (
        "I1",
        lambda record: record.acknowledged.append(replace(record.acknowledged.pop(), again="run_2")),
    ),
    "a run nobody asked for": (
        "I1",
        lambda record: (
            record.runs.update(run_2=structs.replace(record.runs["run_1"], run_id="run_2"))
            or record.logs.update(run_2=record.logs["run_1"])
        ),
    ),
    "a child of nobody": (
        "I1",
        lambda record: _change(record, parent_chain=(AncestorView(job_id="calls", run_id="run_0"),)),
    ),
    "a run that does not end": ("I1", lambda record: _change(record, state="RUNNING")),
    "a failure for no fault": (
        "I1",
        lambda record: _change(record, state="FAILED", reason=ReasonView(code="worker_died", message="it died")),
    ),
    "a cancel nobody wanted": (
        "I1",
        lambda record: _change(record, state="CANCELED", reason=ReasonView(code="canceled_by_user", message="so")),
    ),
    "an attempt that starts twice": ("I2", lambda record: _append(record, _entry("start", 5))),
    "an attempt unknown to history": ("I2", lambda record: _append(record, _entry("start", 5, key="run_1/quick/2"))),
    "attempts that overlap": (
        "I2",
        lambda record: _append(record, _entry("overlap", 5, other="run_1/quick/0", other_pid=1)),
    ),
    "a second attempt without need": (
        "I2",
        lambda record: _attempts(record, _only(record), structs.replace(_only(record), attempt=2)),
    ),
    "a second end of a run": ("I3", lambda record: record.events.append(structs.replace(record.events[-1], seq=17))),
    "a second end of an attempt": (
        "I3",
        lambda record: record.events.__setitem__(3, structs.replace(record.events[3], kind="attempt.finished")),
    ),
    "a lost log line": ("I4", lambda record: record.logs["run_1"].pop()),
    "a result that is another": (
        "I4",
        lambda record: _attempts(record, structs.replace(_only(record), rows_affected=4)),
    ),
    "a success that never was": ("I2", lambda record: record.ledger.write_text(_entry("start", 1))),
    "a failure without a reason": ("I6", lambda record: _change(record, state="FAILED")),
    "an event that a watcher missed": ("I7", lambda record: record.watched.pop(2)),
    "an event that came twice": ("I7", lambda record: record.watched.insert(2, record.watched[2])),
    "a gap in the events": ("I7", lambda record: record.events.pop(2)),
    "a resumed watcher that missed one": ("I7", lambda record: record.resumed.pop(0)),
}


def test_a_good_record_is_good(tmp_path: Path) -> None:
    """The checker finds nothing wrong in a good record."""
    assert violations(_good(tmp_path)) == []


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_promise_is_seen(tmp_path: Path, name: str) -> None:
    """Each way to break a promise is found, under the number of the promise."""
    number, break_it = BREAKS[name]
    record = _good(tmp_path)
    break_it(record)
    assert any(number in found for found in violations(record))


def test_a_seed_is_always_the_same_schedule() -> None:
    """A schedule depends on its seed alone, so that a failure can be played again."""
    assert make_schedule(7) == make_schedule(7)
    assert make_schedule(7) != make_schedule(8)


def test_every_moment_comes_up() -> None:
    """Every failpoint of the kernel is armed at least once over a thousand seeds."""
    armed = {fault.target.removeprefix("kernel:") for seed in range(1000) for fault in make_schedule(seed).faults}
    assert set(KERNEL_POINTS) <= armed
