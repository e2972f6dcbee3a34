"""Hosts that report twice, late, out of order, fall silent, come back, or come back as another process."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rig import PlayedHost, Rig, failed, finished, job, opened, started, step

from nomaflow_api.v1.letter_words import AckStatus, LogCodec, VerdictAction
from nomaflow_api.v1.letters import CancelOrder, InventoryLine, LogChunk
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, LoadInfo, RefusedLoad
from nomaflow_kernel.history.lookups import LogFilter
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.reading.problems import Problem, Severity


def held(key: str) -> InventoryLine:
    """Return an inventory entry."""
    return InventoryLine(attempt_key=key)


def log(count: int) -> LogChunk:
    """Return a chunk that claims to hold ``count`` lines."""
    return LogChunk(
        line_count=count, first_at_us=1, last_at_us=2, levels=4, codec=LogCodec.JSONL, body=b'[20,1,"l","m"]\n'
    )


async def test_what_is_sent_twice_counts_once(rig: Rig) -> None:
    """Repeated events, before and after the end and after a restart, change nothing and are acknowledged."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, started(), log(3))
    assert (await host.report(key, started(), log(3), log(2))).acknowledged_seq == 3
    done = finished(rows_affected=1)
    assert (await host.report(key, done, first_seq=4)).acknowledged_seq == 4
    before = await rig.events()
    again = await host.report(key, log(2), done, first_seq=3)
    assert (again.status, again.acknowledged_seq) == (AckStatus.OK, 4)
    await rig.restart()
    again = await host.report(key, done, first_seq=4)
    assert (again.status, again.acknowledged_seq) == (AckStatus.OK, 4)
    assert (await rig.detail(run_id)).run.log_lines == 5
    assert list(await rig.events()) == list(before)


async def test_log_lines_are_numbered_across_steps_and_restarts(rig: Rig) -> None:
    """Chunks of a run get consecutive numbers, whatever step they come from and whichever kernel takes them."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, started(), log(3))
    await rig.restart()
    await host.attach(inventory=[held(key)])
    await host.report(key, log(4), finished(), first_seq=3)
    await host.report((await host.dispatch(2)).attempt_key, started(), log(5), finished())
    page = await rig.store.log_page(run_id, LogFilter(), limit=10)
    assert [(chunk.first_seq, chunk.line_count) for chunk in page.chunks] == [(1, 3), (4, 4), (8, 5)]


async def test_a_gap_is_answered_with_what_is_missing(rig: Rig) -> None:
    """Events after a hole are not taken in; the answer says from where to send."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    ack = await host.report(key, finished(), first_seq=3)
    assert (ack.status, ack.acknowledged_seq) == (AckStatus.GAP, 0)
    assert await rig.state(run_id) is RunState.RUNNING


async def test_another_outcome_is_a_conflict_and_the_first_stays(rig: Rig) -> None:
    """A second finish with a higher number is refused and kept as a late result."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.finish(key)
    ack = await host.report(key, failed(), first_seq=3)
    assert ack.status is AckStatus.CONFLICT
    assert await rig.state(run_id) is RunState.SUCCEEDED
    assert (await rig.events(run_id))[-1].kind == "attempt.late_result"


async def test_a_stranger_is_fenced(rig: Rig) -> None:
    """A report of another instance on the attempt, or on an unknown attempt, changes nothing."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    other = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await rig.settle()
    owner, stranger = (host, other) if host.orders else (other, host)
    key = (await owner.dispatch()).attempt_key
    assert (await stranger.report(key, started(), finished())).status is AckStatus.FENCED
    assert (await stranger.report("run_0/x/1", started())).status is AckStatus.FENCED
    assert await rig.state(run_id) is RunState.RUNNING
    await owner.finish(key)


async def test_kernel_restart_keeps_what_runs(rig: Rig) -> None:
    """The host's attempt is kept at its number over a restart, and its result ends the run; nothing is sent again."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    await rig.restart()
    verdicts = await host.attach(inventory=[held(key)])
    assert [(verdict.action, verdict.acknowledged_seq) for verdict in verdicts] == [(VerdictAction.KEEP, 1)]
    await host.report(key, finished(), first_seq=2)
    assert await rig.state(run_id) is RunState.SUCCEEDED
    assert len(host.orders) == 1


async def test_a_dispatch_that_never_arrived_is_sent_again_under_its_key(rig: Rig) -> None:
    """The same incarnation that does not hold the attempt gets the same key again, with the new epoch.

    It is told whether it has reported on the attempt: then it ran, and the host has forgotten it.
    """
    rig.jobs.add(job("a"))
    host = await rig.host()
    await rig.trigger("a")
    first = await host.dispatch()
    await rig.restart()
    await host.attach()
    again = await host.dispatch(2)
    assert again.attempt_key == first.attempt_key
    assert again.epoch > first.epoch
    await host.start(again.attempt_key)
    await rig.restart()
    await host.attach()
    third = await host.dispatch(3)
    assert third.attempt_key == first.attempt_key
    assert [order.reported for order in (first, again, third)] == [False, False, True]


async def test_a_cancel_while_the_host_is_away_is_delivered_when_it_is_back(rig: Rig) -> None:
    """The request is durable, survives a restart and is the verdict at reattach."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    rig.engine.detach(host.key, host)
    await rig.engine.cancel(run_id, by="ann", why="wrong day")
    await rig.restart()
    verdicts = await host.attach(inventory=[held(key)])
    assert verdicts[0].action is VerdictAction.CANCEL
    assert verdicts[0].cancel is not None
    assert (verdicts[0].cancel.by, verdicts[0].cancel.why) == ("ann", "wrong day")
    detail = await rig.detail(run_id)
    assert detail.run.state is RunState.RUNNING
    assert detail.run.cancel is not None


async def test_silence_makes_unreachable_then_lost(rig: Rig) -> None:
    """A host gets no new work after the lease; after grace and margin its attempts are LOST and fail the run."""
    rig.jobs.add(job("a"), job("b"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    host.silent = True
    await rig.advance(3)
    assert rig.engine.instances()[0].state == "UNREACHABLE"
    await rig.trigger("b")
    await rig.settle()
    assert len(host.orders) == 1
    assert await rig.state(run_id) is RunState.RUNNING
    await rig.advance(9)
    detail = await rig.detail(run_id)
    assert (detail.run.state, detail.attempts[0].state) == (RunState.FAILED, AttemptState.LOST)
    ack = await host.report(key, finished(rows_affected=9), first_seq=2)
    assert ack.status is AckStatus.FENCED
    late = (await rig.events(run_id))[-1]
    assert (late.kind, late.job_id, late.data["rows_affected"]) == ("attempt.late_result", "a", 9)
    assert await rig.state(run_id) is RunState.FAILED


async def test_a_silent_host_that_comes_back_in_time_loses_nothing(rig: Rig) -> None:
    """A heartbeat after the lease makes the host serve again."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    host.silent = True
    await rig.advance(3)
    await rig.trigger("a")
    host.silent = False
    await rig.advance(0.1)
    assert opened(await host.dispatch()).job_id == "a"


async def test_retry_on_lost_runs_again(rig: Rig) -> None:
    """A LOST attempt gets a successor only with retry_on_lost."""
    rig.jobs.add(job("a", retry_on_lost=True))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    host.silent = True
    await rig.advance(12)
    other = await rig.host()
    second = await other.dispatch()
    assert opened(second).attempt == 2
    verdicts = await host.attach(inventory=[held(key)])
    assert verdicts[0].action is VerdictAction.KILL
    await other.finish(second.attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_a_kernel_that_was_held_up_gives_nobody_up(rig: Rig) -> None:
    """A kernel that was itself blocked restarts the clocks of silence, which then count as before."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    await rig.advance(1)
    host.silent = True
    await rig.jump(3600)
    assert await rig.state(run_id) is RunState.RUNNING
    assert "host.unreachable" not in [event.kind for event in await rig.events()]
    await rig.advance(8)
    assert await rig.state(run_id) is RunState.RUNNING
    await rig.advance(4)
    assert await rig.state(run_id) is RunState.FAILED


@pytest.mark.parametrize("may_run_again", [True, False])
async def test_a_host_that_kept_the_grace_itself(rig: Rig, may_run_again: bool) -> None:
    """An attempt that its host killed for the kernel's silence is tried again, like one the kernel gave up."""
    rig.jobs.add(job("a", retry_on_lost=may_run_again))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed("host_lost"))
    if may_run_again:
        second = await host.dispatch(2)
        assert opened(second).attempt == 2
        await host.finish(second.attempt_key)
    assert await rig.state(run_id) is (RunState.SUCCEEDED if may_run_again else RunState.FAILED)


async def test_a_proven_crash_fails_the_attempt_and_the_policy_decides(rig: Rig) -> None:
    """A new incarnation that lists the old one as ended fails its attempts host_crashed; retries as for any failure."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=0)), job("b"))
    host = await rig.host()
    first = (await rig.trigger("a")).run_id
    second = (await rig.trigger("b")).run_id
    await rig.settle()
    rig.engine.detach(host.key, host)
    successor = PlayedHost(rig)
    await successor.attach(ended=[host.incarnation])
    detail = await rig.detail(second)
    assert detail.run.state is RunState.FAILED
    assert detail.run.reason is not None
    assert detail.run.reason.code == "host_crashed"
    retried = await successor.dispatch()
    assert (retried.run_id, opened(retried).attempt) == (first, 2)


async def test_a_new_incarnation_settles_nothing_by_silence(rig: Rig) -> None:
    """The old instance's attempt without proof stays RUNNING until GRACE decides."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.start((await host.dispatch()).attempt_key)
    rig.engine.detach(host.key, host)
    await PlayedHost(rig).attach()
    assert await rig.state(run_id) is RunState.RUNNING


async def test_a_newer_session_ends_the_older_one(rig: Rig) -> None:
    """The same incarnation attaching again ends the old link; the old stream's end then changes nothing."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    second = PlayedHost(rig)
    second.incarnation = host.incarnation
    await second.attach()
    assert len(host.ended) == 1
    rig.engine.detach(host.key, host)
    await rig.settle()
    await rig.trigger("a")
    assert opened(await second.dispatch()).job_id == "a"


async def test_cancel_goes_to_the_host_and_waits_for_proof(rig: Rig) -> None:
    """A running attempt stays RUNNING until the host says that its code has stopped; a second cancel adds nothing."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    await rig.engine.cancel(run_id, by="ann", why="")
    await rig.engine.cancel(run_id, by="bob", why="")
    order = await host.order(2)
    assert isinstance(order, CancelOrder)
    assert (order.by, order.reason_code) == ("ann", "canceled_by_user")
    await rig.settle()
    assert len(host.orders) == 2
    assert await rig.state(run_id) is RunState.RUNNING
    from rig import canceled

    await host.report(key, canceled(), first_seq=2)
    detail = await rig.detail(run_id)
    assert [attempt.state for attempt in detail.attempts] == ["CANCELED", "SKIPPED"]
    assert detail.run.state is RunState.CANCELED


async def test_a_result_that_won_the_race_stands_and_the_run_is_canceled(rig: Rig) -> None:
    """A step that finished before the cancel took effect keeps its result; the run is CANCELED before its next step."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await rig.engine.cancel(run_id, by="ann", why="")
    await host.finish(key, finished(rows_affected=7))
    detail = await rig.detail(run_id)
    assert (detail.attempts[0].state, detail.attempts[0].rows_affected) == (AttemptState.SUCCEEDED, 7)
    assert detail.run.state is RunState.CANCELED


async def test_cancel_while_queued_and_in_backoff_is_immediate(rig: Rig) -> None:
    """A run that waits has no code to stop."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=3, base_seconds=60)))
    queued = (await rig.trigger("a")).run_id
    await rig.engine.cancel(queued, by="ann", why="")
    assert await rig.state(queued) is RunState.CANCELED
    await rig.engine.cancel(queued, by="ann", why="again")
    host = await rig.host()
    waiting = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    await rig.engine.cancel(waiting, by="ann", why="")
    detail = await rig.detail(waiting)
    assert (detail.run.state, detail.attempts[-1].state) == (RunState.CANCELED, AttemptState.CANCELED)
    await rig.advance(100)
    assert len(host.orders) == 1


async def test_a_host_without_code_gets_nothing_until_it_has_some(rig: Rig) -> None:
    """A host whose first load failed gets no run; a waiting one has one row, and starts after a reload."""
    rig.jobs.add(job("a"))
    host = await rig.host(generation=0)
    run_id = (await rig.trigger("a")).run_id
    await rig.advance(1)
    assert (await rig.detail(run_id)).attempts == []
    reason = rig.engine.holdup(run_id)
    assert reason is not None
    assert reason.code == "waiting_for_host"
    rig.engine.heartbeat(host.key, HeartbeatInfo(generation=1))
    await host.finish((await host.dispatch()).attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_a_refused_load_stands_until_one_succeeds(rig: Rig) -> None:
    """A refused load is one event, a warning of each trigger and part of the instance; the next good load ends it."""
    for name in "abcd":
        rig.jobs.add(job(name))
    host = await rig.host()
    problem = Problem(severity=Severity.ERROR, code="bad_toml", file="jobs.toml", line=7, path="", message="no value")
    refused = RefusedLoad(at_us=5, message="the load is refused", problems=(problem,) * 3)
    rig.engine.loaded(host.key, LoadInfo(refused=refused))
    await host.attach(refused_load=refused)
    (warning,) = (await rig.trigger("a")).warnings
    assert "so its last good code runs: jobs.toml:7: no value (and 2 more)" in warning
    assert [one.refused_load for one in rig.engine.instances()] == [refused]
    rig.engine.loaded(host.key, LoadInfo(refused=RefusedLoad(at_us=6, message="still")))
    assert "last good code runs: still" in (await rig.trigger("b")).warnings[0]
    by_kernel = RefusedLoad(at_us=7, message="", problems=(replace(problem, code="manifest_refused"),))
    rig.engine.loaded(host.key, LoadInfo(refused=by_kernel))
    assert "so its jobs stay as they were: " in (await rig.trigger("d")).warnings[0]
    load = LoadInfo(generation=2, jobs=1, removed_job_ids=("d",), removed_count=60, problems=(problem,))
    rig.engine.loaded(host.key, load)
    assert (await rig.trigger("c")).warnings == ()
    assert [one.refused_load for one in rig.engine.instances()] == [None]
    events = [event for event in await rig.events() if event.kind.startswith("host.re")]
    assert (events[-1].data["removed_job_ids"], events[-1].data["removed_count"]) == (["d"], 60)
    assert [each["message"] for each in events[-1].data["problems"]] == ["no value"]
    assert "refused" not in events[-1].data
    told = [event.kind for event in events]
    refusals = ["host.reload_refused"] * 2
    assert told == ["host.reload_refused", "host.reattached", *refusals, "host.reloaded"]


async def test_a_host_that_is_heard_again_is_told_as_back(rig: Rig) -> None:
    """Its session may have lasted, as when its main process was held up: then it does not attach again."""
    host = await rig.host()
    host.silent = True
    await rig.advance(3)
    host.silent = False
    await rig.advance(3)
    assert [event.kind for event in await rig.events()] == ["host.attached", "host.unreachable", "host.reattached"]
