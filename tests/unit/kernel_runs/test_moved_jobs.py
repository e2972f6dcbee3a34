"""Jobs that another host has now: what waits and runs for the former one goes on, and holds up nobody by mistake."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rig import Rig, job, step

from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_project.jobs.definitions import Overlap


async def test_the_run_for_the_new_host_starts_when_the_last_one_of_the_former_has_ended(rig: Rig) -> None:
    """A run that waits for the end of another starts then, although it is in the line of another host."""
    rig.jobs.add(job("a", overlap=Overlap.QUEUE))
    former, now = await rig.host(), await rig.host(host="other")
    await rig.trigger("a")
    key = (await former.dispatch()).attempt_key
    rig.jobs.add(job("a", overlap=Overlap.QUEUE, host="other"))
    run_id = (await rig.trigger("a")).run_id
    await former.finish(key)
    await rig.settle()
    assert await rig.state(run_id) is RunState.RUNNING
    assert (await now.dispatch()).run_id == run_id


async def test_a_pause_holds_up_what_its_host_would_run(rig: Rig) -> None:
    """A run that the former host will run waits for that host's pause, and not for one of the host that has the job."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", host="other"))
    await rig.engine.set_pause(_pause("other"))
    assert (_why(rig, run_id)) == "waiting_for_host"
    await rig.engine.set_pause(_pause("demo"))
    assert (_why(rig, run_id)) == "waiting_for_resume"


async def test_a_run_of_the_former_host_goes_on_where_the_new_one_does_not_accept_the_job(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the runs of a host that does not accept them fail: others keep the job that they started with."""
    rig.jobs.add(job("a", step("one"), step("two"), overlap=Overlap.ALLOW, max_parallel=1))
    host = await rig.host()
    running = (await rig.trigger("a")).run_id
    waiting = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", step("one"), step("two"), overlap=Overlap.ALLOW, max_parallel=1, host="other"))
    moved = rig.jobs.job("a")
    assert moved is not None
    refused = replace(moved, unaccepted=True)
    monkeypatch.setattr(rig.jobs, "job", lambda _: refused)
    monkeypatch.setattr(rig.jobs, "unaccepted", lambda: [refused])
    rig.engine.jobs_changed()
    for number in (1, 2):
        order = await host.dispatch(number)
        assert order.run_id == running
        await host.finish(order.attempt_key)
    await rig.settle()
    assert await rig.state(running) is RunState.SUCCEEDED
    assert (await host.dispatch(3)).run_id == waiting


async def test_a_run_that_no_host_would_run_is_canceled_a_minute_after_the_host_has_left(rig: Rig) -> None:
    """The job has moved before: no change of the catalogue comes later, and the run would hold up its job."""
    rig.jobs.add(job("a"))
    host = await rig.host(generation=0)
    run_id = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", host="other"))
    rig.engine.jobs_changed()
    rig.engine.detach(host.key, host)
    await rig.settle()
    await rig.advance(59)
    assert await rig.state(run_id) is RunState.QUEUED
    await rig.advance(2)
    ended = (await rig.detail(run_id)).run
    assert (ended.state, ended.reason and ended.reason.code) == (RunState.CANCELED, "canceled_by_move")


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_is_set_changes_nothing_of_the_minute(rig: Rig, hours: int) -> None:
    """The catalogue changes when the host has been away for seconds: that asks how long it has been."""
    rig.jobs.add(job("a"))
    host = await rig.host(generation=0)
    run_id = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", host="other"))
    rig.engine.detach(host.key, host)
    await rig.settle()
    rig.clock.wall_us += hours * 3_600_000_000
    rig.engine.jobs_changed()
    await rig.settle()
    assert await rig.state(run_id) is RunState.QUEUED
    await rig.advance(61)
    assert await rig.state(run_id) is RunState.CANCELED


async def test_a_new_kernel_waits_for_the_hosts_of_waiting_runs(rig: Rig) -> None:
    """A change of the catalogue before the former host has come back ends nothing; the end of the minute does."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", host="other"))
    await rig.restart()
    rig.engine.jobs_changed()
    await rig.settle()
    await rig.advance(59)
    assert await rig.state(run_id) is RunState.QUEUED
    await rig.advance(2)
    assert await rig.state(run_id) is RunState.CANCELED


async def test_a_host_that_comes_back_within_the_minute_runs_what_waits_for_it(rig: Rig) -> None:
    """The run goes on where it was to run, although its job has moved."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    rig.jobs.add(job("a", host="other"))
    await rig.restart()
    rig.engine.jobs_changed()
    await rig.advance(30)
    host = await rig.host()
    assert (await host.dispatch()).run_id == run_id
    await rig.advance(40)
    assert await rig.state(run_id) is RunState.RUNNING


async def test_a_host_of_which_a_launcher_starts_instances_is_not_away(rig: Rig) -> None:
    """It has none while nothing waits, and the one for the run may be in an engine's queue for hours."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    assert rig.engine.why_not_running("a") == "no instance of host 'demo' takes work"
    rig.jobs.add(job("a", host="other"))
    rig.engine.launches("demo", 180)
    assert rig.engine.why_not_running("a").endswith("takes work; its launcher starts one, or says in its log why not")
    rig.engine.jobs_changed()
    await rig.advance(100)
    rig.engine.launches("demo", 180)
    await rig.advance(170)
    assert (await rig.state(run_id), rig.engine.is_launched("demo")) == (RunState.QUEUED, True)
    await rig.advance(20)  # the launcher is gone, too
    assert (await rig.state(run_id), rig.engine.is_launched("demo")) == (RunState.CANCELED, False)


async def test_a_run_calls_as_the_host_that_it_is_from(rig: Rig) -> None:
    """A host whose job's id another has got starts no job of that one, which accepts no calls of others."""
    steps = step("one"), step("call", type="call_job", callable="", target_job_id="secret")
    rig.jobs.add(job("a", *steps), job("secret", host="other"))
    host, other = await rig.host(), await rig.host(host="other")
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    rig.jobs.add(job("a", *steps, host="other"))
    await host.finish(key)
    await rig.settle()
    run = (await rig.detail(run_id)).run
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert "host 'demo' has no job 'secret'" in run.reason.message
    assert not other.orders


def _pause(host: str) -> PauseRecord:
    return PauseRecord(scope="host", name=host, by="ann", why="", since_us=0, until_us=None)


def _why(rig: Rig, run_id: str) -> str:
    reason = rig.engine.holdup(run_id)
    return "" if reason is None else reason.code
