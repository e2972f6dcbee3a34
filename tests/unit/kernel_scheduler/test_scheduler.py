"""The scheduler on a real store and engine, with a clock that the test moves."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import Rig, job

from nomaflow_kernel.domain.clock import from_us
from nomaflow_kernel.domain.hosting import DispatchOrder, HeartbeatInfo
from nomaflow_kernel.domain.jobs import Overlap, PresetDefinition
from nomaflow_kernel.domain.states import RunState
from nomaflow_kernel.ports import PauseRecord, RunFilter
from nomaflow_kernel.scheduler import Scheduler
from nomaflow_kernel.store.errors import StoreBusy, StoreUnavailable


class Bench(Rig):
    """The rig with a scheduler."""

    scheduler: Scheduler

    async def open(self) -> None:
        """Start store, engine and scheduler."""
        await super().open()
        self.scheduler = Scheduler(
            store=self.store,
            clock=self.clock,
            jobs=self.jobs,
            engine=self.engine,
            last_event_seq=self.info.last_event_seq,
        )
        await self.scheduler.start()

    async def close(self) -> None:
        """Stop them in the opposite order."""
        await self.scheduler.stop()
        await super().close()

    async def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and wait until the scheduler has looked at it."""
        self.clock.advance(seconds)
        await self.look()

    async def look(self) -> None:
        """Have the scheduler look at catalogue and clock."""
        await self.scheduler.settle()

    async def runs(self, *states: RunState) -> list[tuple[str, str]]:
        """Return (state, scheduled instant) of the runs, oldest first."""
        page = await self.store.list_runs(RunFilter(states=states), before="", limit=500)
        found = [(str(run.state), from_us(run.trigger.at_us).strftime("%H:%M:%S")) for run in page.runs]
        return found[::-1]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A scheduler at 2026-09-21 14:13:20 UTC."""
    built = Bench(tmp_path / "kernel.db")
    await built.open()
    yield built
    await built.close()


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


async def test_downtime_is_one_row_and_the_latest_runs(bench: Bench) -> None:
    """After a downtime the latest fire within the window runs, the others are one MISSED row with the reason."""
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
    """A kernel that finds events of the future in its store does not wait for the fires it worked out back then."""
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
    """While paused fires are one MISSED row; after the pause the schedule goes on from then."""
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
    assert [row.next_fire_us for row in await bench.store.schedules()] == [None]


async def missed(bench: Bench) -> list[tuple[str, int, str, str]]:
    """Return (code, count, first, last) of the MISSED rows, oldest first."""
    page = await bench.store.list_runs(RunFilter(states=(RunState.MISSED,)), before="", limit=50)
    found = []
    for run in reversed(page.runs):
        assert run.reason is not None
        assert run.fold is not None
        first, last = (from_us(at).strftime("%H:%M:%S") for at in (run.fold.first_us, run.fold.last_us))
        found.append((run.reason.code, run.fold.count, first, last))
    return found


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
    assert await missed(bench) == [
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


def fail_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the store's next call of that name fail, before anything is done."""
    real = getattr(bench.store, name)

    async def failing(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(bench.store, name, real)
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(bench.store, name, failing)


async def test_fires_that_a_failing_store_held_up_say_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are late for no fault of the clock: the reason is kernel_held_up, each is there once, the latest runs."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    real, working = bench.store.apply, [False]

    async def apply(*args: object, **kwargs: object) -> object:
        if not working[0]:
            raise StoreBusy("locked")
        return await real(*args, **kwargs)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(bench.store, "apply", apply)
    for _ in range(4):
        await bench.tick(60)
    working[0] = True
    await bench.look()
    assert await missed(bench) == [("kernel_held_up", 3, "14:14:00", "14:16:00")]
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:17:00")]


def lose_answer_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the store's next commit done, and its answer lost."""
    real = bench.store.apply

    async def apply(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(bench.store, "apply", real)
        await real(*args, **kwargs)  # type: ignore[arg-type]  # handed through
        raise StoreUnavailable("the answer is lost", outcome_unknown=True)

    monkeypatch.setattr(bench.store, "apply", apply)


async def test_a_commit_whose_answer_was_lost_fires_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fire that was stored all the same is not tried again: its successor would cancel it."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap=Overlap.CANCEL_RUNNING))
    await bench.look()
    lose_answer_once(bench, monkeypatch)
    await bench.tick(45)
    await bench.look()
    assert await bench.runs() == [("QUEUED", "14:14:00")]


async def test_a_commit_whose_answer_was_lost_counts_fires_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fire that does not run has no slot of its own, and is in one row all the same."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.engine.set_pause(PauseRecord(scope="job", name="a", by="", why="", since_us=0, until_us=None))
    await bench.look()
    lose_answer_once(bench, monkeypatch)
    await bench.tick(45)
    await bench.look()
    assert await missed(bench) == [("paused", 1, "14:14:00", "14:14:00")]


async def test_a_fire_outlives_a_failed_commit_and_then_a_failed_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry of a fire that was not kept asks what has run: where that read fails too, the fire is still owed."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    for name in ("apply", "slots_taken"):
        fail_once(bench, monkeypatch, name)
    for _ in range(4):
        await bench.tick(20)
    assert await missed(bench) == []
    assert await bench.runs() == [("QUEUED", "14:14:00")]


async def test_a_clock_set_back_is_heeded_though_the_store_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes again is worked out until it is kept: a failed commit holds no fire up until the clock catches up."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.tick(60)
    bench.clock.wall_us -= 3600 * 1_000_000
    fail_once(bench, monkeypatch, "apply")
    for _ in range(3):
        await bench.tick(30)
    assert [at for _, at in await bench.runs()] == ["14:14:00", "13:15:00"]


async def test_other_zone_data_loses_no_fire_that_was_due(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone update during a downtime works out coming fires anew, and those that were due are still judged."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.close()
    bench.clock.advance(120)
    monkeypatch.setattr("nomaflow_kernel.scheduler.schedules.zone_data_version", lambda: "2099z")
    await bench.open()
    await bench.look()
    assert await missed(bench) == [("kernel_down", 1, "14:14:00", "14:14:00")]
    assert await bench.runs(RunState.QUEUED) == [("QUEUED", "14:15:00")]
    [row] = await bench.store.schedules()
    assert row.fingerprint.endswith("2099z")


async def test_a_long_downtime_of_a_frequent_schedule_is_counted_exactly(bench: Bench) -> None:
    """More fires than are looked at one by one are still in the row, from the very first."""
    bench.jobs.add(job("a", schedule="* * * * * *", overlap="allow", misfire="skip"))
    await bench.look()
    await bench.close()
    bench.clock.advance(3_000)
    await bench.open()
    await bench.look()
    on_time = len(await bench.runs(RunState.QUEUED))
    [(code, count, first, _)] = await missed(bench)
    assert (code, first, count + on_time) == ("kernel_down", "14:13:21", 3_000)


async def test_fires_go_on_where_the_row_they_fold_into_was_pruned(bench: Bench) -> None:
    """They are in a new row, the next ones with them, and nothing is read anew for that."""
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
        bench.engine.heartbeat(host.incarnation, HeartbeatInfo())
        await bench.look()
        await host.finish((await host.dispatch(number)).attempt_key)
    day_ago = bench.clock.now_us() - 86_400_000_000
    prune = {"job_id": "a", "keep_runs": 5, "before_us": None, "limit": 100}
    assert await bench.store.prune(**prune, proofs_after_us=day_ago) == 0
    bench.clock.wall_us -= 15 * 60_000_000
    for _ in range(15):
        bench.clock.advance(60)
        bench.engine.heartbeat(host.incarnation, HeartbeatInfo())
        await bench.look()
    await bench.settle()
    fired = [order.trigger.at_us for order in host.orders if isinstance(order, DispatchOrder)]
    assert len(fired) == len(set(fired)) == 20
    assert await bench.store.prune(**prune, proofs_after_us=bench.clock.now_us() + 1) == 15


async def test_a_refused_fire_leaves_a_row(bench: Bench) -> None:
    """A fire that the kernel cannot accept is MISSED with what refused it."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    bench.engine._state.settings = replace(bench.engine._state.settings, max_waiting=0)
    await bench.tick(45)
    assert await missed(bench) == [("fire_refused", 1, "14:14:00", "14:14:00")]


async def test_preset_flags_and_zones_are_their_own(bench: Bench) -> None:
    """A preset fires where its job is disabled, in its own zone, and not where it is disabled itself."""
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
    """Once the engine refuses, the scheduler ends by itself and can still be stopped."""
    bench.jobs.add(job("a", schedule="* * * * *"))
    await bench.look()
    await bench.engine.stop()
    await bench.tick(60)
    await bench.scheduler.stop()
