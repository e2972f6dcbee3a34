"""The scheduler on a real store and engine, with a clock that the test moves."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import Rig, job

from nomaflow_kernel.domain.clock import from_us
from nomaflow_kernel.domain.jobs import PresetDefinition
from nomaflow_kernel.domain.states import RunState
from nomaflow_kernel.ports import PauseRecord, RunFilter
from nomaflow_kernel.scheduler import Scheduler


class Bench(Rig):
    """The rig with a scheduler."""

    scheduler: Scheduler

    async def open(self) -> None:
        """Start store, engine and scheduler."""
        await super().open()
        self.scheduler = Scheduler(store=self.store, clock=self.clock, jobs=self.jobs, engine=self.engine)
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


async def test_clock_set_back_fires_nothing_twice(bench: Bench) -> None:
    """After the clock went back an hour, instants that fired do not fire again."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.tick(60)
    bench.clock.wall_us -= 3_600_000_000
    for _ in range(5):
        await bench.tick(60)
    assert await bench.runs() == [("QUEUED", "14:14:00")]
    bench.clock.wall_us += 3_600_000_000
    await bench.look()
    assert len(set(await bench.runs())) == len(await bench.runs())


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
