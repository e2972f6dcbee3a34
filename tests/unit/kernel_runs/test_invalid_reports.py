"""Events of hosts that break the contract, and numbers that no machine has."""

from __future__ import annotations

from typing import Any

import pytest
from rig import START_US, Rig, job, opened, started, step

from nomaflow_api.v1.letter_words import AckStatus, FinishedState, LogCodec
from nomaflow_api.v1.letters import MAX_TEXT, AttemptReport, CallOutcome, Event, Finished, LogChunk, Progress
from nomaflow_api.v1.sealing import seal
from nomaflow_kernel.history.states import AttemptState, RunState


def end(**fields: Any) -> Finished:
    """Return the end of an attempt whose worker sealed an outcome of these fields."""
    outcome = CallOutcome(**{"state": FinishedState.SUCCEEDED} | fields)
    return Finished(at_us=START_US, state=outcome.state, outcome=seal(outcome))


def chunk(**fields: Any) -> LogChunk:
    """Return a chunk of one line."""
    told = {"line_count": 1, "first_at_us": 1, "last_at_us": 1, "levels": 4, "codec": LogCodec.JSONL, "body": b"x"}
    return LogChunk(**told | fields)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([b""], "cannot be read"),
        ([b"\xff\x00"], "cannot be read"),
        ([seal(started()).replace(b"started", b"startle")], "is"),
        ([seal(end()), seal(end())], "after finished"),
        ([seal(end()).replace(b"SUCCEEDED", b"DISPATCHD", 1)], "state"),
        ([seal(Finished(at_us=1, state=FinishedState.FAILED, outcome=b"?"))], "outcome"),
        ([seal(Finished(at_us=2**63, state=FinishedState.FAILED))], "at_us"),
        ([seal(Finished(at_us=1, state=FinishedState.FAILED, error="x" * 20_000))], "error"),
        ([seal(end(extras_json=b"[1]"))], "expected an object"),
        ([seal(end(extras_json=b'{"a": NaN}'))], "cannot be read"),
        ([seal(end(extras_json=b"\xff"))], "cannot be read"),
        ([seal(end(rows_affected=2**63))], "rows_affected"),
        ([seal(chunk(line_count=0))], "line_count"),
        ([seal(chunk(levels=-1))], "levels"),
        ([seal(chunk(codec=9))], "codec"),
        ([seal(chunk(body=b""))], "body"),
        ([seal(chunk(body=b"x" * (1024 * 1024 + 1)))], "body"),
        ([seal(Progress(at_us=1, done=1.0, message="x" * 20_000))], "message"),
    ],
)
async def test_an_invalid_event_is_answered_alone(
    rig: Rig, caplog: pytest.LogCaptureFixture, events: list[bytes], said: str
) -> None:
    """Its whole report is refused; the others of the same call are taken in, and the attempt can still end."""
    rig.jobs.add(job("a"), job("b"))
    host = await rig.host()
    await rig.trigger("a")
    await rig.trigger("b")
    bad, good = [(await host.dispatch(count)).attempt_key for count in (1, 2)]
    reports = [
        AttemptReport(attempt_key=bad, first_seq=1, events=(seal(started()), *events)),
        AttemptReport(attempt_key=good, first_seq=1, events=(seal(started()), seal(chunk()))),
    ]
    refused, taken = await rig.engine.report(host.key, reports, size=0)
    assert (refused.status, refused.acknowledged_seq, taken.status) == (AckStatus.INVALID, 0, AckStatus.OK)
    assert said in refused.detail
    await rig.engine.report(host.key, reports[:1] * 3, size=0)  # told once: a host could fill the disk with it
    assert [(each.__dict__["host"], each.__dict__["run_id"]) for each in caplog.records] == [
        ("demo", bad.partition("/")[0])
    ]
    assert taken.acknowledged_seq == 2
    assert (await rig.detail(bad.partition("/")[0])).attempts[0].state is AttemptState.DISPATCHED
    await host.finish(bad)
    assert await rig.state(bad.partition("/")[0]) is RunState.SUCCEEDED


@pytest.mark.parametrize("event", [Progress(at_us=1, done=float("nan"), total=float("inf")), chunk(body=bytes(256))])
async def test_odd_events_are_taken_in(rig: Rig, event: Event) -> None:
    """A progress of NaN becomes 0, an infinite total None; the bytes of a chunk are not looked at."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    assert (await host.report(key, started(), event)).status is AckStatus.OK
    progress = (await rig.detail(run_id)).attempts[0].progress_json
    assert not isinstance(event, Progress) or '"done": 0.0, "total": null' in progress


async def test_the_hosts_own_verdict_stands_over_the_workers_outcome(rig: Rig) -> None:
    """A result that came too late is kept, but how the attempt ended is the host's to say."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    said = ("large", "l" * MAX_TEXT)
    outcome = CallOutcome(state=FinishedState.SUCCEEDED, rows_affected=7, has_result=True, warnings=said)
    verdict = Finished(
        at_us=START_US, state=FinishedState.FAILED, reason_code="timed_out", reason="too long", warnings=("left",),
        outcome=seal(outcome),
    )  # fmt: skip
    await host.finish(key, verdict)
    attempt = (await rig.detail(run_id)).attempts[0]
    assert (attempt.state, attempt.rows_affected) == (AttemptState.FAILED, 7)
    assert attempt.reason is not None
    assert (attempt.reason.code, attempt.reason.message) == ("timed_out", "too long")
    (event,) = [event for event in await rig.events(run_id) if event.kind == "attempt.finished"]
    assert event.data["warnings"] == ["left", "large"]


async def test_times_and_sizes_that_no_machine_has_reach_the_host(rig: Rig) -> None:
    """Settings allow thirty years; the kernel must not end over them."""
    large: dict[str, Any] = {"lost_after_seconds": 1e9, "max_log_bytes": 10**30}
    rig.jobs.add(job("a", step("one", cancel_grace_seconds=1e18, timeout_seconds=1e9), **large))
    host = await rig.host()
    await rig.trigger("a")
    order = await host.dispatch()
    assert (order.grace_ms, order.cancel_grace_ms, order.max_log_bytes) == (10**12, 2**53, 2**53)
    assert opened(order).timeout_ms == order.timeout_ms == 10**12
