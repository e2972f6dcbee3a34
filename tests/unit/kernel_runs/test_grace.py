"""The exact moment at which an attempt of a silent host is given up."""

from __future__ import annotations

import pytest
from rig import Rig, finished, job
from test_hosts import held, log

from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_kernel.history.states import AttemptState


async def test_an_attempt_is_given_up_after_the_grace_and_the_margin_and_not_before(rig: Rig) -> None:
    """The host counts the grace alone, from earlier: within the margin it may still run what it is about to kill."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    other = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    holder = host if host.orders else other
    await holder.start((await holder.dispatch()).attempt_key)
    holder.silent = True
    seen = []
    for _ in range(int(rig.settings.grace_seconds + rig.settings.grace_margin_seconds) + 1):
        await rig.advance(1.0)
        seen.append([attempt.state for attempt in (await rig.detail(run_id)).attempts])
    within = int(rig.settings.grace_seconds + rig.settings.grace_margin_seconds) - 1
    assert all(states == [AttemptState.RUNNING] for states in seen[:within]), seen
    assert seen[-1] == [AttemptState.LOST, AttemptState.DISPATCHED]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_lost_attempt_that_goes_on_is_heard_out(rig: Rig, restarted: bool) -> None:
    """Log lines after the thaw are dropped until the result comes and is kept; a restart changes nothing."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    host.silent = True
    await rig.advance(12)
    host.silent = False
    before = await rig.detail(run_id)
    if restarted:
        await rig.restart()
    [verdict] = await host.attach(inventory=[held(key)])
    assert (verdict.action, verdict.acknowledged_seq) == (VerdictAction.KEEP, 1)
    for first_seq in (2, 3):
        ack = await host.report(key, log(2), log(1), first_seq=first_seq)
        assert (ack.status, ack.acknowledged_seq) == (AckStatus.OK, first_seq + 1)
    ack = await host.report(key, log(1), finished(rows_affected=7), first_seq=5)
    assert ack.status is AckStatus.FENCED
    late = [event.data["rows_affected"] for event in await rig.events(run_id) if event.kind == "attempt.late_result"]
    assert late == [7]
    after = await rig.detail(run_id)
    assert (after.run.state, after.run.log_lines) == (before.run.state, before.run.log_lines)
    assert [attempt.state for attempt in after.attempts] == [AttemptState.LOST]


async def test_a_lost_attempt_that_is_tried_again_is_not_heard_out(rig: Rig) -> None:
    """The host of a retried attempt is told to forget it at its first report, and so kills the rest."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    await rig.trigger("a")
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    host.silent = True
    await rig.advance(12)
    assert (await host.report(key, log(1), first_seq=2)).status is AckStatus.FENCED


async def test_a_silent_host_tells_how_many_attempts_run_again(rig: Rig) -> None:
    """Those with retry_on_lost whose run is not being canceled; none once the host is heard."""
    rig.jobs.add(job("a", retry_on_lost=True), job("b"), job("c", retry_on_lost=True))
    host = await rig.host()
    runs = [(await rig.trigger(each)).run_id for each in "abc"]
    await host.dispatch(3)
    host.silent = True
    await rig.engine.cancel(runs[2], by="ann", why="")
    await rig.advance(3)
    assert [each.retried_on_lost for each in rig.engine.instances()] == [1]
    host.silent = False
    await rig.advance(0.1)
    assert [each.retried_on_lost for each in rig.engine.instances()] == [0]


async def test_the_countdown_is_that_of_the_next_attempt_to_be_lost(rig: Rig) -> None:
    """A job's own grace counts, shorter or longer than the kernel's; without an attempt there is nothing to lose."""
    rig.jobs.add(job("short", lost_after_seconds=4), job("long", lost_after_seconds=100))
    host = await rig.host()
    for each in ("short", "long"):
        await rig.trigger(each)
    await host.dispatch(2)
    host.silent = True
    await rig.advance(3)
    margin = rig.settings.grace_margin_seconds

    def left() -> float:
        [told] = rig.engine.instances()
        assert told.lost_at_us is not None
        return (told.lost_at_us - told.last_heartbeat_us) / 1_000_000

    assert left() == pytest.approx(4 + margin, abs=0.5)
    await rig.advance(3 + margin)
    assert left() == pytest.approx(100 + margin, abs=0.5)


async def test_an_awaited_instance_is_listed_until_it_is_lost(rig: Rig) -> None:
    """After a restart of the kernel a silent host counts down as before, and has not left."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    await rig.trigger("a")
    await host.dispatch()
    host.silent = True
    await rig.restart()
    [awaited] = rig.engine.instances()
    assert (awaited.state, rig.engine.absent_since_us("demo"), rig.engine.held_count("demo")) == ("AWAITED", None, 1)
    await rig.advance(3)
    [awaited] = rig.engine.instances()
    assert (awaited.state, awaited.running, awaited.retried_on_lost) == ("UNREACHABLE", 1, 1)
    assert awaited.lost_at_us is not None
    await rig.advance(12)
    assert list(rig.engine.instances()) == []
    assert rig.engine.queued_count("demo") == 1, "the next try waits for the host as a queued run does"
    absent = rig.engine.absent_since_us("demo")
    assert absent is not None
    assert 0 <= rig.clock.now_us() - absent < 5_000_000
