"""Overlap, pauses, call_job, replay, restarts with waiting runs, and a store that fails."""

from __future__ import annotations

import logging

import pytest
from rig import START_US, Rig, canceled, failed, finished, job, opened, step

from nomaflow_api.v1.letters import CancelOrder, DispatchOrder
from nomaflow_kernel.domain.errors import BadRequest, KernelError, UnknownRun
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.records import PauseRecord, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.jobs.definitions import Overlap


def call(target: str, name: str = "call") -> object:
    """Return a call_job step."""
    return step(name, type="call_job", callable="", target_job_id=target)


async def test_overlap_skip_records_why(rig: Rig) -> None:
    """A second run is SKIPPED with the reason while one is active, unless allow_overlap is set."""
    rig.jobs.add(job("a"))
    await rig.trigger("a")
    skipped = await rig.trigger("a")
    assert skipped.state is RunState.SKIPPED
    detail = await rig.detail(skipped.run_id)
    assert detail.run.reason is not None
    assert (detail.run.state, detail.run.reason.code) == (RunState.SKIPPED, "overlap")
    assert (await rig.trigger("a", allow_overlap=True)).state is RunState.QUEUED


async def test_a_skipped_run_says_what_the_other_one_did(rig: Rig) -> None:
    """A run that a pause holds back was waiting; one that had begun was running, though its next step is held back."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    pause = PauseRecord(scope="job", name="a", by="ann", why="move", since_us=START_US, until_us=None)
    await rig.engine.set_pause(pause)
    other = (await rig.trigger("a")).run_id
    for was in ("waiting", "running"):
        skipped = await rig.detail((await rig.trigger("a")).run_id)
        assert skipped.run.reason is not None
        assert skipped.run.reason.message == f'skipped: {other} was still {was} (overlap = "skip")'
        await rig.engine.clear_pause("job", "a")
        await host.dispatch()
        await rig.engine.set_pause(pause)


async def test_overlap_queue_is_one_at_a_time_and_bounded(rig: Rig) -> None:
    """Queued runs follow one another; runs beyond max_queued are SKIPPED."""
    rig.jobs.add(job("a", overlap=Overlap.QUEUE, max_queued=1))
    host = await rig.host()
    first = (await rig.trigger("a")).run_id
    await host.dispatch()
    beside = (await rig.trigger("a", allow_overlap=True)).run_id
    assert (await host.dispatch(2)).run_id == beside
    second = (await rig.trigger("a")).run_id
    assert (await rig.trigger("a")).state is RunState.SKIPPED
    reason = rig.engine.holdup(second)
    assert reason is not None
    assert reason.code == "waiting_for_overlap"
    overtakes = (await rig.trigger("a", allow_overlap=True)).run_id
    assert (await host.dispatch(3)).run_id == overtakes
    for order in list(host.orders):
        await host.finish(order.attempt_key)
    assert (await host.dispatch(4)).run_id == second
    assert await rig.state(first) is RunState.SUCCEEDED


async def test_a_schedule_that_replaces_a_run_is_named_as_one(rig: Rig) -> None:
    """The bare expression would not say what canceled the run."""
    rig.jobs.add(job("a", overlap=Overlap.CANCEL_RUNNING))
    run_id = (await rig.trigger("a")).run_id
    await rig.trigger("a", kind=TriggerKind.CRON, by="0 2 * * *", slot="a//2026-09-21T02:00:00Z")
    reason = (await rig.detail(run_id)).run.reason
    assert reason is not None
    assert reason.message == "canceled by schedule 0 2 * * *: a newer run replaces it"


async def test_overlap_cancel_running_replaces(rig: Rig) -> None:
    """The active run is asked to stop under cancel_running, and the new one starts when it has."""
    rig.jobs.add(job("a", overlap=Overlap.CANCEL_RUNNING))
    host = await rig.host()
    first = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.start(key)
    second = (await rig.trigger("a")).run_id
    order = await host.order(2)
    assert isinstance(order, CancelOrder)
    assert order.reason_code == "canceled_by_overlap"
    await rig.settle()
    assert len(host.orders) == 2
    await host.report(key, canceled("canceled_by_overlap"), first_seq=2)
    assert (await host.dispatch(3)).run_id == second
    assert await rig.state(first) is RunState.CANCELED


async def test_skipped_cron_fires_fold_into_one_row(rig: Rig) -> None:
    """Consecutive overlap skips of a schedule are one row with first, last and count."""
    rig.jobs.add(job("a", schedule="* * * * *"))
    await rig.trigger("a")
    for minute in (1, 2, 3):
        at = START_US + minute * 60_000_000
        fire = TriggerCommand(job_id="a", kind=TriggerKind.CRON, at_us=at, slot=f"a//{minute}")
        await rig.engine.fire([fire])
    page = await rig.store.list_runs(RunFilter(states=(RunState.SKIPPED,)), before="", limit=10)
    assert len(page.runs) == 1
    fold = page.runs[0].fold
    assert fold is not None
    assert (fold.first_us, fold.last_us, fold.count) == (START_US + 60_000_000, START_US + 180_000_000, 3)
    assert page.runs[0].finished_at_us == fold.last_us


async def test_a_fire_of_a_job_that_was_just_removed_is_missed_as_of_one_that_cannot_run(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """The row says that the job is gone. That is no trouble of the kernel, and no warning."""
    rig.jobs.add(job("a", schedule="* * * * *"))
    rig.jobs.removed.add("a")
    await rig.engine.fire([TriggerCommand(job_id="a", kind=TriggerKind.CRON, at_us=START_US, slot="a//1")])
    (missed,) = (await rig.store.list_runs(RunFilter(states=(RunState.MISSED,)), before="", limit=10)).runs
    assert missed.reason is not None
    assert (missed.reason.code, "no longer has it" in missed.reason.message) == ("job_disabled", True)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_slot_fires_once(rig: Rig) -> None:
    """The same slot offered twice, also after a restart, is one run."""
    rig.jobs.add(job("a", overlap="allow"))
    fire = [TriggerCommand(job_id="a", kind=TriggerKind.CRON, at_us=START_US, slot="a//1")]
    await rig.engine.fire(fire)
    await rig.engine.fire(fire)
    await rig.restart()
    await rig.engine.fire(fire)
    host = await rig.host()
    await host.dispatch()
    await rig.settle()
    assert len(host.orders) == 1


@pytest.mark.parametrize(("scope", "name"), [("all", ""), ("host", "demo"), ("job", "a")])
async def test_a_pause_holds_runs_until_it_ends(rig: Rig, scope: str, name: str) -> None:
    """A pause of everything, the host or the job holds starts, survives a restart, and may end by itself."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    await rig.engine.set_pause(
        PauseRecord(scope=scope, name=name, by="ann", why="move", since_us=START_US, until_us=START_US + 60_000_000)
    )
    run_id = (await rig.trigger("a")).run_id
    await rig.settle()
    assert host.orders == []
    assert "paused: move" in rig.engine.why_not_running("a")
    await rig.restart()
    await host.attach()
    await rig.settle()
    assert host.orders == []
    await rig.advance(61)
    assert (await host.dispatch()).run_id == run_id
    assert rig.engine.pauses() == []


async def test_resume_starts_what_waits(rig: Rig) -> None:
    """Ending a pause looks at the queue again."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    await rig.engine.set_pause(PauseRecord(scope="job", name="a", by="", why="", since_us=0, until_us=None))
    await rig.trigger("a")
    assert await rig.engine.clear_pause("job", "a")
    assert not await rig.engine.clear_pause("job", "a")
    await host.dispatch()


async def test_call_job_waits_for_its_child(rig: Rig) -> None:
    """The child runs with the chain and inherited params, its rows become the step's, and both name each other."""
    rig.jobs.add(job("parent", call("child"), step("after")), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent", params={"day": 1}, log_level="DEBUG")).run_id
    order = await host.dispatch()
    assert opened(order).job_id == "child"
    assert opened(order).parent_chain == (("parent", parent),)
    assert (opened(order).params_json, opened(order).log_level) == (b'{"day":1}', "DEBUG")
    assert (await rig.detail(parent)).attempts[0].child_run_id == order.run_id
    await host.finish(order.attempt_key, finished(rows_affected=4))
    after = await host.dispatch(2)
    assert (after.step, opened(after).prev_rows_affected) == ("after", 4)
    await host.finish(after.attempt_key)
    assert (await rig.detail(parent)).run.rows_affected == 4


async def test_call_job_survives_a_restart(rig: Rig) -> None:
    """A parent that waits for its child keeps waiting after a restart."""
    rig.jobs.add(job("parent", call("child")), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    order = await host.dispatch()
    await rig.restart()
    await host.attach()
    await host.finish(order.attempt_key, failed(error="no"))
    detail = await rig.detail(parent)
    assert detail.run.reason is not None
    assert (detail.run.state, detail.run.reason.code, detail.run.error) == (RunState.FAILED, "child_failed", "no")


async def test_cancel_goes_down_and_up_the_chain(rig: Rig) -> None:
    """Cancelling the parent cancels the child and waits for it; cancelling the child makes the step CANCELED."""
    rig.jobs.add(job("parent", call("child"), overlap="allow"), job("child", overlap="allow"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    child = await host.dispatch()
    await host.start(child.attempt_key)
    await rig.engine.cancel(parent, by="ann", why="")
    order = await host.order(2)
    assert isinstance(order, CancelOrder)
    assert order.reason_code == "canceled_by_parent"
    assert await rig.state(parent) is RunState.RUNNING
    await host.report(child.attempt_key, canceled("canceled_by_parent"), first_seq=2)
    assert (await rig.state(parent), await rig.state(child.run_id)) == (RunState.CANCELED, RunState.CANCELED)
    other = (await rig.trigger("parent")).run_id
    child = await host.dispatch(3)
    await host.start(child.attempt_key)
    await rig.engine.cancel(child.run_id, by="bob", why="")
    await host.report(child.attempt_key, canceled(), first_seq=2)
    detail = await rig.detail(other)
    assert detail.attempts[0].reason is not None
    assert (detail.run.state, detail.attempts[0].reason.code) == (RunState.CANCELED, "child_canceled")


async def test_call_job_that_cannot_run(rig: Rig) -> None:
    """An unknown target, a skipped child and a circle fail the step with their codes and say why."""
    rig.jobs.add(
        job("unknown", call("unknowns")),
        job("busy", call("child")),
        job("child"),
        job("x", call("y")),
        job("y", call("x")),
    )
    await rig.trigger("child")
    found = {}
    for name in ("unknown", "busy", "x"):
        run_id = (await rig.trigger(name)).run_id
        await rig.settle()
        run = (await rig.detail(run_id)).run
        assert run.reason is not None
        assert "did you mean" not in run.reason.message  # the only job that looks like it is the one that calls
        found[name] = (run.state, run.reason.code)
    assert found == {
        "unknown": (RunState.FAILED, "unknown_job"),
        "busy": (RunState.FAILED, "child_not_run"),
        "x": (RunState.FAILED, "child_failed"),
    }
    events = await rig.events()
    assert any("x → y → x" in (event.reason.message if event.reason else "") for event in events)


async def test_job_timeout_stops_a_child(rig: Rig) -> None:
    """A parent whose time is up cancels its child and is FAILED job_timed_out once that has stopped."""
    rig.jobs.add(job("parent", call("child"), timeout_seconds=10), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    child = await host.dispatch()
    await host.start(child.attempt_key)
    await rig.advance(11)
    assert isinstance(await host.order(2), CancelOrder)
    await host.report(child.attempt_key, canceled("canceled_by_parent"), first_seq=2)
    run = (await rig.detail(parent)).run
    assert run.reason is not None
    assert (run.state, run.reason.code) == (RunState.FAILED, "job_timed_out")


async def test_replay_takes_the_snapshot_and_can_start_late(rig: Rig) -> None:
    """A replay runs the old definition; from the failed step it takes earlier outputs over."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    old = (await rig.trigger("a", params={"p": 1})).run_id
    with pytest.raises(KernelError, match="only a finished run can be replayed"):
        await rig.replay(old)
    await host.finish((await host.dispatch()).attempt_key, finished(rows_affected=3, extras_json=b'{"k":"v"}'))
    await host.finish((await host.dispatch(2)).attempt_key, failed())
    rig.jobs.add(job("a", step("other")))
    new = await rig.replay(old, from_failed_step=True, params={"q": 2})
    order = await host.dispatch(3)
    assert (order.step, opened(order).params_json, opened(order).prev_rows_affected) == ("two", b'{"p":1,"q":2}', 3)
    assert b'"k":"v"' in opened(order).previous_steps_json
    await host.finish(order.attempt_key)
    detail = await rig.detail(new)
    assert (detail.run.state, detail.run.rows_affected, detail.run.replay_of) == (RunState.SUCCEEDED, 3, old)
    assert detail.attempts[0].reason is not None
    assert detail.attempts[0].reason.code == "reused"
    with pytest.raises(BadRequest, match="did you mean 'two'"):
        await rig.replay(old, from_step="tow")
    with pytest.raises(UnknownRun):
        await rig.replay("run_00000000000000000000000000")


async def test_waiting_runs_survive_a_restart(rig: Rig) -> None:
    """Runs that waited when the kernel ended start after it is back, with the snapshot they were triggered with."""
    rig.jobs.add(job("a", step("one"), overlap="allow"))
    runs = [(await rig.trigger("a", params={"n": n})).run_id for n in range(3)]
    await rig.restart()
    rig.jobs.add(job("a", step("changed"), overlap="allow"))
    host = await rig.host()
    orders = [await host.dispatch(count) for count in (1, 2, 3)]
    assert [order.run_id for order in orders] == runs
    assert {order.step for order in orders} == {"one"}
    assert [opened(order).params_json for order in orders] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


async def test_a_failed_commit_applies_nothing_and_heals(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the store reaches the caller, no order is sent, and the state is the store's again."""
    rig.jobs.add(job("a", overlap="allow"))
    host = await rig.host()
    real, left = rig.store.apply, [1]

    async def failing(*args: object, **kwargs: object) -> object:
        if left[0]:
            left[0] -= 1
            raise StoreBusy("locked")
        return await real(*args, **kwargs)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(rig.store, "apply", failing)
    with pytest.raises(StoreBusy):
        await rig.trigger("a")
    assert host.orders == []
    run_id = (await rig.trigger("a")).run_id
    order = await host.dispatch()
    assert order.run_id == run_id
    left[0] = 1
    with pytest.raises(StoreBusy):
        await host.report(order.attempt_key, finished())
    assert await rig.state(run_id) is RunState.RUNNING
    await host.finish(order.attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED
    # Whether the order in doubt had been sent cannot be known: it is sent again, and its key starts nothing twice.
    assert {order.attempt_key for order in host.orders if isinstance(order, DispatchOrder)} == {order.attempt_key}
    assert (await rig.detail(run_id)).attempts[0].state is AttemptState.SUCCEEDED
