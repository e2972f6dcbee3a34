"""call_job: its time limit, what a child inherits, and lanes that no host wakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from rig import Rig, canceled, failed, finished, job, opened, step

from nomaflow_api.v1.letters import CancelOrder
from nomaflow_kernel.history.lookups import RunDetail, RunFilter
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.definitions import Overlap, PresetDefinition, StepDefinition
from nomaflow_project.jobs.retry_policy import RetryPolicy


def call(target: str, **fields: object) -> StepDefinition:
    """Return a call_job step."""
    return step("call", type="call_job", callable="", target_job_id=target, **fields)


async def outcome(rig: Rig, run_id: str) -> tuple[RunState, str]:
    """Return state and reason code of a run."""
    run = (await rig.detail(run_id)).run
    return run.state, run.reason.code if run.reason is not None else ""


def tries(detail: RunDetail) -> list[tuple[AttemptState, str]]:
    """Return state and reason code of every attempt."""
    return [(each.state, each.reason.code if each.reason is not None else "") for each in detail.attempts]


async def test_a_step_timeout_holds_for_call_job_too(rig: Rig) -> None:
    """The child is stopped, and only then does the step fail timed_out. The time of the call before does not count."""
    before = replace(call("quick", timeout_seconds=10), name="before")
    rig.jobs.add(job("parent", before, call("child", timeout_seconds=10)), job("quick"), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    quick = await host.dispatch()
    await rig.advance(6)
    await host.finish(quick.attempt_key)
    child = await host.dispatch(2)
    await host.start(child.attempt_key)
    await rig.advance(9)
    assert len(host.orders) == 2
    await rig.advance(2)
    order = await host.order(3)
    assert isinstance(order, CancelOrder)
    assert await rig.state(parent) is RunState.RUNNING
    await host.report(child.attempt_key, canceled("canceled_by_parent"), first_seq=2)
    assert await outcome(rig, parent) == (RunState.FAILED, "timed_out")
    assert await outcome(rig, child.run_id) == (RunState.CANCELED, "canceled_by_parent")


async def test_the_timeout_of_a_call_outlives_the_kernel(rig: Rig) -> None:
    """The limit counts on over a restart, from the moment the step began."""
    rig.jobs.add(job("parent", call("child", timeout_seconds=10)), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    child = await host.dispatch()
    await host.start(child.attempt_key)
    rig.clock.advance(6)
    await rig.restart()
    await host.attach()
    await rig.advance(3)
    assert not any(isinstance(order, CancelOrder) for order in host.orders)
    await rig.advance(2)
    await rig.settle()
    assert isinstance(host.orders[-1], CancelOrder)
    await host.report(child.attempt_key, canceled("canceled_by_parent"), first_seq=2)
    assert await outcome(rig, parent) == (RunState.FAILED, "timed_out")


async def test_a_call_that_timed_out_is_retried_like_any_failure(rig: Rig) -> None:
    """The next try has a child of its own and its own time; a child that still waited ends at once."""
    policy = RetryPolicy(attempts=2, base_seconds=5, jitter=0)
    rig.jobs.add(job("parent", call("child", timeout_seconds=10, retry=policy)), job("child", host="away"))
    rig.jobs.accepted_calls.add(("away", "demo"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    await rig.advance(10)
    assert tries(await rig.detail(parent)) == [
        (AttemptState.FAILED, "timed_out"),
        (AttemptState.PENDING, "waiting_for_retry"),
    ]
    away = await rig.host(host="away")
    await rig.advance(5)
    child = await away.dispatch()
    await rig.advance(6)
    await away.finish(child.attempt_key, finished(rows_affected=2))
    detail = await rig.detail(parent)
    assert (detail.run.state, detail.run.rows_affected) == (RunState.SUCCEEDED, 2)
    assert detail.attempts[0].child_run_id != detail.attempts[1].child_run_id
    assert host.orders == []


async def test_a_queued_run_whose_first_step_is_a_call_follows_the_one_before(rig: Rig) -> None:
    """A queued run that begins with a call waits in no host's lane, and starts when the run before it has ended."""
    rig.jobs.add(job("parent", call("child"), overlap=Overlap.QUEUE), job("child", overlap=Overlap.ALLOW))
    host = await rig.host()
    first = (await rig.trigger("parent")).run_id
    second = (await rig.trigger("parent")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    assert await rig.state(first) is RunState.SUCCEEDED
    await host.finish((await host.dispatch(2)).attempt_key)
    assert await rig.state(second) is RunState.SUCCEEDED


@pytest.mark.parametrize(("asked", "expected"), [("", "DEBUG"), ("ERROR", "ERROR")])
async def test_a_child_logs_at_the_level_asked_of_its_parent(rig: Rig, asked: str, expected: str) -> None:
    """A child's log level comes from the run, or else from its preset, down to grandchildren."""
    preset = PresetDefinition(name="loud", log_level="DEBUG")
    rig.jobs.add(job("top", call("middle"), presets=(preset,)), job("middle", call("leaf")), job("leaf"))
    host = await rig.host()
    await rig.trigger("top", preset="loud", log_level=asked)
    order = await host.dispatch()
    assert (opened(order).job_id, opened(order).log_level) == ("leaf", expected)
    assert [job_id for job_id, _ in opened(order).parent_chain] == ["top", "middle"]


async def test_waiting_runs_without_a_host_are_counted_under_none(rig: Rig) -> None:
    """They are counted as those that run: the line in which they wait is no host."""
    rig.jobs.add(job("calls", call("child"), host="", overlap=Overlap.QUEUE), job("child"))
    for _ in range(2):
        await rig.trigger("calls")
    found = [(each.state, each.host) for each in rig.engine.open_runs() if each.job_id == "calls"]
    assert found == [(RunState.QUEUED, ""), (RunState.RUNNING, "")]


async def test_a_child_s_failure_is_retried_with_a_new_child(rig: Rig) -> None:
    """Each try of the step names the child it started."""
    rig.jobs.add(job("parent", call("child", retry=RetryPolicy(attempts=2, base_seconds=0))), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    first = await host.dispatch()
    await host.finish(first.attempt_key, failed())
    second = await host.dispatch(2)
    await host.finish(second.attempt_key)
    detail = await rig.detail(parent)
    assert tries(detail) == [(AttemptState.FAILED, "child_failed"), (AttemptState.SUCCEEDED, "")]
    assert [each.child_run_id for each in detail.attempts] == [first.run_id, second.run_id]


@pytest.mark.parametrize("how", ["parent canceled", "child canceled"])
async def test_a_cancel_in_the_turn_in_which_a_call_begins_or_ends(rig: Rig, how: str) -> None:
    """A call that has not started starts nothing; a child that ends in the turn of the cancel ends its parent too."""
    rig.jobs.add(job("parent", step("one"), call("child")), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    order = await host.dispatch()
    await host.start(order.attempt_key)
    if how == "parent canceled":
        done = host.report(order.attempt_key, finished(), first_seq=2)
        await asyncio.gather(done, rig.engine.cancel(parent, by="ann", why="enough"))
        assert tries(await rig.detail(parent)) == [
            (AttemptState.SUCCEEDED, ""),
            (AttemptState.CANCELED, "canceled_by_user"),
        ]
        assert len(host.orders) == 1
    else:
        await host.report(order.attempt_key, finished(), first_seq=2)
        child = await host.dispatch(2)
        await host.start(child.attempt_key)
        done = host.report(child.attempt_key, finished(), first_seq=2)
        await asyncio.gather(done, rig.engine.cancel(parent, by="ann", why="enough"))
        assert await rig.state(child.run_id) is RunState.SUCCEEDED
    assert await outcome(rig, parent) == (RunState.CANCELED, "canceled_by_user")
    assert rig.engine.overview().rebuilt == 1


async def test_a_stored_reason_says_what_is_wrong_and_leaves_the_way_out_to_its_code(rig: Rig) -> None:
    """Of a run whose child cannot run, and of the run that called that one."""
    rig.jobs.add(job("a", call("b")), job("b", call("c")), job("c"))
    rig.jobs.invalid["c"] = "its callable cannot be imported"
    runs = [(await rig.trigger(name)).run_id for name in ("b", "a")]
    await rig.settle()
    found = {each.code: each for run_id in runs if (each := (await rig.detail(run_id)).run.reason) is not None}
    why = "job 'c' cannot run: its callable cannot be imported"
    assert {code: each.message.partition(" failed: ")[2] or each.message for code, each in found.items()} == {
        "job_unavailable": why,
        "child_failed": why,
    }
    assert [each.fix for each in found.values()] == ["See nomaflow job ID.", "Look at the child run."]


async def test_a_long_chain_of_calls_is_canceled_to_its_end(rig: Rig) -> None:
    """However many jobs call each other: each waits for the next, and all end with the last."""
    depth = 400
    rig.jobs.add(*(job(f"job{n}", call(f"job{n + 1}")) for n in range(depth)), job(f"job{depth}"))
    run_id = (await rig.trigger("job0")).run_id
    await rig.engine.cancel(run_id, by="ann", why="")
    assert await rig.state(run_id) is RunState.CANCELED
    page = await rig.store.list_runs(RunFilter(states=(RunState.CANCELED,)), before="", limit=500)
    assert len(page.runs) == depth + 1
