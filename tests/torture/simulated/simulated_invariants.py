"""Invariants after a schedule, checked with the file, the events and the ledger."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from simulated_ledger import Execution, Ledger, rows_of

from nomaflow_kernel.engine.engine import Engine

__all__ = ["check_engine", "check_store"]

Row = dict[str, Any]
_UNREPORTED = ("host_lost", "host_crashed")
_RUN_ID = re.compile(r"run_[0-9a-z]{26}")
_FIRST_KINDS = ("attempt.pending", "attempt.dispatched", "attempt.started", "attempt.finished")


def check_engine(engine: Engine) -> Iterator[str]:
    """Yield what the engine still holds though nothing runs."""
    state = engine._state
    for name in ("active", "running", "parents", "wanted_specs", "pauses"):
        if getattr(state, name):
            yield f"the engine still has {name}: {getattr(state, name)}"
    if len(state.waiting):
        yield f"the engine still has {len(state.waiting)} waiting runs"
    for instance in state.fleet:
        if instance.attempts or instance.exclusive_used:
            yield f"slots of {instance.incarnation} are still taken: {instance.attempts}, {instance.exclusive_used}"


def check_store(path: Path, ledger: Ledger, committed_at: Mapping[int, float]) -> Iterator[str]:
    """Yield every broken promise."""
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA synchronous = OFF")
    try:
        found = _Found(database, ledger, committed_at)
    finally:
        database.close()
    for check in (
        _triggers, _slots, _times, _cancels, _reasons, _event_order, _run_events, _attempt_events,
        _starts, _own_instances, _order_of_commit_and_code, _results, _logs,
    ):  # fmt: skip
        yield from check(found)


class _Found:
    """Everything there is, by key."""

    def __init__(self, database: sqlite3.Connection, ledger: Ledger, committed_at: Mapping[int, float]) -> None:
        def rows(query: str) -> list[Row]:
            return [dict(row) for row in database.execute(query)]

        self.ledger = ledger
        self.committed_at = committed_at
        self.runs = {row["run_id"]: row for row in rows("SELECT * FROM runs")}
        self.attempts = {
            f"{row['run_id']}/{row['step']}/{row['attempt']}": row
            for row in rows("SELECT * FROM attempts ORDER BY run_id, step_index, attempt")
        }
        self.events = rows("SELECT * FROM events ORDER BY seq")
        self.chunks = rows("SELECT * FROM log_chunks ORDER BY run_id, first_seq")
        self.definitions = {row["digest"]: json.loads(row["body"]) for row in rows("SELECT * FROM definitions")}
        self.executions: dict[str, list[Execution]] = defaultdict(list)
        for execution in ledger.executions:
            self.executions[execution.attempt_key].append(execution)
        self.events_of_run: dict[str, list[Row]] = defaultdict(list)
        self.events_of_attempt: dict[str, list[Row]] = defaultdict(list)
        for event in self.events:
            self.events_of_run[event["run_id"]].append(event)
            if event["step"]:
                self.events_of_attempt[f"{event['run_id']}/{event['step']}/{event['attempt']}"].append(event)

    def definition(self, run_id: str) -> Mapping[str, Any]:
        """Return the job that a run started with."""
        return self.definitions[self.runs[run_id]["definition_digest"]]

    def may_repeat(self, run_id: str, step: str) -> bool:
        """Return whether a step of a run may start more than once."""
        definition = self.definition(run_id)
        policies = [definition.get("retry")]
        policies += [each.get("retry") for each in definition["steps"] if each["name"] == step]
        retries = any(policy and policy.get("attempts", 1) > 1 for policy in policies)
        return retries or bool(definition.get("retry_on_lost"))

    def finished_at(self, run_id: str) -> float | None:
        """Return when a run's end was committed, virtual seconds."""
        for event in self.events_of_run[run_id]:
            if event["kind"] == "run.finished":
                return self.committed_at.get(event["seq"])
        return None


def _triggers(found: _Found) -> Iterator[str]:
    """Every acknowledged trigger is exactly one run, and everybody who asked with its id was told the same one."""
    told: dict[tuple[str, str], str] = {}
    for acked in found.ledger.triggers:
        run_id = acked.outcome.run_id
        run = found.runs.get(run_id)
        if run is None:
            yield f"acknowledged trigger {acked.job_id} {acked.request_id} has no run {run_id}"
            continue
        before = told.setdefault(acked.request_id, run_id)
        if before != run_id:
            yield f"{acked.job_id} {acked.request_id} was told to be {before} and {run_id}"
        if (run["job_id"], run["request_id"]) != (acked.job_id, acked.request_id):
            yield f"run {run_id} is of {run['job_id']} {run['request_id']}, not {acked.job_id} {acked.request_id}"
        first = found.committed_at.get(found.events_of_run[run_id][0]["seq"])
        if first is None or first > acked.at:
            yield f"run {run_id} was acknowledged at {acked.at:.3f} and committed at {first}"
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for run in found.runs.values():
        if run["request_id"]:
            counts[run["request_id"]] += 1
    yield from (f"{count} runs of request {key}" for key, count in counts.items() if count > 1)


def _slots(found: _Found) -> Iterator[str]:
    """Every fired slot is one run, or folded into one that did not run."""
    taken = [run["slot"] for run in found.runs.values() if run["slot"]]
    if len(taken) != len(set(taken)):
        yield f"a slot has two runs: {sorted(taken)}"
    folded = {run["job_id"] for run in found.runs.values() if run["fold_count"]}
    for slot in found.ledger.slots:
        if slot not in taken and slot.partition("/")[0] not in folded:
            yield f"slot {slot} was fired, and there is no run of it"


def _cancels(found: _Found) -> Iterator[str]:
    """An acknowledged cancel is kept, and decides how the run ends, unless that was decided before."""
    for run_id, at in found.ledger.cancels.items():
        finished = found.finished_at(run_id)
        if found.runs[run_id]["cancel_at_us"] is None and (finished is None or finished > at):
            yield f"the cancel of {run_id} was acknowledged at {at:.3f} and is not kept; it ended at {finished}"
    for run in found.runs.values():
        if run["cancel_at_us"] is not None and run["state"] != "CANCELED":
            yield f"run {run['run_id']} has a cancel and ended {run['state']}"


def _reasons(found: _Found) -> Iterator[str]:
    """Everything is terminal, and everything that did not succeed says why."""
    for name, row in (*found.runs.items(), *found.attempts.items()):
        if row["state"] in ("QUEUED", "RUNNING", "PENDING", "DISPATCHED"):
            yield f"{name} is still {row['state']}"
        missing = set(_RUN_ID.findall(row["reason_message"])) - found.runs.keys()
        if missing:
            yield f"{name} is {row['state']} because of {missing}, which does not exist: {row['reason_message']}"
        if row["state"] != "SUCCEEDED" and not (row["reason_code"] and row["reason_message"]):
            yield f"{name} is {row['state']} without a reason"


def _times(found: _Found) -> Iterator[str]:
    """Check that everything ends after it begins, even if clocks jumped."""
    for name, row in (*found.runs.items(), *found.attempts.items()):
        times = [row.get(f"{moment}_at_us") for moment in ("queued", "dispatched", "started", "finished")]
        known = [at for at in times if at is not None]
        if known != sorted(known):
            yield f"{name} has its times out of order: {times}"


def _event_order(found: _Found) -> Iterator[str]:
    """The sequence has no gap and no repeat."""
    for index, event in enumerate(found.events, start=1):
        if event["seq"] != index:
            yield f"event {event['seq']} stands where {index} should"
            return


def _run_events(found: _Found) -> Iterator[str]:
    """A run is queued once, started at most once, finished once, and is as its last event says."""
    for run_id, run in found.runs.items():
        events = found.events_of_run[run_id]
        kinds = [event["kind"] for event in events]
        finished = [event for event in events if event["kind"] == "run.finished"]
        if len(finished) != 1 or finished[0]["state"] != run["state"]:
            yield f"run {run_id} is {run['state']}, and its ends are {[event['state'] for event in finished]}"
        if kinds.count("run.started") > 1 or kinds.count("run.queued") > 1:
            yield f"run {run_id} was queued or started twice: {kinds}"
        after = kinds[kinds.index("run.finished") + 1 :] if finished else []
        if set(after) - {"attempt.late_result"}:
            yield f"run {run_id} went on after its end: {after}"
        if run["last_event_seq"] != events[-1]["seq"]:
            yield f"run {run_id} says its newest event is {run['last_event_seq']}, it is {events[-1]['seq']}"


def _attempt_events(found: _Found) -> Iterator[str]:
    """An attempt goes pending, dispatched, started, finished; each at most once and in that order."""
    for key, attempt in found.attempts.items():
        kinds = [event["kind"] for event in found.events_of_attempt[key] if event["kind"] in _FIRST_KINDS]
        if kinds != sorted(set(kinds), key=_FIRST_KINDS.index) or kinds[-1:] != ["attempt.finished"]:
            yield f"attempt {key} went {kinds}"
        ends = [e["state"] for e in found.events_of_attempt[key] if e["kind"] == "attempt.finished"]
        if ends != [attempt["state"]]:
            yield f"attempt {key} is {attempt['state']}, and its ends are {ends}"
    for key in found.events_of_attempt:
        if key not in found.attempts:
            yield f"there are events of attempt {key}, and no attempt"


def _starts(found: _Found) -> Iterator[str]:
    """A key starts once, a step that may not be repeated starts once, and executions of a step never overlap."""
    of_step: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for key, executions in found.executions.items():
        if len(executions) > 1:
            yield f"attempt {key} was started {len(executions)} times, on {[each.incarnation for each in executions]}"
        if key not in found.attempts:
            yield f"attempt {key} was started, and there is no such attempt"
        run_id, step, _ = key.split("/")
        of_step[run_id, step] += executions
    for (run_id, step), executions in of_step.items():
        if len(executions) > 1 and not found.may_repeat(run_id, step):
            yield f"step {step} of {run_id} was started {len(executions)} times"
        for one, two in pairwise(sorted(executions, key=lambda each: each.started)):
            if one.ended is None or two.started < one.ended:
                yield f"attempts overlap: {one.attempt_key} until {one.ended}, {two.attempt_key} from {two.started}"


def _own_instances(found: _Found) -> Iterator[str]:
    """A step that wants an instance of its own runs in one for its attempt, and nothing else runs there."""
    for key, executions in found.executions.items():
        for each in executions:
            there = found.ledger.own_instances.get(each.incarnation, "")
            if there != (key if key.split("/")[1] == "box" else ""):
                yield f"attempt {key} ran on {each.incarnation}, which is for {there or 'any'}"


def _order_of_commit_and_code(found: _Found) -> Iterator[str]:
    """Code starts after its dispatch is committed, and an outcome is committed after the code has stopped."""
    for key, executions in found.executions.items():
        for event in found.events_of_attempt[key]:
            at = found.committed_at.get(event["seq"])
            if event["kind"] == "attempt.dispatched" and (at is None or executions[0].started < at):
                yield f"attempt {key} started at {executions[0].started}, and its dispatch was committed at {at}"
            if event["kind"] == "attempt.finished" and event["state"] != "LOST":
                ended = executions[0].ended
                if at is None or ended is None or ended > at:
                    yield f"attempt {key} is {event['state']} since {at}, and its code ended at {ended}"


def _results(found: _Found) -> Iterator[str]:
    """Check that stored outcomes are those that the hosts know, and that each success was one."""
    for key, attempt in found.attempts.items():
        execution = next(iter(found.executions.get(key, ())), None)
        played = not attempt["child_run_id"] and attempt["reason_code"] != "reused"
        if attempt["state"] == "SUCCEEDED" and played:
            if execution is None:
                yield f"attempt {key} succeeded and never ran"
            elif attempt["rows_affected"] != rows_of(key):
                yield f"attempt {key} has the rows {attempt['rows_affected']}, returned were {rows_of(key)}"
        if execution is None or attempt["reason_code"] in _UNREPORTED:
            continue
        if execution.state is not None and execution.state.value != attempt["state"]:
            yield f"attempt {key} is {attempt['state']} {attempt['reason_code']}, its host knows {execution.state}"


def _logs(found: _Found) -> Iterator[str]:
    """The lines of a run are numbered without a gap, and those of an attempt are what its code wrote, in order."""
    next_line: dict[str, int] = defaultdict(lambda: 1)
    stored: dict[str, list[bytes]] = defaultdict(list)
    for chunk in found.chunks:
        run_id = chunk["run_id"]
        if chunk["first_seq"] != next_line[run_id]:
            yield f"run {run_id} has line {chunk['first_seq']} where {next_line[run_id]} should be"
        next_line[run_id] = chunk["first_seq"] + chunk["line_count"]
        stored[f"{run_id}/{chunk['step']}/{chunk['attempt']}"].append(chunk["body"])
    for run_id, run in found.runs.items():
        if run["log_lines"] != next_line[run_id] - 1:
            yield f"run {run_id} says it has {run['log_lines']} lines, it has {next_line[run_id] - 1}"
    for key in stored.keys() | found.executions.keys():
        executions = found.executions.get(key)
        written = executions[0].lines if executions else []
        reported = key in found.attempts and found.attempts[key]["reason_code"] not in _UNREPORTED
        if (stored[key] != written) if reported else (stored[key] != written[: len(stored[key])]):
            yield f"the log of {key} has {len(stored[key])} chunks, written were {len(written)}; they differ"
