"""A scheduler whose store fails: before a commit, or with its answer lost."""

from __future__ import annotations

import pytest
from rig import job
from scheduler_rig import Bench

from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy, StoreUnavailable
from nomaflow_project.jobs.definitions import Overlap


def fail_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the store's next call of that name fail, before anything is done."""
    real = getattr(bench.store, name)

    async def failing(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(bench.store, name, real)
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(bench.store, name, failing)


async def test_fires_that_a_failing_store_held_up_say_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fires delayed by the store have the reason kernel_held_up, each is there once, and the latest runs."""
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
    assert await bench.missed() == [("kernel_held_up", 3, "14:14:00", "14:16:00")]
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
    """A fire whose commit had a lost answer is not tried again: its successor would cancel it."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap=Overlap.CANCEL_RUNNING))
    await bench.look()
    lose_answer_once(bench, monkeypatch)
    await bench.tick(45)
    await bench.look()
    assert await bench.runs() == [("QUEUED", "14:14:00")]


async def test_a_commit_whose_answer_was_lost_counts_fires_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fire that does not run has no slot of its own, and is still counted in one row."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.engine.set_pause(PauseRecord(scope="job", name="a", by="", why="", since_us=0, until_us=None))
    await bench.look()
    lose_answer_once(bench, monkeypatch)
    await bench.tick(45)
    await bench.look()
    assert await bench.missed() == [("paused", 1, "14:14:00", "14:14:00")]


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
    assert await bench.missed() == []
    assert await bench.runs() == [("QUEUED", "14:14:00")]


async def test_a_clock_set_back_is_heeded_though_the_store_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fires are computed again until they are kept, so that a failed commit does not delay them for long."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    await bench.tick(60)
    bench.clock.wall_us -= 3600 * 1_000_000
    fail_once(bench, monkeypatch, "apply")
    for _ in range(3):
        await bench.tick(30)
    assert [at for _, at in await bench.runs()] == ["14:14:00", "13:15:00"]


async def test_a_job_that_goes_before_its_schedule_is_stored_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the store nor the catalogue has it when the schedules are read again."""
    bench.jobs.add(job("a", schedule="* * * * *", overlap="allow"))
    await bench.look()
    bench.jobs.add(job("b", schedule="* * * * *", overlap="allow"))
    fail_once(bench, monkeypatch, "apply")
    bench.scheduler.jobs_changed(["b"])
    await bench.tick(1)
    del bench.jobs.definitions["b"]
    await bench.tick(60)
    assert await bench.runs() == [("QUEUED", "14:14:00")]
