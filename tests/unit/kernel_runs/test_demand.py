"""The demand that a launcher starts instances for: attempts that one more instance could run, and no others."""

from __future__ import annotations

from rig import PlayedHost, Rig, job, step

from nomaflow_kernel.engine.demand import Demand
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_project.jobs.resources import Resources


def _wanted(rig: Rig) -> list[tuple[str, Resources, int]]:
    return [(each.host, each.needs, each.attempts) for each in rig.engine.demand()]


async def test_demand_is_grouped_by_host_and_need(rig: Rig) -> None:
    """An entry has the moment at which the first began to wait, also where no instance is attached yet."""
    gpu = Resources(gpus=1)
    rig.jobs.add(job("plain", overlap="allow"), job("train", step("fit", resources=gpu), overlap="allow"))
    rig.jobs.add(job("elsewhere", host="other"))
    begun = rig.clock.now_us()
    for name in ("plain", "train", "train", "elsewhere"):
        await rig.trigger(name)
        rig.clock.advance(1)
    assert rig.engine.demand() == [
        Demand(host="demo", needs=gpu, attempts=2, since_us=begun + 1_000_000),
        Demand(host="demo", needs=Resources(), attempts=1, since_us=begun),
        Demand(host="other", needs=Resources(), attempts=1, since_us=begun + 3_000_000),
    ]


async def test_what_runs_is_no_demand(rig: Rig) -> None:
    """One of four runs waits for three slots; once a slot is free, none does."""
    rig.jobs.add(job("a", overlap="allow"))
    host = await rig.host(max_async=3)
    for _ in range(4):
        await rig.trigger("a")
    assert _wanted(rig) == [("demo", Resources(), 1)]
    await host.finish(host.orders[0].attempt_key)
    await rig.settle()
    assert _wanted(rig) == []


async def test_runs_that_an_instance_would_not_help_are_no_demand(rig: Rig) -> None:
    """Paused jobs, runs behind another of their job, what is over a job's or the host's max_parallel, and jobs gone."""
    rig.jobs.add(job("paused"), job("queue", overlap="queue"), job("two", overlap="allow", max_parallel=2), job("gone"))
    for name in ("paused", "queue", "queue", "two", "two", "two", "gone"):
        await rig.trigger(name)
    del rig.jobs.definitions["gone"]
    pause = PauseRecord(scope="job", name="paused", by="", why="", since_us=1, until_us=None)
    await rig.engine.set_pause(pause)
    assert _wanted(rig) == [("demo", Resources(), 3)]
    rig.jobs.bounds["demo"] = 2
    assert _wanted(rig) == [("demo", Resources(), 2)]
    await rig.host(max_async=100)
    await rig.settle()
    assert _wanted(rig) == []


async def test_the_next_step_of_a_run_is_demand_with_what_it_needs_itself(rig: Rig) -> None:
    """A run that has begun waits for the machine of its second step, and not while it backs off."""
    rig.jobs.add(job("train", step("load"), step("fit", resources=Resources(cpu=8))))
    host = await rig.host()
    await rig.trigger("train")
    await host.finish((await host.dispatch()).attempt_key)
    assert _wanted(rig) == [("demo", Resources(cpu=8), 1)]
    big = PlayedHost(rig)
    await big.attach(has=Resources(cpu=8))
    await big.dispatch()
    assert _wanted(rig) == []


async def test_the_runs_of_a_moved_job_are_demand_where_each_will_run(rig: Rig) -> None:
    """Those that wait for the former host are not counted for the new one as well, nor the other way round."""
    rig.jobs.add(job("a", overlap="allow"))
    for _ in range(3):
        await rig.trigger("a")
    rig.jobs.add(job("a", overlap="allow", host="other"))
    await rig.trigger("a")
    assert _wanted(rig) == [("demo", Resources(), 3), ("other", Resources(), 1)]
