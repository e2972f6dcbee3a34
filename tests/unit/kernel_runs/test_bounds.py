"""Obstacles of runs: limits per job and per host, pauses, and the sentence about them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from rig import Rig, command, failed, job, opened, step

from nomaflow_api.v1.letters import InventoryLine
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.engine.run_plan import RunPlan, plan_run
from nomaflow_kernel.engine.timers import DueTimes
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.records import PauseRecord, RunRequest, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_project.jobs.definitions import JobDefinition, Overlap, PresetDefinition
from nomaflow_project.jobs.retry_policy import RetryPolicy


async def test_max_parallel_of_a_host_bounds_all_its_instances(rig: Rig) -> None:
    """Steps of both kinds on all instances count together; call_job holds none; other hosts are free."""
    rig.jobs.bounds["demo"] = 2
    rig.jobs.add(
        job("a", overlap=Overlap.ALLOW),
        job("parent", step("call", type="call_job", callable="", target_job_id="a")),
        job("b", host="other"),
    )
    one, two, other = await rig.host(), await rig.host(), await rig.host(host="other")
    await rig.trigger("parent")
    await rig.trigger("a")
    third = (await rig.trigger("a")).run_id
    await rig.trigger("b")
    await other.dispatch()
    assert sorted([len(one.orders), len(two.orders)]) == [1, 1]
    reason = rig.engine.holdup(third)
    assert reason is not None
    assert (reason.code, reason.message) == (
        "waiting_for_slot",
        "host 'demo' is already running 2 steps (its max_parallel)",
    )
    await one.finish((await one.dispatch()).attempt_key)
    await rig.settle()
    assert await rig.state(third) is RunState.RUNNING


async def test_a_step_that_is_due_starts_once_the_bound_of_its_host_is_raised(rig: Rig) -> None:
    """A change of the catalogue has the next tries looked at too, and not only the runs that wait."""
    rig.jobs.bounds["demo"] = 1
    rig.jobs.add(
        job("a", step("one", retry=RetryPolicy(attempts=2, base_seconds=1, jitter=0))), job("b", overlap=Overlap.ALLOW)
    )
    host = await rig.host()
    again = (await rig.trigger("a")).run_id
    await rig.trigger("b")
    await host.finish((await host.dispatch()).attempt_key, failed())
    await host.dispatch(2)
    await rig.advance(2)
    reason = rig.engine.holdup(again)
    assert reason is not None
    assert reason.message == "host 'demo' is already running 1 step (its max_parallel)"
    rig.jobs.bounds["demo"] = 2
    rig.engine.jobs_changed()
    await rig.settle()
    assert (await host.dispatch(3)).run_id == again


async def test_one_run_is_named_as_one(rig: Rig) -> None:
    """The sentences about limits of one run say so."""
    rig.jobs.add(job("a", max_parallel=1, overlap=Overlap.ALLOW), job("b", overlap=Overlap.QUEUE, max_queued=1))
    await rig.host()
    await rig.trigger("a")
    reason = rig.engine.holdup((await rig.trigger("a")).run_id)
    assert reason is not None
    assert reason.message == "1 run of job 'a' is already running (max_parallel)"
    for _ in range(2):
        await rig.trigger("b")
    skipped = (await rig.trigger("b")).reason
    assert skipped is not None
    assert skipped.message == "skipped: 1 run of the job was already waiting (max_queued)"


async def test_a_step_that_follows_waits_for_the_host_s_bound_too(rig: Rig) -> None:
    """The bound holds between the steps of a run, and runs that have begun go before those that wait."""
    rig.jobs.bounds["demo"] = 1
    rig.jobs.add(job("long", step("one"), step("two")), job("short", overlap=Overlap.ALLOW))
    host = await rig.host()
    long = (await rig.trigger("long")).run_id
    await rig.trigger("short")
    await host.finish((await host.dispatch()).attempt_key)
    order = await host.dispatch(2)
    assert (order.run_id, order.step) == (long, "two")
    await host.finish(order.attempt_key)
    assert opened(await host.dispatch(3)).job_id == "short"


async def test_why_nothing_runs_is_said_in_one_sentence(rig: Rig) -> None:
    """Each obstacle has its own sentence; without an obstacle there is no sentence."""
    preset = PresetDefinition(name="p", schedule="* * * * *")
    rig.jobs.add(
        job("fine", schedule="0 0 * * *"),
        job("off", schedule="0 0 * * *", enabled=False),
        job("preset", enabled=False, presets=(preset,)),
        job("away", host="nobody"),
        job("bad"),
        job("gone"),
    )
    rig.jobs.invalid["bad"] = "unknown key 'shedule'"
    rig.jobs.removed.add("gone")
    await rig.host()
    assert {name: rig.engine.why_not_running(name) for name in rig.jobs.definitions} == {
        "fine": "",
        "off": "its schedule is switched off (enabled = false); it runs when it is started",
        "preset": "",
        "away": "no instance of host 'nobody' takes work",
        "bad": "unknown key 'shedule'",
        "gone": "host 'demo' no longer has the job",
    }
    await rig.engine.set_pause(PauseRecord(scope="all", name="", by="", why="audit", since_us=0, until_us=None))
    assert rig.engine.why_not_running("fine") == "everything is paused: audit"


async def test_a_pause_ends_by_itself_and_lets_waiting_runs_go(rig: Rig) -> None:
    """A pause ends by the wall clock, in which its end was given, even if the two clocks differ."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    now = rig.clock.now_us()
    pause = PauseRecord(scope="host", name="demo", by="", why="", since_us=now, until_us=now + 10_000_000)
    await rig.engine.set_pause(pause)
    run_id = (await rig.trigger("a")).run_id
    await rig.advance(9)
    assert await rig.state(run_id) is RunState.QUEUED
    rig.clock.wall_us -= 500_000
    await rig.advance(1.2)
    assert host.orders == []
    await rig.advance(0.5)
    await host.dispatch()
    assert rig.engine.pauses() == []
    assert await rig.store.pauses() == []


async def test_many_pauses_end_one_after_the_other_each_with_one_timer(rig: Rig) -> None:
    """The end of one sets no further timers for the others: with 25 pauses there would be millions of them."""
    timers = len(rig.engine._state.timers)
    for number in range(1, 9):
        name, until_us = f"job-{number}", rig.clock.now_us() + number * 10_000_000
        await rig.engine.set_pause(PauseRecord(scope="job", name=name, by="", why="", since_us=0, until_us=until_us))
    for left in range(7, -1, -1):
        await rig.advance(10)
        assert len(rig.engine.pauses()) == left
        assert len(rig.engine._state.timers) == timers + left


async def test_queue_timeout_fails_a_run_that_never_started(rig: Rig) -> None:
    """A run that waits longer than queue_timeout_seconds is FAILED queue_timed_out."""
    rig.jobs.add(job("a", queue_timeout_seconds=5))
    run_id = (await rig.trigger("a")).run_id
    await rig.advance(6)
    detail = await rig.detail(run_id)
    assert (detail.run.state, len(detail.attempts)) == (RunState.FAILED, 0)
    assert detail.run.reason is not None
    assert detail.run.reason.code == "queue_timed_out"


async def test_a_waiting_run_keeps_its_queue_timeout_over_a_restart(rig: Rig) -> None:
    """It is the one that the job had when the run was queued, whatever the job says by now."""
    rig.jobs.add(job("limited", queue_timeout_seconds=5), job("free"))
    limited, free = (await rig.trigger("limited")).run_id, (await rig.trigger("free")).run_id
    rig.jobs.add(job("limited"), job("free", queue_timeout_seconds=5))
    await rig.restart()
    await rig.advance(6)
    assert (await rig.state(limited), await rig.state(free)) == (RunState.FAILED, RunState.QUEUED)


async def test_timeouts_of_ended_runs_are_forgotten_before_they_are_due(rig: Rig) -> None:
    """A thousand runs a second with a timeout of an hour would leave 3.6 million timers; those of live runs stay."""
    rig.jobs.add(job("quick", timeout_seconds=3600.0), job("waits", host="away", queue_timeout_seconds=4000.0))
    host = await rig.host()
    waits = (await rig.trigger("waits")).run_id
    for number in range(110):
        await rig.trigger("quick")
        await host.finish((await host.dispatch(number + 1)).attempt_key)
    assert len(rig.engine._state.timers) < 100
    await rig.advance(4_001)
    assert await rig.state(waits) is RunState.FAILED


def test_due_times_that_are_replaced_take_no_memory() -> None:
    """Those that no longer count leave the heap long before they would have been due."""
    times: DueTimes[str, int] = DueTimes()
    for due in range(1000, 0, -1):
        times.put("a", due)
    assert len(times._heap) < 200
    assert (times.take_due(1000), times.next_due()) == ([("a", 1)], None)


async def test_a_pause_that_is_prolonged_again_and_again_gathers_no_timers(rig: Rig) -> None:
    """The timer of a pause that another has replaced is not set again."""
    timers = len(rig.engine._state.timers)
    pause = PauseRecord(scope="host", name="team", by="", why="", since_us=0, until_us=None)
    for _ in range(8):
        await rig.engine.set_pause(replace(pause, until_us=rig.clock.now_us() + 15_000_000))
        await rig.advance(10)
    assert len(rig.engine._state.timers) == timers + 1
    await rig.advance(5)
    assert (len(rig.engine.pauses()), len(rig.engine._state.timers)) == (0, timers)


async def test_a_pause_that_is_said_again_and_again_gathers_no_timers(rig: Rig) -> None:
    """With the same end each time, as by a script that sees to a maintenance window: one timer looks for its end."""
    timers = len(rig.engine._state.timers)
    pause = PauseRecord(scope="host", name="team", by="", why="", since_us=0, until_us=rig.clock.now_us() + 90_000_000)
    for _ in range(8):
        await rig.engine.set_pause(replace(pause, since_us=rig.clock.now_us()))
        await rig.advance(10)
    assert len(rig.engine._state.timers) == timers + 1
    await rig.advance(10)
    assert (len(rig.engine.pauses()), len(rig.engine._state.timers)) == (0, timers)


async def test_a_pause_that_is_prolonged_as_it_ends_holds_on(rig: Rig) -> None:
    """A longer pause that is set in the turn in which the old one ends is not removed with it."""
    now = rig.clock.now_us()
    short = PauseRecord(scope="all", name="", by="", why="", since_us=now, until_us=now + 10_000_000)
    longer = replace(short, since_us=now + 9_000_000, until_us=now + 60_000_000)
    await rig.engine.set_pause(short)
    rig.clock.advance(10.5)
    await asyncio.gather(rig.engine.set_pause(longer), rig.settle())
    await rig.settle()
    assert await rig.store.pauses() == [longer]
    assert rig.engine.pauses() == [longer]


async def test_a_pause_that_ended_while_no_kernel_ran_is_known_for_a_minute(rig: Rig) -> None:
    """The fires in its time are judged only after the start."""
    now = rig.clock.now_us()
    pause = PauseRecord(scope="all", name="", by="", why="", since_us=now, until_us=now + 10_000_000)
    await rig.engine.set_pause(pause)
    rig.clock.advance(20)
    await rig.restart()
    for seconds, known in ((50, pause), (15, None)):
        await rig.advance(seconds)
        assert rig.engine.pause_of("a", "demo", now + 1) == known


async def test_pauses_set_and_ended_in_one_turn_are_as_the_last_call_says(rig: Rig) -> None:
    """Each call is answered and has its event, and store and engine agree."""
    pause = PauseRecord(scope="job", name="a", by="", why="", since_us=0, until_us=None)
    engine = rig.engine
    for calls, kept in (
        ([engine.set_pause(pause), engine.clear_pause("job", "a")], []),
        ([engine.set_pause(pause), engine.clear_pause("job", "a"), engine.set_pause(pause)], [pause]),
        ([engine.clear_pause("job", "a"), engine.set_pause(pause)], [pause]),
        ([engine.clear_pause("job", "a"), engine.set_pause(pause), engine.clear_pause("job", "a")], []),
    ):
        await asyncio.gather(*calls)
        assert await rig.store.pauses() == engine.pauses() == kept
    told = [
        event.kind for event in (await rig.store.events_after(0, limit=100)).events if event.kind.startswith("pause.")
    ]
    assert told == ["pause.set", "pause.cleared"] * 5
    assert engine.overview().rebuilt == 1


@pytest.mark.parametrize("stored", [True, False])
async def test_a_pause_whose_answer_was_lost_holds_where_it_was_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """A stored pause holds even if its caller was told that the outcome is unknown, and one that is not does not."""
    pause = PauseRecord(scope="all", name="", by="", why="", since_us=0, until_us=None)
    real = rig.store.apply

    async def lose_answer(*args: Any, **kwargs: Any) -> ApplyResult:
        monkeypatch.undo()
        if stored:
            await real(*args, **kwargs)
        raise StoreUnavailable("the answer was lost", outcome_unknown=True)

    monkeypatch.setattr(rig.store, "apply", lose_answer)
    with pytest.raises(StoreUnavailable):
        await rig.engine.set_pause(pause)
    await rig.settle()
    assert rig.engine.pauses() == ([pause] if stored else [])


async def test_the_pauses_of_job_host_and_everything_are_each_their_own(rig: Rig) -> None:
    """A run waits until the last of them is over."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    scopes = (("all", ""), ("host", "demo"), ("job", "a"))
    for scope, name in scopes:
        await rig.engine.set_pause(PauseRecord(scope=scope, name=name, by="", why="", since_us=0, until_us=None))
    run_id = (await rig.trigger("a")).run_id
    for scope, name in scopes:
        assert await rig.state(run_id) is RunState.QUEUED
        assert await rig.engine.clear_pause(scope, name)
        await rig.settle()
    await host.dispatch()


async def test_overlap_binds_every_kind_of_trigger_and_names_the_other_run(rig: Rig) -> None:
    """cron, manual, API, CLI and call_job runs are all held off by any active run; the row says by which."""
    rig.jobs.add(job("a"), job("parent", step("call", type="call_job", callable="", target_job_id="a")))
    active = (await rig.trigger("a", kind=TriggerKind.MANUAL)).run_id
    for kind in (TriggerKind.API, TriggerKind.CLI, TriggerKind.MANUAL):
        outcome = await rig.trigger("a", kind=kind)
        assert outcome.reason is not None
        assert (outcome.state, outcome.reason.code) == (RunState.SKIPPED, "overlap")
        assert active in outcome.reason.message
    slot = TriggerCommand(job_id="a", kind=TriggerKind.CRON, at_us=rig.clock.now_us(), slot="a//1")
    await rig.engine.fire([slot])
    parent = (await rig.detail((await rig.trigger("parent")).run_id)).run
    assert parent.reason is not None
    assert (parent.state, parent.reason.code) == (RunState.FAILED, "child_not_run")
    page = [event for event in await rig.events() if event.state == "SKIPPED"]
    assert len(page) == 5


async def test_many_runs_that_waited_over_a_restart_start_together(rig: Rig) -> None:
    """The data of waiting runs is loaded in bulk, in their order."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW), job("b", overlap=Overlap.ALLOW, priority=5))
    low = [(await rig.trigger("a")).run_id for _ in range(150)]
    high = [(await rig.trigger("b")).run_id for _ in range(20)]
    await rig.restart()
    host = await rig.host(max_async=500)
    await host.dispatch(170)
    assert [order.run_id for order in host.orders] == [*high, *low]


async def test_what_does_not_count_as_a_try_does_not_after_a_restart_either(rig: Rig) -> None:
    """A refused dispatch uses up no attempt, and a failure uses up one, whichever kernel counts."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, base_seconds=1, jitter=0), retry_on_lost=True))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed("worker_killed"))
    for count in (2, 3):
        key = (await host.dispatch(count)).attempt_key
        await host.start(key)
        await rig.restart()
        line = InventoryLine(attempt_key=key)
        await host.attach(inventory=[line])
        await host.report(key, failed(), first_seq=2)
        await rig.advance(2)
    detail = await rig.detail(run_id)
    assert detail.run.state is RunState.FAILED
    assert [each.state for each in detail.attempts] == [AttemptState.FAILED] * 3


async def test_a_flood_on_one_host_holds_up_no_other(rig: Rig) -> None:
    """Hosts have slots of their own; within a host the jobs take turns, so that one job's flood holds up no other."""
    rig.jobs.add(job("flood", overlap=Overlap.ALLOW), job("calm", overlap=Overlap.ALLOW), job("b", host="other"))
    busy, other = await rig.host(max_async=1), await rig.host(host="other", max_async=1)
    for _ in range(50):
        await rig.trigger("flood")
    await rig.trigger("calm")
    await rig.trigger("b")
    await other.dispatch()
    for count in (1, 2, 3):
        await busy.finish((await busy.dispatch(count)).attempt_key)
    assert "calm" in [opened(order).job_id for order in busy.orders[:3]]


async def test_a_change_of_the_catalogue_looks_at_lanes_of_absent_hosts_only(rig: Rig) -> None:
    """Runs that wait for an attached host are not searched, however many they are."""
    rig.jobs.add(job("a", overlap="allow"), job("lost", host="dmeo", overlap="allow"))
    await rig.host(max_async=1)
    runs = [(await rig.trigger("a")).run_id for _ in range(5)]
    lost = (await rig.trigger("lost")).run_id
    await rig.advance(60)
    rig.jobs.add(job("lost", overlap="allow"))
    asked: list[str] = []
    known = rig.jobs.job
    rig.jobs.job = lambda job_id: asked.append(job_id) or known(job_id)  # type: ignore[method-assign,func-returns-value]
    rig.engine.jobs_changed()
    await rig.settle()
    assert (await rig.state(lost), await rig.state(runs[-1])) == (RunState.CANCELED, RunState.QUEUED)
    assert asked.count("a") <= 1


async def test_a_trigger_with_values_is_planned_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine uses the draft that the checks before it were made with, and makes another if the job has changed."""
    planned: list[RunRequest] = []

    def count(definition: JobDefinition, request: RunRequest) -> RunPlan:
        planned.append(request)
        return plan_run(definition, request)

    monkeypatch.setattr("nomaflow_kernel.engine.state.plan_run", count)
    rig.jobs.add(job("a", overlap="allow"))
    drafted = await rig.engine.draft(command("a", params={"p": 1}))
    await rig.take(drafted)
    assert len(planned) == 1
    rig.jobs.add(job("a", step("other"), overlap="allow"))
    run_id = (await rig.take(drafted)).run_id
    assert len(planned) == 2
    assert [each["name"] for each in (await rig.detail(run_id)).definition["steps"]] == ["other"]
