"""A wall clock that is set while the kernel runs changes no wait, not even if a commit fails after that."""

from __future__ import annotations

import pytest
from rig import PlayedHost, Rig, command, failed, job, step

from nomaflow_api.v1.letters import CancelOrder
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.jobs.definitions import Overlap
from nomaflow_project.jobs.retry_policy import RetryPolicy

HOUR_US = 3600 * 1_000_000
either_way = pytest.mark.parametrize("hours", [-1, 1])


async def commit_fails(rig: Rig) -> None:
    """Have a commit fail, after which the engine reads all runs again."""
    rebuilt = rig.engine._state.rebuilt
    rig.fail_once()
    with pytest.raises(StoreBusy):
        await rig.take(command("other"))
    await rig.settle()
    assert rig.engine._state.rebuilt > rebuilt


async def cancels(rig: Rig, host: PlayedHost, after: float) -> int:
    """Return how many attempts the host was asked to stop, some seconds later."""
    await rig.advance(after)
    return sum(isinstance(order, CancelOrder) for order in host.orders)


@either_way
async def test_a_later_step_has_what_is_left_of_the_time_of_its_job(rig: Rig, hours: int) -> None:
    """The first step took 10 s of 60."""
    rig.jobs.add(job("a", step("one"), step("two"), timeout_seconds=60))
    host = await rig.host()
    await rig.trigger("a")
    first = await host.dispatch()
    await rig.advance(10)
    rig.clock.wall_us += hours * HOUR_US
    await host.finish(first.attempt_key)
    assert (await host.dispatch(2)).timeout_ms == 50_000


@either_way
async def test_a_call_has_its_timeout(rig: Rig, hours: int) -> None:
    """The child is stopped after 20 s, not an hour later, nor only at the second look."""
    call = step("call", type="call_job", callable="", target_job_id="b", timeout_seconds=20.0)
    rig.jobs.add(job("a", call), job("b"), job("other"))
    host = await rig.host()
    await rig.trigger("a")
    await host.start((await host.dispatch()).attempt_key)
    rig.clock.wall_us += hours * HOUR_US
    await commit_fails(rig)
    assert await cancels(rig, host, 19) == 0
    assert await cancels(rig, host, 2) == 1


@either_way
async def test_a_job_has_its_timeout_though_a_commit_fails(rig: Rig, hours: int) -> None:
    """A run that waits for its next try fails after 60 s."""
    again = RetryPolicy(attempts=2, base_seconds=300, jitter=0)
    rig.jobs.add(job("a", step("one", retry=again), timeout_seconds=60), job("other"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    rig.clock.wall_us += hours * HOUR_US
    await commit_fails(rig)
    await rig.advance(59)
    assert await rig.state(run_id) is RunState.RUNNING
    await rig.advance(2)
    assert await rig.state(run_id) is RunState.FAILED


@either_way
async def test_a_back_off_is_as_long_though_a_commit_fails(rig: Rig, hours: int) -> None:
    """The next try comes when 4 of its 5 s are over, and not before."""
    rig.jobs.add(job("a", step("one", retry=RetryPolicy(attempts=2, base_seconds=5, jitter=0))), job("other"))
    host = await rig.host()
    await rig.trigger("a")
    await host.finish((await host.dispatch()).attempt_key, failed())
    await rig.advance(3)
    rig.clock.wall_us += hours * HOUR_US
    await commit_fails(rig)
    await rig.advance(1)
    assert len(host.orders) == 1
    await rig.advance(2)
    await host.dispatch(2)


@either_way
async def test_a_queue_timeout_is_as_long_though_a_commit_fails(rig: Rig, hours: int) -> None:
    """A waiting run is given up after 30 s."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW, queue_timeout_seconds=30), job("other"))
    run_id = (await rig.trigger("a")).run_id
    await rig.advance(10)
    rig.clock.wall_us += hours * HOUR_US
    await commit_fails(rig)
    await rig.advance(19)
    assert await rig.state(run_id) is RunState.QUEUED
    await rig.advance(2)
    assert await rig.state(run_id) is RunState.FAILED


async def test_a_pause_ends_though_the_clock_has_jumped_over_its_end(rig: Rig) -> None:
    """Its end is an instant of the wall clock: the run that it held up starts within seconds."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    now = rig.clock.now_us()
    pause = PauseRecord(scope="job", name="a", by="", why="", since_us=now, until_us=now + HOUR_US // 2)
    await rig.engine.set_pause(pause)
    await rig.trigger("a")
    await rig.advance(6)
    assert host.orders == []
    rig.clock.wall_us += HOUR_US
    await rig.advance(6)
    assert len(host.orders) == 1
