"""A rebuild from the store, at a restart or after a commit that failed, leaves no trace in what follows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig import PlayedHost, Rig, job, step

from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.jobs.definitions import IsolationChoice, PresetDefinition, StepDefinition

PAUSE = PauseRecord(scope="all", name="", by="ann", why="", since_us=0, until_us=None)


def call(target: str, **fields: Any) -> StepDefinition:
    """Return a step that calls a job."""
    return step("call", type="call_job", callable="", target_job_id=target, **fields)


async def fail(rig: Rig) -> None:
    """Have a commit fail that changes nothing of a run."""
    rig.fail_once()
    with pytest.raises(StoreBusy):
        await rig.engine.set_pause(PAUSE)


@pytest.mark.parametrize("request_", [{"params": {"day": 1}}, {"switches": {"one": False}}])
async def test_a_run_that_needs_no_host_to_start_still_needs_none(rig: Rig, request_: dict[str, Any]) -> None:
    """A run with a request of its own whose first step calls a job starts although no host is there."""
    steps = step("one", enabled="params" not in request_), call("b"), step("last")
    rig.jobs.add(job("a", *steps, host="away"), job("b"))
    rig.jobs.accepted_calls.add(("demo", "away"))
    await rig.engine.set_pause(PAUSE)
    run_id = (await rig.trigger("a", **request_)).run_id
    await rig.restart()
    host = await rig.host()
    await rig.engine.clear_pause("all", "")
    async with asyncio.timeout(5):
        await host.dispatch()
    assert await rig.state(run_id) is RunState.RUNNING


@pytest.mark.parametrize(
    ("enabled", "request_"),
    [
        (False, {}),
        (False, {"log_level": "DEBUG"}),
        (True, {"switches": {"one": False}}),
        (True, {"preset": "nothing"}),
    ],
)
async def test_a_run_of_which_all_is_switched_off_still_needs_no_host(
    rig: Rig, enabled: bool, request_: dict[str, Any]
) -> None:
    """A run of which no step will run ends after a restart although no host is there, whatever switches them off."""
    nothing = PresetDefinition(name="nothing", steps={"one": False})
    rig.jobs.add(job("a", step("one", enabled=enabled), presets=(nothing,), host="away"))
    await rig.engine.set_pause(PAUSE)
    run_id = (await rig.trigger("a", **request_)).run_id
    await rig.restart()
    await rig.engine.clear_pause("all", "")
    async with asyncio.timeout(5):
        while await rig.state(run_id) is not RunState.SUCCEEDED:
            await rig.settle()


async def test_the_silence_of_a_host_counts_on(rig: Rig) -> None:
    """A host that has not come back since the kernel's start is given up when its grace is over, counted once."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.start((await host.dispatch()).attempt_key)
    host.silent = True
    await rig.restart()
    await rig.advance(8)
    await fail(rig)
    await rig.advance(4)
    assert await rig.state(run_id) is RunState.FAILED
    told = [event.kind for event in await rig.events() if event.kind == "host.unreachable"]
    assert told == ["host.unreachable"]


async def test_an_instance_that_waits_for_its_run_is_not_sent_away(rig: Rig) -> None:
    """One that has come for a run which may not start yet stays, although it is not known any more how that starts."""
    own = step("one", isolation=IsolationChoice.INSTANCE)
    rig.jobs.add(job("a", own, call("b")), job("b"))
    await rig.engine.set_pause(PAUSE)
    run_id = (await rig.trigger("a", params={"day": 1})).run_id
    host = PlayedHost(rig)
    await host.attach(for_attempt=f"{run_id}/one/1")
    await fail(rig)
    await rig.advance(1)
    assert host.refused == []
    await rig.engine.clear_pause("all", "")
    async with asyncio.timeout(5):
        assert (await host.dispatch()).run_id == run_id


async def test_a_launcher_is_told_of_all_demand_after_a_restart(rig: Rig) -> None:
    """A run that may begin with a call_job step or not is read before the answer: a launcher ends what nobody wants."""
    own = step("one", isolation=IsolationChoice.INSTANCE)
    rig.jobs.add(job("a", own, call("b")), job("b"))
    run_id = (await rig.trigger("a", params={"day": 1})).run_id
    await rig.restart()
    assert [each.attempt_key for each in await rig.engine.whole_demand()] == [f"{run_id}/one/1"]
