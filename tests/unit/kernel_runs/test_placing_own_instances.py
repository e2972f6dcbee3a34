"""Steps that want an instance of their own get it, wherever it comes from, and nobody else gets anything of either."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from rig import PlayedHost, Rig, failed, job, step

from nomaflow_api.v1.letter_words import Isolation
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine.demand import Demand
from nomaflow_kernel.engine.host_messages import HeartbeatInfo
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.definitions import IsolationChoice
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.jobs.retry_policy import RetryPolicy

OWN = IsolationChoice.INSTANCE


def _own(name: str = "fit", **fields: Any) -> Any:
    return step(name, isolation=OWN, **fields)


async def _came(rig: Rig, key: str, **more: Any) -> PlayedHost:
    host = PlayedHost(rig, max_async=1, max_sync=1)
    await host.attach(for_attempt=key, **more)
    return host


def _why(rig: Rig, run_id: str) -> tuple[str, str]:
    reason = rig.engine.holdup(run_id)
    return (reason.code, reason.message) if reason is not None else ("", "")


def _wanted(rig: Rig) -> Sequence[str]:
    return [each.attempt_key for each in rig.engine.demand()]


async def test_only_the_instance_for_the_attempt_takes_it_and_takes_nothing_else(rig: Rig) -> None:
    """Hosts with free slots are passed over, and so is the instance by runs that any may take."""
    rig.jobs.add(job("train", _own()), job("plain", overlap="allow"))
    run = (await rig.trigger("train")).run_id
    key = f"{run}/fit/1"
    code, why = _why(rig, run)
    assert code == "waiting_for_own_instance"
    assert why == (
        "step 'fit' wants an instance of its own, and none has come for it; a launcher starts one, or by hand:"
        f" nomaflow host DIR --for-attempt {key}"
    )
    mine = await _came(rig, key)
    order = await mine.dispatch()
    assert (order.attempt_key, order.isolation) == (key, Isolation.EXCLUSIVE)
    other = await _came(rig, f"{(await rig.trigger('train', allow_overlap=True)).run_id}/fit/1")
    await other.dispatch()
    plain = (await rig.trigger("plain")).run_id
    await mine.finish(key)
    await rig.settle()
    assert (len(mine.orders), len(other.orders), _why(rig, plain)[0]) == (1, 1, "waiting_for_host")
    any_host = await rig.host()
    assert (await any_host.dispatch()).run_id == plain
    assert await rig.state(run) is RunState.SUCCEEDED


async def test_an_image_implies_it_and_is_told_to_launchers(rig: Rig) -> None:
    """Each such attempt is named with its needs; what any instance may take is grouped as ever."""
    rig.jobs.add(job("train", step("fit", image="team/train:2", resources=Resources(gpus=1)), overlap="allow"))
    rig.jobs.add(job("plain", overlap="allow"))
    begun = rig.clock.now_us()
    first, second = [(await rig.trigger("train")).run_id for _ in range(2)]
    for _ in range(2):
        await rig.trigger("plain")
    named = {"host": "demo", "needs": Resources(gpus=1), "attempts": 1, "since_us": begun, "image": "team/train:2"}
    assert rig.engine.demand() == [
        Demand(host="demo", needs=Resources(), attempts=2, since_us=begun),
        Demand(attempt_key=f"{first}/fit/1", **named),
        Demand(attempt_key=f"{second}/fit/1", **named),
    ]
    assert "with image 'team/train:2'" in _why(rig, first)[1]


async def test_instances_come_in_any_order(rig: Rig) -> None:
    """The third of four runs starts before the others; what has an instance is wanted no more."""
    rig.jobs.add(job("train", _own(), overlap="allow"))
    keys = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(4)]
    third = await _came(rig, keys[2])
    assert (await third.dispatch()).attempt_key == keys[2]
    assert _wanted(rig) == [keys[0], keys[1], keys[3]]


async def test_a_run_that_may_not_start_yet_is_not_wanted(rig: Rig) -> None:
    """An instance that came early waits for its turn: the bound of the job, and then that of the host, hold."""
    rig.jobs.add(job("train", _own(), overlap="allow", max_parallel=1))
    first, second = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(2)]
    assert _wanted(rig) == [first]
    mine, early = await _came(rig, first), await _came(rig, second)
    held = await mine.dispatch()
    await rig.settle()
    assert (_wanted(rig), early.orders) == ([], [])
    rig.jobs.bounds["demo"] = 1
    await mine.finish(held.attempt_key)
    assert (await early.dispatch()).attempt_key == second


async def test_a_later_step_waits_as_a_pending_attempt(rig: Rig) -> None:
    """The row has the reason; a retry has a key of its own, and so another instance."""
    again = RetryPolicy(attempts=2, base_seconds=5)
    rig.jobs.add(job("train", step("load"), _own(retry=again)))
    host = await rig.host()
    run = (await rig.trigger("train")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    attempt = (await rig.detail(run)).attempts[1]
    assert attempt.state is AttemptState.PENDING
    assert attempt.reason is not None
    assert attempt.reason.code == "waiting_for_own_instance"
    mine = await _came(rig, f"{run}/fit/1")
    await mine.finish((await mine.dispatch()).attempt_key, failed())
    assert _wanted(rig) == []
    await rig.advance(6)
    assert _wanted(rig) == [f"{run}/fit/2"]
    next_one = await _came(rig, f"{run}/fit/2")
    await next_one.finish((await next_one.dispatch()).attempt_key)
    assert await rig.state(run) is RunState.SUCCEEDED


async def test_one_process_only_has_the_attempt(rig: Rig) -> None:
    """A second one is refused while the first waits, runs, or is silent; another life of the first is let in."""
    rig.jobs.add(job("train", _own(), overlap="allow", max_parallel=1), job("first", overlap="allow"))
    running, key = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(2)]
    await _came(rig, running)
    waiting = await _came(rig, key)
    for taken, holder in ((running, "inc-"), (key, waiting.incarnation)):
        with pytest.raises(KernelError, match=f"belongs to instance '{holder}"):
            await _came(rig, taken)
    await waiting.attach(for_attempt=key)
    rig.engine.detach(waiting.key, waiting)
    await rig.settle()
    assert _wanted(rig) == []  # the first still runs, and the bound is one
    await _came(rig, key)


async def test_what_was_dispatched_stays_with_its_instance_after_a_new_leader(rig: Rig) -> None:
    """The store has the incarnation; and an instance that waits for a QUEUED run comes back to it."""
    rig.jobs.add(job("train", _own(), overlap="allow", max_parallel=1))
    running, key = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(2)]
    mine, waiting = await _came(rig, running), await _came(rig, key)
    await mine.dispatch()
    await rig.restart()
    with pytest.raises(KernelError, match=f"belongs to instance {mine.incarnation!r} already"):
        await _came(rig, running)
    await waiting.attach(for_attempt=key)
    line = InventoryLine(attempt_key=running)
    await mine.attach(for_attempt=running, inventory=[line])
    await mine.finish(running)
    assert (await waiting.dispatch()).attempt_key == key


async def test_queued_runs_are_wanted_again_after_a_new_leader(rig: Rig) -> None:
    """Their data is read from the store first, though no instance is there that would start them."""
    rig.jobs.add(job("train", _own(), overlap="allow"))
    keys = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(3)]
    await rig.restart()
    assert _wanted(rig) == []
    async with asyncio.timeout(60):
        while _wanted(rig) != keys:
            await asyncio.sleep(0.01)


async def test_a_launcher_is_told_the_whole_demand_after_a_new_leader(rig: Rig) -> None:
    """Else it would take back the instances for the QUEUED runs, which have waited for a machine for hours."""
    rig.jobs.add(job("train", _own(), overlap="allow"))
    keys = [f"{(await rig.trigger('train')).run_id}/fit/1" for _ in range(3)]
    await rig.restart()
    assert [each.attempt_key for each in await rig.engine.whole_demand()] == keys


@pytest.mark.parametrize("how", ["cancel", "queue timeout", "job timeout"])
async def test_an_instance_whose_attempt_has_ended_is_sent_away(rig: Rig, how: str) -> None:
    """The one that waits, within a second; and each that comes later. A run that is to wait longer is left alone."""
    steps = [step("load"), _own()] if how == "job timeout" else [_own()]
    limits = {"queue timeout": {"queue_timeout_seconds": 5.0}, "job timeout": {"timeout_seconds": 5.0}}.get(how, {})
    rig.jobs.add(job("train", *steps, **limits), job("other", _own()))
    run, other = (await rig.trigger("train")).run_id, (await rig.trigger("other")).run_id
    if how == "job timeout":
        host = await rig.host()
        await host.finish((await host.dispatch()).attempt_key)
    rig.jobs.bounds["demo"] = 0
    mine, others = await _came(rig, f"{run}/fit/1"), await _came(rig, f"{other}/fit/1")
    if how == "cancel":
        await rig.engine.cancel(run, by="me", why="")
    await rig.advance(6)
    assert await rig.state(run) is (RunState.CANCELED if how == "cancel" else RunState.FAILED)
    await rig.advance(1)
    assert ({each.reason for each in mine.refused}, others.refused) == ({"ATTEMPT_NOT_WANTED"}, [])
    with pytest.raises(KernelError, match="is over, or not known here"):
        await _came(rig, f"{run}/fit/1")


@pytest.mark.parametrize("key", ["/fit/1", "/fit/2", "/other/1", "elsewhere"])
async def test_who_comes_for_what_nobody_waits_for_is_refused(rig: Rig, key: str) -> None:
    """A try that is not due, a step that is not next, an attempt of another host, a run that nobody knows."""
    rig.jobs.add(job("train", _own(), _own("other")), job("plain"), job("elsewhere", _own(), host="away"))
    run, away = (await rig.trigger("train")).run_id, (await rig.trigger("elsewhere")).run_id
    plain = (await rig.trigger("plain")).run_id
    asked = {"/fit/1": f"{plain}/one/1", "elsewhere": f"{away}/fit/1"}.get(key, run + key)
    with pytest.raises(KernelError) as refused:
        await _came(rig, asked)
    assert refused.value.reason == "ATTEMPT_NOT_WANTED"
    with pytest.raises(KernelError, match="waits for no instance of its own"):
        await _came(rig, "run_01h0000000000000000000000z/fit/1")


async def test_a_commit_that_failed_changes_nothing_for_the_instance(rig: Rig) -> None:
    """The dispatch that was not stored is made again, to the same instance, once the store takes it."""
    rig.jobs.add(job("train", _own(), overlap="allow"))
    run = (await rig.trigger("train")).run_id
    own = PlayedHost(rig, generation=0)
    await own.attach(for_attempt=f"{run}/fit/1")
    rig.fail_once()
    rig.engine.heartbeat(own.key, HeartbeatInfo(generation=1))
    assert (await own.dispatch()).run_id == run
    assert (len(rig.troubles), own.refused) == (1, [])


async def test_an_instance_that_was_given_up_tells_its_late_result(rig: Rig) -> None:
    """Its LOST attempt is retried in another instance; it is let in again, and is not sent away while it tells."""
    rig.jobs.add(job("train", _own(), retry_on_lost=False, lost_after_seconds=3))
    run = (await rig.trigger("train")).run_id
    own = await _came(rig, f"{run}/fit/1")
    await own.start((await own.dispatch()).attempt_key)
    own.silent = True
    rig.engine.detach(own.key, own)
    await rig.advance(10)
    assert await rig.state(run) is RunState.FAILED
    line = InventoryLine(attempt_key=f"{run}/fit/1")
    await own.attach(for_attempt=f"{run}/fit/1", inventory=[line])
    own.silent = False
    await rig.advance(2)
    assert own.refused == []
    with pytest.raises(KernelError, match="waits for no instance of its own"):
        await _came(rig, f"{run}/fit/1")


async def test_an_attempt_is_no_other_hosts(rig: Rig) -> None:
    """A process of another host that knows the key of a PENDING attempt gets as little as one that guessed."""
    rig.jobs.add(job("train", step("load"), _own()))
    host = await rig.host()
    run = (await rig.trigger("train")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    thief = PlayedHost(rig, host="other")
    with pytest.raises(KernelError, match="waits for no instance of its own"):
        await thief.attach(for_attempt=f"{run}/fit/1")
    await (await _came(rig, f"{run}/fit/1")).dispatch()


async def test_an_instance_that_loads_its_code_is_waited_for(rig: Rig) -> None:
    """It is there, so nothing more is wanted; the reason names it."""
    rig.jobs.add(job("train", _own()))
    run = (await rig.trigger("train")).run_id
    own = PlayedHost(rig, generation=0)
    await own.attach(for_attempt=f"{run}/fit/1")
    sentence = "the instance for step 'fit', process 4242 on machine, takes no work yet"
    assert (_wanted(rig), _why(rig, run)) == ([], ("waiting_for_own_instance", sentence))
    rig.engine.heartbeat(own.key, HeartbeatInfo(generation=1))
    assert (await own.dispatch()).run_id == run


async def test_an_instance_that_cannot_run_it_says_why(rig: Rig) -> None:
    """It lacks something, or has other code; the run waits on, and no other process is let in meanwhile."""
    rig.jobs.add(job("train", _own(resources=Resources(gpus=1))), job("coded", _own()))
    run, coded = (await rig.trigger("train")).run_id, (await rig.trigger("coded")).run_id
    await _came(rig, f"{run}/fit/1", has=Resources())
    lacks = "the instance for step 'fit', process 4242 on machine, lacks gpus = 1 (it has 0)"
    assert _why(rig, run) == ("no_fitting_instance", lacks)
    rig.jobs.other_code.add(("sha256:0", "coded"))
    await _came(rig, f"{coded}/fit/1")
    code, why = _why(rig, coded)
    assert code == "waiting_for_own_instance"
    assert why.endswith("has not loaded the code that the job is from")


async def test_a_dead_instance_is_told_of_by_its_next_life_which_is_refused(rig: Rig) -> None:
    """The attempt fails as host_crashed at once, though the process that proves it may not attach."""
    rig.jobs.add(job("train", _own()))
    run = (await rig.trigger("train")).run_id
    mine = await _came(rig, f"{run}/fit/1")
    await mine.start((await mine.dispatch()).attempt_key)
    with pytest.raises(KernelError, match="waits for no instance of its own"):
        await _came(rig, f"{run}/fit/1", ended=[mine.incarnation])
    detail = await rig.detail(run)
    assert detail.run.state is RunState.FAILED
    assert detail.run.reason is not None
    assert detail.run.reason.code == "host_crashed"
