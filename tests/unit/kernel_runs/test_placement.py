"""Steps that ask for resources go to instances that have them, and wait in words where none has."""

from __future__ import annotations

import pytest
from rig import START_US, PlayedHost, Rig, finished, job, opened, step

from nomaflow_api.v1.letters import InventoryLine
from nomaflow_kernel.engine.host_messages import HeartbeatInfo
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.jobs.resources import Resources

_SERVES = HeartbeatInfo(generation=1)


async def _attached(
    rig: Rig, *, max_async: int = 10, ends_at_us: int = 0, heartbeat: HeartbeatInfo = _SERVES, **has: object
) -> PlayedHost:
    host = PlayedHost(rig, max_async=max_async)
    host.heartbeat = heartbeat
    await host.attach(has=Resources(**has), ends_at_us=ends_at_us)  # type: ignore[arg-type]  # of the test's own
    return host


def _why(rig: Rig, run_id: str) -> tuple[str, str]:
    reason = rig.engine.holdup(run_id)
    return (reason.code, reason.message) if reason is not None else ("", "")


async def test_a_step_goes_to_the_instance_that_has_what_it_needs(rig: Rig) -> None:
    """The room of the others does not matter, nor which of them came first."""
    needs = Resources(gpus=1, labels={"zone": "eu"})
    rig.jobs.add(job("train", step("fit", resources=needs), overlap="allow"))
    plain = await _attached(rig, max_async=100, cpu=64.0)
    elsewhere = await _attached(rig, max_async=100, gpus=8, labels={"zone": "us"})
    fitting = await _attached(rig, max_async=1, gpus=1, labels={"zone": "eu", "disk": "ssd"})
    run = await rig.trigger("train")
    assert (await fitting.dispatch()).run_id == run.run_id
    assert plain.orders == elsewhere.orders == []


async def test_what_is_taken_comes_back_with_the_end_of_the_attempt(rig: Rig) -> None:
    """Two steps that need three of four cores run one after the other, and steps that need nothing beside them."""
    rig.jobs.add(job("heavy", step("one", resources=Resources(cpu=3, memory_mb=100)), overlap="allow"))
    rig.jobs.add(job("light", overlap="allow"))
    host = await _attached(rig, cpu=4.0, memory_mb=1000)
    first, second = [(await rig.trigger("heavy")).run_id for _ in range(2)]
    light = (await rig.trigger("light")).run_id
    assert [order.run_id for order in host.orders] == [first, light]
    assert _why(rig, second) == ("waiting_for_slot", "host 'demo' has no free slot")
    await host.finish(host.orders[0].attempt_key)
    assert (await host.dispatch(3)).run_id == second


async def test_fractions_of_a_core_add_up(rig: Rig) -> None:
    """Ten steps of a tenth of a core fit on one core, and an eleventh does not."""
    rig.jobs.add(job("tenth", step("one", resources=Resources(cpu=0.1)), overlap="allow"))
    host = await _attached(rig, max_async=100, cpu=1.0)
    for _ in range(11):
        await rig.trigger("tenth")
    await rig.settle()
    assert len(host.orders) == 10


async def test_a_step_that_nobody_can_run_says_what_is_missing(rig: Rig) -> None:
    """It names what the nearest instance lacks, holds up no other job, and starts on the first instance that fits."""
    needs = Resources(gpus=4, memory_mb=2000, labels={"zone": "eu"})
    rig.jobs.add(job("train", step("fit", resources=needs)), job("other"))
    small = await _attached(rig, cpu=2.0, memory_mb=500, gpus=1)
    nearest = await _attached(rig, cpu=2.0, memory_mb=1000, gpus=4, labels={"zone": "us"})
    waiting = (await rig.trigger("train")).run_id
    other = (await rig.trigger("other")).run_id
    await rig.settle()
    assert [order.run_id for host in (small, nearest) for order in host.orders] == [other]
    lacks = "label zone = 'eu' (it has 'us'), memory_mb = 2000 (it has 1000)"
    sentence = f"no instance of host 'demo' has what step 'fit' needs; the nearest lacks {lacks}"
    assert _why(rig, waiting) == ("no_fitting_instance", sentence)
    fitting = await _attached(rig, gpus=4, memory_mb=2000, labels={"zone": "eu"})
    assert (await fitting.dispatch()).run_id == waiting


async def test_the_second_step_of_a_run_waits_for_its_own_instance(rig: Rig) -> None:
    """A run that has begun stays RUNNING with a PENDING attempt, whose reason is stored."""
    rig.jobs.add(job("train", step("load"), step("fit", resources=Resources(gpus=1))))
    host = await _attached(rig)
    run = (await rig.trigger("train")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    attempts = (await rig.detail(run)).attempts
    assert await rig.state(run) is RunState.RUNNING
    assert [str(each.state) for each in attempts] == ["SUCCEEDED", "PENDING"]
    assert attempts[1].reason is not None
    assert attempts[1].reason.code == "no_fitting_instance"
    fitting = await _attached(rig, gpus=1)
    assert opened(await fitting.dispatch()).step == "fit"


async def test_a_new_leader_knows_what_is_taken(rig: Rig) -> None:
    """An attempt that an instance holds still takes its share after the kernel's restart."""
    rig.jobs.add(job("train", step("fit", resources=Resources(gpus=1)), overlap="allow"))
    host = await _attached(rig, gpus=1)
    await rig.trigger("train")
    held = await host.dispatch()
    await host.start(held.attempt_key)
    await rig.restart()
    line = InventoryLine(attempt_key=held.attempt_key)
    await host.attach(has=Resources(gpus=1), inventory=[line])
    second = (await rig.trigger("train")).run_id
    assert _why(rig, second)[0] == "waiting_for_slot"
    await host.report(held.attempt_key, finished(), first_seq=2)
    assert (await host.dispatch(2)).run_id == second


async def test_a_dispatch_that_was_not_stored_takes_nothing(rig: Rig) -> None:
    """The GPU is free again for the next run, though the run that should have had it is canceled meanwhile."""
    rig.jobs.add(job("train", step("fit", resources=Resources(gpus=1)), overlap="allow"))
    host = await _attached(rig, gpus=1)
    rig.fail_once()
    with pytest.raises(StoreBusy):
        await rig.trigger("train")
    run = (await rig.trigger("train")).run_id
    assert (await host.dispatch()).run_id == run


async def test_no_step_goes_where_it_could_not_end_in_time(rig: Rig) -> None:
    """A machine that ends in a minute gets a step of half a minute, and one without a timeout, but no longer one."""
    rig.jobs.add(
        job("short", step("one", timeout_seconds=30.0)),
        job("endless"),
        job("long", step("one", timeout_seconds=90.0)),
    )
    host = await _attached(rig, ends_at_us=START_US + 60_000_000)
    runs = [(await rig.trigger(name)).run_id for name in ("long", "short", "endless")]
    await rig.settle()
    assert [order.run_id for order in host.orders] == runs[1:]
    assert _why(rig, runs[0]) == (
        "no_fitting_instance",
        "the machine of each instance of host 'demo' ends sooner than the timeout of step 'one', 1 min 30 s",
    )
    lasting = await _attached(rig)
    assert (await lasting.dispatch()).run_id == runs[0]


@pytest.mark.parametrize("state", ["draining", "saturated"])
async def test_no_step_goes_to_an_instance_that_attaches_and_takes_none(rig: Rig, state: str) -> None:
    """It would refuse the step: a kernel that has just taken over knows of it what its hello says."""
    rig.jobs.add(job("alpha"))
    run = (await rig.trigger("alpha")).run_id
    refusing = await _attached(rig, heartbeat=HeartbeatInfo(generation=1, **{state: True}))
    await rig.settle()
    assert refusing.orders == []
    other = await _attached(rig)
    assert (await other.dispatch()).run_id == run


async def test_the_end_of_a_machine_is_by_its_own_clock_from_the_first_step_on(rig: Rig) -> None:
    """Its clock is two minutes ahead, so that its time ends a minute from now, and not in three."""
    rig.jobs.add(job("long", step("one", timeout_seconds=90.0)))
    run = (await rig.trigger("long")).run_id
    ahead = HeartbeatInfo(generation=1, sent_at_us=START_US + 120_000_000)
    ending = await _attached(rig, ends_at_us=START_US + 180_000_000, heartbeat=ahead)
    await rig.settle()
    assert (ending.orders, _why(rig, run)[0]) == ([], "no_fitting_instance")
