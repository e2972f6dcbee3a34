"""Messages about attempts, as a client reads them: values, limits, ends, logs and stops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nomaflow.client import values
from nomaflow_api.v1 import event_pb2
from nomaflow_api.v1.letters import Stopping
from nomaflow_api.v1.message_codec import decode
from nomaflow_kernel.history.attempt_facts import AttemptFacts
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import (
    AttemptLogRecord,
    AttemptRecord,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.rpc import attempt_messages
from nomaflow_kernel.rpc.hidden_values import event_without_values, run_without_values
from nomaflow_kernel.rpc.messages import run_detail_message

SECOND = 1_000_000
DEFINITION: dict[str, Any] = {
    "id": "a", "timezone": "UTC", "timeout_seconds": 60, "params": {"token": "${TOKEN}", "pin": "1234"},
    "secret_params": ["pin"], "retry": {"attempts": 3},
    "steps": [
        {"name": "one", "type": "python", "callable": "m:f", "op_kwargs": {"n": 1}, "timeout_seconds": 20},
        {"name": "off", "type": "python", "callable": "m:g", "enabled": False},
    ],
}  # fmt: skip
RUN = RunRecord(
    run_id="run_1", job_id="a", host="team", state=RunState.RUNNING, queued_at_us=1, started_at_us=100 * SECOND,
    trigger=RunTrigger(kind=TriggerKind.API), definition_digest="d",
    request=RunRequest(op_kwargs={"one": {"m": "s3cret"}}), log_lines=9,
)  # fmt: skip


def attempt(number: int = 1, **fields: Any) -> AttemptRecord:
    """Return an attempt at the first step, dispatched at 100 s and started at 101 s."""
    told = {"state": AttemptState.RUNNING, "dispatched_at_us": 100 * SECOND, "started_at_us": 101 * SECOND}
    return AttemptRecord(run_id="run_1", step_index=0, step="one", attempt=number, **{**told, **fields})


def message_of(*attempts: AttemptRecord, logs: Any = None) -> Any:
    """Return the message of the run with these attempts."""
    return run_detail_message(RunDetail(run=RUN, attempts=attempts, definition=DEFINITION), logs)


def shown(*attempts: AttemptRecord, logs: Any = None) -> values.RunView:
    """Return the run with these attempts as a client reads it."""
    return decode(values.RunView, message_of(*attempts, logs=logs))


def test_an_attempt_is_told_with_what_it_was_given() -> None:
    """All layers merged, references as written, secrets hidden; nothing before it is dispatched, nor in lists."""
    waiting = attempt(
        2, state=AttemptState.PENDING, dispatched_at_us=None, started_at_us=None, not_before_us=5 * SECOND
    )
    one, off = shown(attempt(), waiting, logs={}).steps
    assert one.attempts[0].kwargs == {"token": "${TOKEN}", "pin": "***", "n": 1, "m": "s3cret"}
    assert one.attempts[1].kwargs == {}
    assert one.attempts[0].not_before is None
    assert one.attempts[1].not_before is not None
    assert (one.enabled, one.max_attempts, off.enabled) == (True, 3, False)
    listed = shown(attempt()).steps[0].attempts[0]
    assert (listed.kwargs, listed.log) == ({}, None)
    json.dumps(one.to_json())


@pytest.mark.parametrize(
    ("definition", "ends"),
    [
        ({}, 121),
        ({"timeout_seconds": 10}, 111),
        ({"timeout_seconds": None}, 121),
    ],
)
def test_the_deadline_is_that_of_the_shorter_limit(definition: dict[str, Any], ends: int) -> None:
    """The host counts the step's time, and what is left of the job's at the dispatch, from its start."""
    detail = RunDetail(run=RUN, attempts=[attempt()], definition={**DEFINITION, **definition})
    told = decode(values.RunView, run_detail_message(detail)).steps[0].attempts[0]
    assert told.deadline_at is not None
    assert told.deadline_at.timestamp() == ends


def test_an_end_and_a_stop_are_told_in_full() -> None:
    """Signal and words of the process, warnings, and the ladder with its times."""
    rungs = (
        Stopping(rung=1, what="asked", why="canceled by ann", at_us=110 * SECOND, next_at_us=115 * SECOND),
        Stopping(rung=2, what="exception", why="late", at_us=115 * SECOND, after_us=5 * SECOND),
    )
    facts = AttemptFacts(
        rungs=rungs, stopped_at_us=116 * SECOND, exit_signal=9, exit_text="killed by SIGKILL, by its host",
        warnings=("noted",), complete=True,
    )  # fmt: skip
    told = shown(attempt(exclusive=True, facts=facts), logs={}).steps[0].attempts[0]
    assert told.exclusive
    assert told.exit == values.ExitView(status=None, signal=9, text="killed by SIGKILL, by its host")
    assert told.warnings == ("noted",)
    assert told.stop is not None
    assert [(rung.rung, rung.after_seconds, rung.next_at is None) for rung in told.stop.rungs] == [
        (1, 0.0, False), (2, 5.0, True),
    ]  # fmt: skip
    assert told.stop.stopped_at is not None
    plain = shown(attempt(facts=AttemptFacts(complete=True)), logs={}).steps[0].attempts[0]
    assert (plain.exit, plain.stop, plain.warnings) == (None, None, ())


def test_a_log_is_sealed_only_if_nothing_of_it_can_be_missing() -> None:
    """Open while it runs; complete by its last report; not if the host was lost, or has lost lines."""
    stored = {("one", 1): AttemptLogRecord(first_seq=3, last_seq=9, lines=5, levels=12)}

    def log_of(**fields: Any) -> values.AttemptLogView:
        log = shown(attempt(**fields), logs=stored).steps[0].attempts[0].log
        assert log is not None
        return log

    assert log_of() == values.AttemptLogView(first_seq=3, last_seq=9, lines=5, levels=12)
    assert log_of(state=AttemptState.SUCCEEDED, facts=AttemptFacts(complete=True)).complete
    assert not log_of(state=AttemptState.LOST).complete
    lost = log_of(state=AttemptState.SUCCEEDED, facts=AttemptFacts(lost_lines=4, dropped_lines=2, dropped_bytes=7))
    assert (lost.complete, lost.lost_lines, lost.dropped_lines, lost.dropped_bytes) == (False, 4, 2, 7)
    never_sent = attempt(2, state=AttemptState.CANCELED, dispatched_at_us=None, started_at_us=None)
    unsent = shown(never_sent, logs=stored).steps[0].attempts[0].log
    assert unsent == values.AttemptLogView(complete=True)


def test_who_may_not_read_logs_reads_no_values_of_attempts() -> None:
    """Values, warnings and the reasons of rungs are left out; the ladder's times stay."""
    facts = AttemptFacts(rungs=(Stopping(rung=1, what="asked", why="s3cret left", at_us=1),), warnings=("s3cret",))
    run = run_without_values(message_of(attempt(facts=facts), logs={}))
    assert b"s3cret" not in run.SerializeToString()
    assert run.steps[0].attempts[0].stop.rungs[0].what == "asked"
    data = {"rung": 1, "what": "asked", "why": "s3cret left", "at_us": 1, "after_seconds": 0.0, "next_at_us": None}
    event = event_without_values(event_pb2.Event(kind="attempt.stopping", data_json=json.dumps(data).encode()))
    del data["why"]
    assert json.loads(event.data_json) == data


@pytest.mark.parametrize(("bound", "logs"), [("RUN_BYTES", {}), ("LISTED_RUN_BYTES", None)])
def test_the_oldest_attempts_are_shortened_if_all_are_too_large_together(
    monkeypatch: pytest.MonkeyPatch, bound: str, logs: Any
) -> None:
    """Else one run with a long error of each try could be shown to nobody."""
    monkeypatch.setattr(attempt_messages, bound, 5_000)
    failed = {"state": AttemptState.FAILED, "error": "x" * 2_000}
    small = attempt(1, state=AttemptState.FAILED, error="small", facts=AttemptFacts(warnings=("slow",)))
    tries = [small, *(attempt(number, **failed, facts=AttemptFacts(warnings=("slow",))) for number in (2, 3))]
    last = attempt(4, state=AttemptState.SUCCEEDED, extras_json=b'{"text": "%s"}' % (b"y" * 2_000))
    first, second, third, fourth = shown(*tries, last, logs=logs).steps[0].attempts
    assert (first.error, first.warnings) == ("small", ("slow",))
    assert (second.error, third.error, fourth.extras) == ("x" * 200, "x" * 2_000, {"text": "y" * 2_000})
    assert [each.warnings for each in (third, fourth)] == [("slow",), ()]
    assert second.warnings == ("its result is left out here: those of this run are too large together",)


def test_a_result_that_was_not_read_is_told_as_left_out() -> None:
    """Those of a run that are too large together stay in the store; the other warnings of the attempt are kept."""
    read, unread = attempt(1, facts=AttemptFacts(warnings=("slow",))), attempt(2, extras_json=None)
    first, second = shown(read, unread, logs={}).steps[0].attempts
    assert first.warnings == ("slow",)
    assert (second.extras, second.warnings) == (
        {},
        ("its result is left out here: those of this run are too large together",),
    )
