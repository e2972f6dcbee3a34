"""A clock that is set back by an hour while the kernel is away lengthens no wait by more than the wait itself.

Times that outlive a kernel are wall-clock times: nothing else is the same for two processes.
"""

from __future__ import annotations

import pytest
from rig import PlayedHost, Rig, failed, job, opened, step

from nomaflow_api.v1.letters import CancelOrder
from nomaflow_kernel.history.states import RunState
from nomaflow_project.jobs.definitions import Overlap
from nomaflow_project.jobs.retry_policy import RetryPolicy

HOUR_US = 3600 * 1_000_000


def cancels(host: PlayedHost) -> list[str]:
    """Return the attempts that the host was asked to stop."""
    return [order.attempt_key for order in host.orders if isinstance(order, CancelOrder)]


async def called(rig: Rig) -> tuple[PlayedHost, str]:
    """Return a host and the attempt that it runs for a call_job step, which waits for 20 s at most."""
    call = step("call", type="call_job", callable="", target_job_id="b", timeout_seconds=20.0)
    rig.jobs.add(job("a", call), job("b"))
    host = await rig.host()
    await rig.trigger("a")
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    return host, key


async def set_back(rig: Rig) -> None:
    """Restart the kernel an hour before it ended."""
    rig.clock.wall_us -= HOUR_US
    await rig.restart()


async def test_a_back_off_is_not_an_hour_longer(rig: Rig) -> None:
    """The next try comes after the delay of its policy at most, whatever ``max_seconds`` is."""
    rig.jobs.add(job("a", step("one", retry=RetryPolicy(attempts=2, base_seconds=5, jitter=0))))
    host = await rig.host()
    await rig.trigger("a")
    await host.finish((await host.dispatch()).attempt_key, failed())
    await set_back(rig)
    await host.attach()
    await rig.advance(4)
    assert len(host.orders) == 1
    await rig.advance(2)
    assert opened(await host.dispatch(2)).attempt == 2


async def test_a_job_has_its_timeout_at_most(rig: Rig) -> None:
    """A job's timeout counts again, for the kernel's own stops and for the host's."""
    again = RetryPolicy(attempts=3, base_seconds=30, jitter=0)
    rig.jobs.add(job("a", step("one", retry=again), timeout_seconds=60))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    await set_back(rig)
    await host.attach()
    await rig.advance(31)
    order = await host.dispatch(2)
    assert order.timeout_ms <= 60_000
    await host.finish(order.attempt_key, failed())
    await rig.advance(31)
    detail = await rig.detail(run_id)
    assert (detail.run.state, detail.run.reason and detail.run.reason.code) == (RunState.FAILED, "job_timed_out")


async def test_a_call_has_its_timeout_at_most(rig: Rig) -> None:
    """The child is stopped when the step's time, counted again, is over."""
    host, key = await called(rig)
    await set_back(rig)
    await host.attach()
    await rig.advance(15)
    assert not cancels(host)
    await rig.advance(6)
    assert cancels(host) == [key]


async def test_a_call_has_its_timeout_where_the_kernel_stays(rig: Rig) -> None:
    """The timer uses the monotonic clock, and a clock set back does not delay it."""
    host, key = await called(rig)
    rig.clock.wall_us -= HOUR_US
    await rig.advance(21)
    assert cancels(host) == [key]


async def test_a_queue_timeout_tells_how_long_the_run_waited(rig: Rig) -> None:
    """At least the limit, although the clock says that no time has passed."""
    rig.jobs.add(job("a", queue_timeout_seconds=30))
    run_id = (await rig.trigger("a")).run_id
    rig.clock.wall_us -= HOUR_US
    await rig.advance(31)
    reason = (await rig.detail(run_id)).run.reason
    assert reason is not None
    assert reason.message == "the run waited 30 s and did not start"


async def test_a_queue_timeout_is_not_an_hour_longer(rig: Rig) -> None:
    """A waiting run is given up when its limit, counted again, is over."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW, queue_timeout_seconds=30))
    run_id = (await rig.trigger("a")).run_id
    await set_back(rig)
    await rig.advance(25)
    assert await rig.state(run_id) is RunState.QUEUED
    await rig.advance(6)
    assert await rig.state(run_id) is RunState.FAILED


async def test_a_back_off_is_explained_by_what_is_left_of_it(rig: Rig) -> None:
    """Not by the hour that the clock was set back; once it is over, by what the next try waits for."""
    rig.jobs.add(job("a", step("one", retry=RetryPolicy(attempts=2, base_seconds=5, jitter=0))))
    host = await rig.host(max_async=1)
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    rig.clock.wall_us -= HOUR_US
    reason = rig.engine.holdup(run_id)
    assert reason is not None
    assert reason.message == "the next attempt of step 'one' starts in 5 s"
    rig.jobs.add(job("b"))
    await rig.trigger("b")
    await host.dispatch(2)
    await rig.advance(6)
    reason = rig.engine.holdup(run_id)
    assert reason is not None
    assert reason.message == "host 'demo' has no free slot"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_was_set_makes_no_wait_for_a_slot_a_back_off_nor_the_reverse(rig: Rig, hours: int) -> None:
    """The first try of a step waits for a slot, and a later one for its time, whatever the wall clock says."""
    rig.jobs.add(job("a"), job("b", step("one"), step("two", retry=RetryPolicy(attempts=2, base_seconds=5, jitter=0))))
    host = await rig.host(max_async=2)
    second = (await rig.trigger("b")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    await host.finish((await host.dispatch(2)).attempt_key, failed())
    rig.clock.wall_us += hours * HOUR_US
    assert _why(rig, second) == "the next attempt of step 'two' starts in 5 s"
    rig.jobs.bounds["demo"] = 0
    await rig.advance(6)
    rig.clock.wall_us += hours * HOUR_US
    assert _why(rig, second) == "host 'demo' is already running 0 steps (its max_parallel)"


def _why(rig: Rig, run_id: str) -> str:
    reason = rig.engine.holdup(run_id)
    return "" if reason is None else reason.message
