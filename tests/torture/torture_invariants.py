"""The one checker of what must hold after any schedule, whatever was done to the system."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torture_play import Acknowledged, Record
from torture_system import SECRET, TortureSystem

from nomaflow.client.values import AttemptView, EventView, RunView, StepView
from processes import is_alive

__all__ = ["read_ledger", "violations", "violations_of_secrecy"]

_ATTEMPTS = {"fails_once": 3, "may_run_twice": 3}
"""How many attempts at a step a job allows; all others one."""
_LINES = 500
_DEATHS = {"host_crashed", "worker_died", "worker_killed"}
_DEAD_SECONDS = 60.0


def read_ledger(file: Path) -> list[dict[str, Any]]:
    """Return what the steps of a schedule have written themselves."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def violations(record: Record) -> list[str]:
    """Return every promise that was broken, one sentence each."""
    ledger = read_ledger(record.ledger)
    found = [
        *_triggers(record),
        *_ledger(record, ledger),
        *_events(record),
        *_processes(ledger),
    ]
    for run_id, run in record.runs.items():
        found += [f"{run_id} ({run.job_id}): {text}" for text in _run(record, run, ledger)]
    return found


# I1


def _triggers(record: Record) -> Iterator[str]:
    """I1: each acknowledged trigger is exactly one run, and every run was requested."""
    run_ids = [known.run_id for known in record.acknowledged]
    if len(run_ids) != len(record.schedule.orders):
        yield f"I1: {len(record.schedule.orders)} triggers, {len(run_ids)} of them acknowledged"
    for run_id, count in Counter(run_ids).items():
        if count > 1:
            yield f"I1: {run_id} stands for {count} triggers"
    for known in record.acknowledged:
        if known.again and known.again != known.run_id:
            yield f"I1: the same request is the runs {known.run_id} and {known.again}"
        if known.run_id not in record.runs:
            yield f"I1: {known.run_id} is acknowledged, and there is no such run"
    for run_id, run in record.runs.items():
        if run_id not in run_ids and not run.parent_chain:
            yield f"I1: nobody has asked for {run_id} ({run.job_id})"
    called = {attempt.child_run_id for run in record.runs.values() for step in run.steps for attempt in step.attempts}
    for run_id, run in record.runs.items():
        if run.parent_chain and run_id not in called:
            yield f"I1: {run_id} ({run.job_id}) was called by {run.parent_chain[-1].run_id}, which does not know it"
    children = Counter(run.parent_chain[-1].run_id for run in record.runs.values() if run.parent_chain)
    yield from (f"I1: {parent} has {count} children" for parent, count in children.items() if count > 1)


# I2


def _ledger(record: Record, ledger: list[dict[str, Any]]) -> Iterator[str]:
    """I2: no attempt starts twice, none without need, and no two attempts of a step overlap."""
    known = {attempt.attempt_key for run in record.runs.values() for step in run.steps for attempt in step.attempts}
    starts = Counter(entry["key"] for entry in ledger if entry["what"] == "start")
    for key, count in starts.items():
        if count > 1:
            yield f"I2: {key} has started {count} times"
        if key not in known:
            yield f"I2: {key} has started, and history does not know it"
    for step, count in Counter(key.rpartition("/")[0] for key in starts).items():
        run = record.runs.get(step.partition("/")[0])
        if run is not None and run.job_id != "may_run_twice" and count > _ATTEMPTS.get(run.job_id, 1):
            yield f"I2: the code of {step} has run {count} times"
    for entry in ledger:
        if entry["what"] == "overlap":
            yield f"I2: {entry['key']} started while {entry['other']} ran in process {entry['other_pid']}"
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends = {entry["key"]: entry["at"] for entry in ledger if entry["what"] == "end"}
    for entry in ledger:
        if entry["what"] == "start":
            spans[entry["key"].rpartition("/")[0]].append((entry["at"], ends.get(entry["key"], entry["at"])))
    for step, times in spans.items():
        times.sort()
        if any(after[0] < before[1] for before, after in itertools.pairwise(times)):
            yield f"I2: attempts of {step} overlap"


# I3, I7


def _events(record: Record) -> Iterator[str]:
    """I7: the events have no gap, and a watcher sees each once, in order, whatever happened. I3: see `_story`."""
    numbers = [event.seq for event in record.events]
    if numbers != list(range(record.base_seq + 1, record.base_seq + 1 + len(numbers))):
        yield f"I7: the events after {record.base_seq} are numbered {numbers}"
    watched = [event for event in record.watched if not numbers or event.seq <= numbers[-1]]
    if watched != record.events:
        yield f"I7: a watcher saw {_numbers(watched)}, there are {_numbers(record.events)}"
    if record.resumed != [event for event in record.events if event.seq > record.resumed_after]:
        yield f"I7: resumed after {record.resumed_after}, a watcher sees {_numbers(record.resumed)}"
    stories: dict[str, list[EventView]] = defaultdict(list)
    for event in record.events:
        if event.run_id and event.kind != "attempt.late_result":
            stories[event.run_id].append(event)
    for run_id, story in stories.items():
        yield from (f"{run_id}: {text}" for text in _story(story, record.runs[run_id]))


def _numbers(events: Iterable[EventView]) -> str:
    return " ".join(str(event.seq) for event in events)


def _story(story: list[EventView], run: RunView) -> Iterator[str]:
    """I3: a terminal state is written once, and nothing comes after it."""
    kinds = [event.kind for event in story]
    if kinds[0] != "run.queued" or kinds[-1] != "run.finished":
        yield f"I3: its events begin with {kinds[0]} and end with {kinds[-1]}"
    if kinds.count("run.queued") != 1 or kinds.count("run.finished") != 1:
        yield f"I3: its events are {kinds}"
    if story[-1].run_state != run.state:
        yield f"I3: it is {run.state}, its last event says {story[-1].run_state}"
    by_attempt: dict[tuple[str, int], list[EventView]] = defaultdict(list)
    for event in story:
        if event.kind.startswith("attempt."):
            by_attempt[(event.step, event.attempt)].append(event)
    for (step, number), events in by_attempt.items():
        told = [event.kind for event in events]
        if told.count("attempt.finished") != 1 or told[-1] != "attempt.finished" or told.count("attempt.started") > 1:
            yield f"I3: the events of attempt {number} at {step} are {told}"


# Runs and attempts: what the history says against what the steps have written.


def _run(record: Record, run: RunView, ledger: list[dict[str, Any]]) -> Iterator[str]:
    known = next((each for each in record.acknowledged if each.run_id == run.run_id), None)
    if not run.terminal:
        yield f"I1: it is still {run.state}"
        return
    yield from _outcome(record, run, known)
    for step in run.steps:
        yield from _step(record, run, step, {entry["key"]: entry for entry in ledger if entry["what"] == "end"})
    yield from _log(record, run)


def _outcome(record: Record, run: RunView, known: Acknowledged | None) -> Iterator[str]:
    """I6, and: a fault that kills no worker fails no run."""
    code = run.reason.code if run.reason else ""
    if run.state != "SUCCEEDED" and not (run.reason and run.reason.code and run.reason.message):
        yield f"I6: it is {run.state} for no reason"
    cancelled = run.cancel is not None or (known is not None and known.order.cancel_after_ms is not None)
    if run.state == "CANCELED" and not cancelled:
        yield "I1: it is CANCELED, and nobody wanted that"
    if run.state == "SUCCEEDED" and known is not None and known.order.job in ("waits", "waits_for_a_child"):
        yield "I1: it SUCCEEDED, though its step never returns"
    if run.state in ("SKIPPED", "MISSED"):
        yield f"I1: it is {run.state}"
    if run.state == "FAILED":
        if not record.disturbed:
            yield f"I1: it is FAILED ({code}: {run.reason.message if run.reason else ''}), and no worker was killed"
        elif code not in _DEATHS | {"child_failed"}:
            yield f"I6: it is FAILED for {code}, and what was done to it was: {', '.join(record.disturbed)}"


def _step(record: Record, run: RunView, step: StepView, ends: dict[str, dict[str, Any]]) -> Iterator[str]:
    numbers = [attempt.attempt for attempt in step.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"I2: the attempts at {step.name} are {numbers}"
    # One that the host has refused was none, nor, with retry_on_lost, one whose worker was killed for another's sake.
    count = sum(1 for attempt in step.attempts if not (attempt.reason and attempt.reason.code == "host_refused"))
    if count > _ATTEMPTS.get(run.job_id, 1) and run.job_id != "may_run_twice":
        yield f"I2: there are {count} attempts at {step.name}"
    needed = 2 if run.job_id == "fails_once" else 1
    if count > needed and not record.disturbed:
        yield f"I2: there are {count} attempts at {step.name}, and no worker was killed"
    for attempt in step.attempts:
        yield from _attempt(attempt, ends.get(attempt.attempt_key), python=step.type == "python")


def _attempt(attempt: AttemptView, end: dict[str, Any] | None, *, python: bool) -> Iterator[str]:
    key = attempt.attempt_key
    if attempt.state != "SUCCEEDED" and not (attempt.reason and attempt.reason.code and attempt.reason.message):
        yield f"I6: {key} is {attempt.state} for no reason"
    if attempt.state == "LOST":
        yield f"I2: {key} is LOST, though its host came back"
    if attempt.state == "SUCCEEDED" and python:
        if end is None or end["outcome"] != "ok":
            yield f"I2: {key} SUCCEEDED, and its code wrote {end}"
        elif end["rows"] != attempt.rows_affected:
            yield f"I4: {key} returned {end['rows']} rows, {attempt.rows_affected} are recorded"


# I4


def _log(record: Record, run: RunView) -> Iterator[str]:
    """I4: the lines are numbered without a gap, and those of `talks` are those that it wrote."""
    lines = record.logs[run.run_id]
    if [line.seq for line in lines] != list(range(1, run.log_lines + 1)):
        yield f"I4: it has {run.log_lines} log lines, numbered {[line.seq for line in lines]}"
    for step in run.steps if run.job_id == "talks" else ():
        for attempt in step.attempts:
            told = [line.message for line in lines if line.attempt == attempt.attempt and line.logger == "torment"]
            yield from _lines(attempt, told)
    if run.job_id == "tells_secrets" and run.state == "SUCCEEDED":
        told = [line.message for line in lines]
        if "the password is ***" not in told or "printed: ***" not in told:
            yield f"I9: the log does not show masked passwords: {told}"


def _lines(attempt: AttemptView, told: list[str]) -> Iterator[str]:
    key = attempt.attempt_key
    expected = [f"{key} line {number} of {_LINES} {'#' * (number % 97)}" for number in range(1, len(told) + 1)]
    if told != expected:
        first = next(index for index, pair in enumerate(zip(told, expected, strict=True)) if pair[0] != pair[1])
        yield f"I4: line {first + 1} of {key} is {told[first]!r}"
    if attempt.state == "SUCCEEDED":
        digest = hashlib.sha256("".join(f"{line}\n" for line in told).encode()).hexdigest()
        if digest != attempt.extras.get("digest"):
            yield f"I4: {key} wrote {_LINES} lines with another digest than the {len(told)} that are kept"


# I8


def _processes(ledger: list[dict[str, Any]]) -> Iterator[str]:
    """I8: what steps started is dead within a minute, and so are steps that had no time to note their end."""
    ended = {entry["key"] for entry in ledger if entry["what"] == "end"}
    doomed = {entry["child"]: entry["key"] for entry in ledger if entry["what"] == "child"}
    doomed |= {entry["pid"]: entry["key"] for entry in ledger if entry["what"] == "start" and entry["key"] not in ended}
    until = time.monotonic() + _DEAD_SECONDS
    while (left := {pid: key for pid, key in doomed.items() if is_alive(pid)}) and time.monotonic() < until:
        time.sleep(0.01)
    yield from (f"I8: process {pid} of {key} is alive" for pid, key in left.items())


# I9


def violations_of_secrecy(system: TortureSystem) -> list[str]:
    """I9: return where the planted password is: history, logs, spilled events, environments, command lines."""
    needles = [SECRET.encode(), base64.b64encode(SECRET.encode())]
    files = [file for file in system.root.rglob("*") if file.is_file() and file.suffix != ".toml"]
    for pid in system.tree():
        files += [Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/cmdline")]
    found = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError:
            continue  # it is gone
        if any(needle in content for needle in needles):
            found.append(f"I9: the password is in {file}")
    return found
