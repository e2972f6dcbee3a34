"""The scheduler's fires, on time and late."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rig import job
from scheduler_rig import Bench

from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_api.v1.sealing import open_order
from nomaflow_kernel.domain.clock import from_us
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_project.cron import zone
from nomaflow_project.jobs.definitions import Misfire, Overlap, PresetDefinition
from waiting import eventually


async def test_fires_when_due_and_once(bench: Bench) -> None:
    """A schedule fires at its instants, each exactly once, with the instant as the trigger's time."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    assert await bench.runs() == []
    await bench.tick(45)
    assert await bench.runs() == [("QUEUED", "14:14:00")]
    await bench.tick(5)
    await bench.tick(60)
    assert await bench.runs() == [("QUEUED", "14:14:00"), ("QUEUED", "14:15:00")]


async def test_presets_fire_by_their_own_schedule(bench: Bench) -> None:
    """A preset's schedule counts beside the job's, and where the job's is switched off."""
    preset = PresetDefinition(name="p", schedule="15 16 * * *", timezone="Europe/Paris")
    bench.jobs.add(job("a", schedule="0 3 * * *", presets=(preset,)))
    bench.jobs.add(job("b", schedule="* * * * *", enabled=False))
    await bench.look()
    assert bench.scheduler.next_fire_us("a") is not None
    assert bench.scheduler.next_fire_us("b") is None
    await bench.tick(120)
    page = await bench.store.list_runs(RunFilter(), before="", limit=10)
    assert [(run.job_id, run.request.preset) for run in page.runs] == [("a", "p")]


async def _is_stored(bench: Bench, job_id: str, next_fire_us: int | None) -> bool:
    return {row.job_id: row.next_fire_us for row in await bench.store.schedules()}.get(job_id) == next_fire_us


async def test_a_change_of_some_jobs_leaves_the_others_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named jobs alone are looked at: a new one fires, a changed one fires anew, one that is gone does not."""
    for name in ("changed", "gone", "same"):
        bench.jobs.add(job(name, schedule="0 16 * * *"))
    await bench.look()
    same = bench.scheduler.next_fire_us("same")
    bench.jobs.add(job("changed", schedule="0 17 * * *"), job("new", schedule="* * * * *"), job("same"))
    del bench.jobs.definitions["gone"]
    monkeypatch.setattr(bench.jobs, "jobs", lambda **_: pytest.fail("looked at all jobs"))
    bench.scheduler.jobs_changed(["changed", "gone", "new"])
    await eventually(lambda: bench.scheduler.next_fire_us("new"))
    found = {name: bench.scheduler.next_fire_us(name) for name in ("changed", "gone", "same")}
    assert from_us(found["changed"] or 0).strftime("%H:%M") == "17:00"
    assert (found["gone"], found["same"]) == (None, same)
    for job_id in ("gone", "changed"):
        await eventually(lambda job_id=job_id: _is_stored(bench, job_id, found[job_id]))


async def test_downtime_is_one_row_and_the_latest_runs(bench: Bench) -> None:
    """The latest fire within the window runs after a downtime; the others are one MISSED row with the reason."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.close()
    bench.clock.advance(600)
    await bench.open()
    await bench.look()
    runs = (await bench.store.list_runs(RunFilter(), before="", limit=10)).runs
    missed = next(run for run in runs if run.state is RunState.MISSED)
    assert missed.reason is not None
    assert missed.fold is not None
    assert (missed.reason.code, missed.fold.count) == ("kernel_down", 9)
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:23:00")]


async def test_clock_set_back_fires_nothing_twice_and_goes_on_at_once(bench: Bench) -> None:
    """After the clock went back, instants that fired do not fire again, also with a policy that would cancel; those
    that come for the first time do."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap=Overlap.CANCEL_RUNNING))
    await bench.look()
    for _ in range(3):
        await bench.tick(60)
    assert [at for _, at in await bench.runs()] == ["14:14:00", "14:15:00", "14:16:00"]
    bench.clock.wall_us -= 4 * 60_000_000
    await bench.tick(60)
    await bench.tick(60)
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:13:00")]
    for _ in range(4):
        await bench.tick(60)
    fired = [at for _, at in await bench.runs()]
    assert sorted(fired) == ["14:13:00", "14:14:00", "14:15:00", "14:16:00", "14:17:00", "14:18:00"]


async def test_a_clock_that_was_ahead_in_an_earlier_life_holds_nothing_up(bench: Bench) -> None:
    """A kernel with future events in its store does not wait for the fires that it computed back then."""
    bench.jobs.add(job("a", schedule="0 14 * * *", overlap="allow"))
    bench.clock.wall_us += 400 * 86_400_000_000
    await bench.look()
    await bench.host()
    await bench.close()
    bench.clock.wall_us -= 400 * 86_400_000_000
    await bench.open()
    await bench.look()
    next_fire = bench.scheduler.next_fire_us("a")
    assert next_fire is not None
    assert from_us(next_fire).strftime("%Y-%m-%dT%H:%M") == "2026-09-22T14:00"


async def test_a_fire_of_an_earlier_life_whose_clock_was_ahead_replaces_nothing(bench: Bench) -> None:
    """A kernel whose newest events have the right time again still asks which of the coming instants have fired."""
    bench.jobs.add(job("a", schedule="15 14 * * *", overlap=Overlap.CANCEL_RUNNING))
    await bench.look()
    bench.clock.wall_us += 120_000_000
    await bench.look()
    bench.clock.wall_us -= 120_000_000
    await bench.look()
    await bench.trigger("a")
    await bench.close()
    await bench.open()
    await bench.tick(120)
    assert await bench.runs() == [("CANCELED", "14:15:00"), ("QUEUED", "14:13:20")]


async def test_clock_set_forward_is_a_misfire_with_its_reason(bench: Bench) -> None:
    """Fires that a forward jump passed over are recorded as clock_jumped."""
    bench.jobs.add(job("a", schedule="*/10 * * * *", misfire="skip"))
    await bench.look()
    bench.clock.wall_us += 3_000_000_000
    await bench.look()
    page = await bench.store.list_runs(RunFilter(states=(RunState.MISSED,)), before="", limit=10)
    assert page.runs[0].reason is not None
    assert page.runs[0].fold is not None
    assert (page.runs[0].reason.code, page.runs[0].fold.count) == ("clock_jumped", 5)


async def test_fires_in_a_pause_fold_and_do_not_come_after_it(bench: Bench) -> None:
    """Fires during a pause are one MISSED row; after the pause the schedule continues from then."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.engine.set_pause(PauseRecord(scope="job", name="a", by="", why="", since_us=0, until_us=None))
    await bench.look()
    for _ in range(3):
        await bench.tick(60)
    await bench.engine.clear_pause("job", "a")
    await bench.tick(60)
    page = await bench.store.list_runs(RunFilter(states=(RunState.MISSED,)), before="", limit=10)
    assert page.runs[0].fold is not None
    assert (len(page.runs), page.runs[0].fold.count) == (1, 3)
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:17:00")]


async def test_a_changed_schedule_counts_from_now(bench: Bench) -> None:
    """A new expression replaces the stored next fire; a removed job has none."""
    bench.jobs.add(job("a", schedule="0 0 1 1 *"))
    await bench.look()
    far = bench.scheduler.next_fire_us("a")
    bench.jobs.add(job("a", schedule="* * * * *"))
    await bench.look()
    near = bench.scheduler.next_fire_us("a")
    assert far is not None
    assert near is not None
    assert near < far
    bench.jobs.removed.add("a")
    await bench.look()
    assert bench.scheduler.next_fire_us("a") is None
    assert not await bench.store.schedules()


async def test_nothing_is_kept_of_a_schedule_that_is_gone(bench: Bench) -> None:
    """A project may have new jobs with each release: what is stored and known of their schedules goes with them."""
    for release in range(3):
        bench.jobs.definitions = {name: job(name, schedule="* * * * *") for name in (f"a{release}", f"b{release}")}
        await bench.look()
    del bench.jobs.definitions["b2"]
    bench.scheduler.jobs_changed(["b2"])
    await eventually(lambda: _is_stored(bench, "b2", None))
    assert [row.job_id for row in await bench.store.schedules()] == ["a2"]
    assert bench.scheduler._schedules.keys() == {"a2"}


async def test_a_pause_that_ended_while_the_kernel_was_down_covers_its_own_time_only(bench: Bench) -> None:
    """Fires of the pause are MISSED paused with its reason; those after its end follow the misfire policy."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    start = bench.clock.now_us()
    pause = PauseRecord(scope="all", name="", by="", why="audit", since_us=start, until_us=start + 130_000_000)
    await bench.engine.set_pause(pause)
    await bench.close()
    bench.clock.advance(300)
    await bench.open()
    await bench.look()
    assert await bench.missed() == [
        ("paused", 2, "14:14:00", "14:15:00"),
        ("kernel_down", 2, "14:16:00", "14:17:00"),
    ]
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:18:00")]
    assert bench.engine.pauses() == []


async def test_a_fire_at_the_very_end_of_a_pause_runs(bench: Bench) -> None:
    """A pause until an instant does not hold the fire of that instant."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    now = bench.clock.now_us()
    pause = PauseRecord(scope="job", name="a", by="", why="", since_us=now, until_us=now + 40_000_000)
    await bench.engine.set_pause(pause)
    await bench.tick(40)
    assert await bench.runs() == [("QUEUED", "14:14:00")]


async def test_other_zone_data_loses_no_fire_that_was_due(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coming fires are computed again after a zone update, and those that were due are still judged."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.close()
    bench.clock.advance(120)
    monkeypatch.setattr("nomaflow_kernel.scheduler.schedules.zone_data_version", lambda: "2099z")
    await bench.open()
    await bench.look()
    assert await bench.missed() == [("kernel_down", 1, "14:14:00", "14:14:00")]
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:15:00")]
    [row] = await bench.store.schedules()
    assert row.fingerprint.endswith("2099z")


async def test_a_zone_that_is_gone_stops_no_other_schedule(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept job in a zone that this machine no longer has runs the fire that was due; the other jobs fire on."""
    bench.jobs.add(job("a", schedule="* * * * *", timezone="Europe/Paris"), job("b", schedule="* * * * *"))
    await bench.look()
    await bench.close()
    monkeypatch.setattr("nomaflow_kernel.scheduler.schedules.zone_data_version", lambda: "2099z")
    monkeypatch.setattr("nomaflow_kernel.scheduler.schedules.zone", lambda name: zone(name.replace("Paris", "Gone")))
    bench.clock.advance(60)
    await bench.open()
    await eventually(lambda: bench.scheduler.next_fire_us("a") is None)
    await bench.tick(60)
    page = await bench.store.list_runs(RunFilter(), before="", limit=10)
    assert sorted(run.job_id for run in page.runs) == ["a", "b", "b"]


async def test_a_long_downtime_of_a_frequent_schedule_is_counted_exactly(bench: Bench) -> None:
    """More fires than are looked at one by one are still in the row, from the very first."""
    bench.jobs.add(job("a", schedule="* * * * * *", overlap="allow", misfire="skip"))
    await bench.look()
    await bench.close()
    bench.clock.advance(3_000)
    await bench.open()
    await bench.look()
    on_time = len(await bench.runs(RunState.QUEUED))
    [(code, count, first, _)] = await bench.missed()
    assert (code, first, count + on_time) == ("kernel_down", "14:13:21", 3_000)


async def test_the_fires_of_a_year_are_counted_at_once(bench: Bench) -> None:
    """A kernel that was away for so long does not keep its jobs waiting until it has counted what they have missed."""
    bench.jobs.add(job("a", schedule="* * * * * *", overlap="allow", misfire="skip"))
    await bench.look()
    await bench.close()
    year = 365 * 86_400
    bench.clock.advance(year)
    await bench.open()
    await bench.look()
    on_time = len(await bench.runs(RunState.QUEUED))
    [(code, count, first, _)] = await bench.missed()
    assert (code, first, count + on_time) == ("kernel_down", "14:13:21", year)


async def test_fires_go_on_where_the_row_they_fold_into_was_pruned(bench: Bench) -> None:
    """Fires go to a new row, the next ones with them, and nothing is read again for that."""
    bench.jobs.add(job("a", schedule="* * * * *"))
    await bench.look()
    await bench.trigger("a")
    await bench.tick(60)
    await bench.tick(60)
    rebuilt = bench.engine._state.rebuilt
    far = bench.clock.now_us() + 3600 * 1_000_000
    assert await bench.store.prune(job_id="a", keep_runs=None, before_us=far, limit=10) == 1
    await bench.tick(60)
    await bench.tick(60)
    page = await bench.store.list_runs(RunFilter(states=(RunState.SKIPPED,)), before="", limit=10)
    assert [run.fold.count for run in page.runs if run.fold] == [2]
    assert bench.engine._state.rebuilt == rebuilt


async def test_a_fire_does_not_run_again_where_the_clock_goes_back_and_its_run_is_too_many(bench: Bench) -> None:
    """Retention by number keeps what proves that an instant of the last day was fired."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    host = await bench.host()
    for number in range(1, 21):
        bench.clock.advance(60)
        bench.engine.heartbeat(host.key, host.heartbeat)
        await bench.look()
        await host.finish((await host.dispatch(number)).attempt_key)
    day_ago = bench.clock.now_us() - 86_400_000_000
    prune = {"job_id": "a", "keep_runs": 5, "before_us": None, "limit": 100}
    assert await bench.store.prune(**prune, proofs_after_us=day_ago) == 0
    bench.clock.wall_us -= 15 * 60_000_000
    for _ in range(15):
        bench.clock.advance(60)
        bench.engine.heartbeat(host.key, host.heartbeat)
        await bench.look()
    await bench.settle()
    fired = [open_order(order.order).trigger_at_us for order in host.orders if isinstance(order, DispatchOrder)]
    assert len(fired) == len(set(fired)) == 20
    assert await bench.store.prune(**prune, proofs_after_us=bench.clock.now_us() + 1) == 15


async def test_the_count_spares_what_tells_of_missed_fires(bench: Bench) -> None:
    """Retention by number keeps for a day that fires were missed, as it keeps those that ran."""
    bench.jobs.add(job("a", schedule="0 * * * *", misfire="skip", overlap="allow"))
    await bench.look()
    await bench.tick(3 * 3600 + 1800)
    for _ in range(3):
        await bench.trigger("a")
    assert len(await bench.missed()) == 2
    prune = {"job_id": "a", "keep_runs": 1, "before_us": None, "limit": 100}
    assert await bench.store.prune(**prune, proofs_after_us=bench.clock.now_us() - 86_400_000_000) == 0
    assert await bench.store.prune(**prune, proofs_after_us=bench.clock.now_us() + 1) == 2


async def test_a_refused_fire_leaves_a_row(bench: Bench) -> None:
    """A fire that the kernel cannot accept is MISSED with what refused it."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    bench.engine._state.settings = replace(bench.engine._state.settings, max_waiting=0)
    await bench.tick(45)
    assert await bench.missed() == [("fire_refused", 1, "14:14:00", "14:14:00")]


async def test_fires_of_a_held_job_are_one_row_that_counts(bench: Bench) -> None:
    """Each is MISSED with the cause, one row counts many, and what was missed does not run later."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow", misfire=Misfire.ALL))
    bench.jobs.held["a"] = "the module of 'm:f' cannot be imported"
    await bench.look()
    await bench.tick(45)
    await bench.tick(60)
    await bench.close()
    bench.clock.advance(600)
    await bench.open()
    await bench.look()
    rows = [("job_disabled", 2, "14:14:00", "14:15:00"), ("job_disabled", 10, "14:16:00", "14:25:00")]
    assert await bench.missed() == rows
    del bench.jobs.held["a"]
    await bench.tick(60)
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:26:00")]
    bench.jobs.held["a"] = "the module of 'm:f' cannot be imported"
    await bench.tick(60)
    assert await bench.missed() == [*rows, ("job_disabled", 1, "14:27:00", "14:27:00")]


async def test_preset_flags_and_zones_are_their_own(bench: Bench) -> None:
    """A preset fires in its own zone even if its job is disabled, but not if it is disabled itself."""
    own = PresetDefinition(name="own", schedule="0 17 * * *", timezone="Asia/Kolkata", params={"p": 1})
    off = PresetDefinition(name="off", schedule="* * * * *", enabled=False)
    bench.jobs.add(job("a", schedule="* * * * *", enabled=False, presets=(own, off)))
    await bench.look()
    assert [bench.scheduler.next_fire_us("a", preset) is not None for preset in ("", "own", "off")] == [
        False,
        True,
        False,
    ]
    next_fire = bench.scheduler.next_fire_us("a", "own")
    assert next_fire is not None
    assert from_us(next_fire).strftime("%H:%M") == "11:30"


async def test_a_kernel_that_is_fenced_stops_firing_quietly(bench: Bench) -> None:
    """The scheduler ends by itself once the engine refuses, and can still be stopped."""
    bench.jobs.add(job("a", schedule="* * * * *"))
    await bench.look()
    await bench.engine.stop()
    await bench.tick(60)
    await bench.scheduler.stop()


async def test_a_clock_set_back_and_forth_counts_no_fire_as_missed(bench: Bench) -> None:
    """The instants between had their runs: none is recorded as passed over, and none runs again."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    for _ in range(10):
        await bench.tick(60)
    before = await bench.runs(RunState.QUEUED)
    bench.clock.wall_us -= 500 * 1_000_000
    await bench.tick(3)
    bench.clock.wall_us += 500 * 1_000_000
    await bench.tick(3)
    assert await bench.missed() == []
    assert await bench.runs(RunState.QUEUED) == before
