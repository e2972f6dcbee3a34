"""A run that the store refuses as a duplicate leaves nothing behind in the engine's memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig import PlayedHost, Rig, job, step

from nomaflow_kernel.domain.errors import RequestIdReused
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_project.jobs.definitions import IsolationChoice, Overlap, StepDefinition
from waiting import eventually


def call(target: str) -> StepDefinition:
    """Return a call_job step."""
    return step("call", type="call_job", callable="", target_job_id=target)


async def test_every_repeat_after_a_restart_is_told_the_same_run(rig: Rig) -> None:
    """A second repeat gets the same run too, after the first has shown that the store knows the request."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    first = await rig.trigger("a", request_id="k", request_hash="h")
    await rig.restart()
    repeats = [await rig.trigger("a", request_id="k", request_hash="h") for _ in range(3)]
    assert {each.run_id for each in repeats} == {first.run_id}
    assert all(each.deduplicated for each in repeats)
    with pytest.raises(RequestIdReused, match=first.run_id):
        await rig.trigger("a", request_id="k", request_hash="other")


async def test_a_repeat_is_not_refused_for_a_wrong_one_that_came_with_it(rig: Rig) -> None:
    """A reused request id is refused, and a repeat in the same turn gets its run."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    first = await rig.trigger("a", request_id="k", request_hash="h")
    await rig.restart()
    wrong, right = await asyncio.gather(
        rig.trigger("a", request_id="k", request_hash="other"),
        rig.trigger("a", request_id="k", request_hash="h"),
        return_exceptions=True,
    )
    assert isinstance(wrong, RequestIdReused)
    assert wrong.run_id == first.run_id
    assert not isinstance(right, BaseException), right
    assert (right.run_id, right.deduplicated) == (first.run_id, True)


async def test_a_fire_after_one_that_came_twice_is_recorded(rig: Rig) -> None:
    """The fire folds into no row that the store has refused."""
    rig.jobs.add(job("a"))

    async def fire(minute: int) -> None:
        command = TriggerCommand(job_id="a", kind=TriggerKind.CRON, at_us=minute, slot=f"a//{minute}")
        await rig.engine.fire([command])

    await fire(1)
    await fire(1)
    await fire(2)
    await rig.settle()
    page = await rig.store.list_runs(RunFilter(), before="", limit=10)
    assert [each.state for each in page.runs] == [RunState.SKIPPED, RunState.QUEUED]
    assert page.runs[0].fold is not None
    assert page.runs[0].fold.first_us == 2


async def test_a_new_request_is_not_skipped_for_a_repeat_that_came_with_it(rig: Rig) -> None:
    """A repeat's run keeps no other out after a restart, when only the store knows the request ids."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    first = await rig.trigger("a", request_id="k", request_hash="h")
    await host.finish((await host.dispatch()).attempt_key)
    await rig.restart()
    again, new = await asyncio.gather(
        rig.trigger("a", request_id="k", request_hash="h"), rig.trigger("a", request_id="l", request_hash="h")
    )
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    assert new.state is RunState.QUEUED


async def test_a_repeat_runs_no_child(rig: Rig) -> None:
    """A call_job of a repeated request does not run again, even if only the store knows it after a restart."""
    rig.jobs.add(job("parent", call("child"), overlap=Overlap.ALLOW), job("child", overlap=Overlap.ALLOW))
    await rig.host()
    first = await rig.trigger("parent", request_id="k", request_hash="h")
    await rig.restart()
    again = await rig.trigger("parent", request_id="k", request_hash="h")
    await rig.settle()
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    page = await rig.store.list_runs(RunFilter(), before="", limit=10)
    assert sorted(each.job_id for each in page.runs) == ["child", "parent"]


async def test_a_repeat_in_hand_runs_no_child(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat starts no child, even if the answer to the first request's commit is lost while the repeat waits."""
    rig.jobs.add(job("parent", call("child"), overlap=Overlap.ALLOW), job("child", overlap=Overlap.ALLOW))
    await rig.host()
    real: Any = rig.store.apply
    repeats: list[asyncio.Future[TriggerOutcome]] = []

    async def doubtful(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(rig.store, "apply", real)
        repeats.append(asyncio.ensure_future(rig.trigger("parent", request_id="k", request_hash="h")))
        async with asyncio.timeout(60):
            while not rig.engine._loop._inbox._turns:
                await asyncio.sleep(0)
        await real(*args, **kwargs)
        raise StoreUnavailable("the answer was lost", outcome_unknown=True)

    monkeypatch.setattr(rig.store, "apply", doubtful)
    with pytest.raises(StoreUnavailable):
        await rig.trigger("parent", request_id="k", request_hash="h")
    assert (await repeats[0]).deduplicated
    await rig.settle()
    page = await rig.store.list_runs(RunFilter(), before="", limit=10)
    assert sorted(each.job_id for each in page.runs) == ["child", "parent"]


async def test_an_instance_that_came_for_a_repeat_is_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher may see a repeat before the store refuses it; what it starts is told that nobody needs it."""
    rig.jobs.add(job("train", step("fit", isolation=IsolationChoice.INSTANCE), overlap=Overlap.ALLOW), job("other"))
    first = await rig.trigger("train", request_id="k", request_hash="h")
    await rig.restart()
    real: Any = rig.store.apply
    own = PlayedHost(rig)
    waiting: list[asyncio.Future[Any]] = []

    def wanted() -> set[str]:
        return {each.attempt_key for each in rig.engine.demand() if each.attempt_key}

    async def slow(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(rig.store, "apply", real)
        waiting.append(asyncio.ensure_future(rig.trigger("train", request_id="k", request_hash="h")))
        (key,) = await eventually(lambda: wanted() - {f"{first.run_id}/fit/1"})
        waiting.append(asyncio.ensure_future(own.attach(for_attempt=key)))
        await eventually(lambda: rig.engine._loop.turns)
        return await real(*args, **kwargs)

    monkeypatch.setattr(rig.store, "apply", slow)
    await rig.trigger("other")
    again, _ = await asyncio.gather(*waiting)
    assert (again.run_id, again.deduplicated, own.orders) == (first.run_id, True, [])
    await rig.advance(2)
    assert {error.reason for error in own.refused} == {"ATTEMPT_NOT_WANTED"}
