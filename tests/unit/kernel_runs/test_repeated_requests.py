"""The same request again, and replays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from rig import Rig, command, failed, finished, job, opened, step

from nomaflow_api.v1.letters import CancelOrder
from nomaflow_kernel.domain.errors import BadRequest, KernelError, QuotaExceeded, RemovedJob, RequestIdReused
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.definitions import Overlap, PresetDefinition


async def test_a_repeated_request_cancels_nothing(rig: Rig) -> None:
    """A repeated key under cancel_running, even after a restart, leaves the run that it started alone."""
    rig.jobs.add(job("a", overlap=Overlap.CANCEL_RUNNING))
    host = await rig.host()
    first = await rig.trigger("a", request_id="k", request_hash="h")
    await host.start((await host.dispatch()).attempt_key)
    await rig.restart()
    await host.attach()
    again = await rig.trigger("a", request_id="k", request_hash="h")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    with pytest.raises(RequestIdReused):
        await rig.trigger("a", request_id="k", request_hash="other")
    assert not any(isinstance(order, CancelOrder) for order in host.orders)
    assert (await rig.detail(first.run_id)).run.cancel is None


async def test_a_repeated_replay_is_one_run(rig: Rig) -> None:
    """A replay's key works as a trigger's, also with cancel_running."""
    rig.jobs.add(job("a", overlap=Overlap.CANCEL_RUNNING))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    command = {"request_id": "k", "request_hash": "h"}
    new = await rig.replay(old, **command)
    await host.dispatch(2)
    assert await rig.replay(old, **command) == new
    await rig.restart()
    await host.attach()
    assert await rig.replay(old, **command) == new
    assert (await rig.detail(new)).run.cancel is None
    with pytest.raises(RequestIdReused):
        await rig.replay(old, request_id="k", request_hash="other")


async def test_a_repeated_request_that_was_skipped_is_told_so(rig: Rig) -> None:
    """The answer is the one of the first time."""
    rig.jobs.add(job("a"))
    await rig.trigger("a")
    first = await rig.trigger("a", request_id="k", request_hash="h")
    again = await rig.trigger("a", request_id="k", request_hash="h")
    assert (first.state, again.state, again.run_id) == (RunState.SKIPPED, RunState.SKIPPED, first.run_id)


async def test_a_replay_never_runs_a_step_before_the_one_named(rig: Rig) -> None:
    """Steps before it that left no output are SKIPPED with the reason, those that did are reused."""
    rig.jobs.add(job("a", step("one"), step("two"), step("three")))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, finished(rows_affected=3))
    await host.finish((await host.dispatch(2)).attempt_key, failed())
    new = await rig.replay(old, from_step="three")
    order = await host.dispatch(3)
    assert (order.step, opened(order).prev_rows_affected) == ("three", 3)
    await host.finish(order.attempt_key)
    detail = await rig.detail(new)
    assert [(each.step, each.state, each.reason.code if each.reason else "") for each in detail.attempts] == [
        ("one", AttemptState.SUCCEEDED, "reused"),
        ("two", AttemptState.SKIPPED, "before_replay"),
        ("three", AttemptState.SUCCEEDED, ""),
    ]
    assert detail.run.state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("sizes", "taken"), [((400_000, 300_000, 50_000), (0, 2)), ((510_000, 14_200, 5_000), (0, 1))], ids=["over", "full"]
)
async def test_a_replay_takes_over_no_results_that_later_steps_may_not_read(
    rig: Rig, sizes: tuple[int, ...], taken: tuple[int, ...]
) -> None:
    """Its request, which lists of runs read, would have them all. A replay of that replay takes over as much."""
    rig.jobs.add(job("a", step("one"), step("two"), step("three"), step("four")))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    for count, size in enumerate(sizes, start=1):
        result = finished(rows_affected=count, extras_json=b'{"k":"%s"}' % (b"v" * size))
        await host.finish((await host.dispatch(count)).attempt_key, result)
    live = await host.dispatch(4)
    await host.finish(live.attempt_key, finished(extras_json=b'{"k":"last"}'))
    first = await rig.replay(old, from_step="four")
    order = await host.dispatch(5)
    assert opened(order).previous_steps_json == opened(live).previous_steps_json
    await host.finish(order.attempt_key)
    await rig.replay(first, from_step="four")
    assert opened(await host.dispatch(6)).previous_steps_json == opened(live).previous_steps_json
    replayed = await rig.detail(first)
    assert [len(each.extras_json or b"") for each in replayed.attempts] == [
        sizes[index] + 8 if index in taken else 0 for index in range(4)
    ]
    assert len(json.dumps(replayed.run.request.to_json())) < 520 * 1024


async def test_a_replay_keeps_switches_preset_and_values_and_lays_changes_over(rig: Rig) -> None:
    """The snapshot's layers are those of the first run; changed values win over them."""
    rig.jobs.add(job("a", step("one", op_kwargs={"k": 0}), step("two"), params={"p": 0}))
    host = await rig.host()
    old = (
        await rig.trigger(
            "a", params={"p": 1, "q": 1}, op_kwargs={"one": {"k": 1}}, switches={"two": False}, log_level="DEBUG"
        )
    ).run_id
    await host.finish((await host.dispatch()).attempt_key)
    new = await rig.replay(old, params={"q": 2}, op_kwargs={"one": {"k": 2}}, by="ann")
    order = await host.dispatch(2)
    letter = opened(order)
    assert (letter.params_json, letter.kwargs_json) == (b'{"p":1,"q":2}', b'{"p":1,"k":2,"q":2}')
    assert (letter.log_level, letter.trigger_kind, letter.trigger_by) == ("DEBUG", "replay", "ann")
    await host.finish(order.attempt_key)
    assert [each.state for each in (await rig.detail(new)).attempts] == [AttemptState.SUCCEEDED, AttemptState.SKIPPED]


async def test_a_replay_refuses_a_changed_param_that_no_step_takes(rig: Rig) -> None:
    """A replay refuses unknown params like a trigger."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    rig.jobs.offer_all()
    with pytest.raises(BadRequest, match="takes the param 'x'"):
        await rig.replay(old, params={"x": 1})
    assert await rig.replay(old)


async def test_a_replay_goes_by_the_overlap_policy_of_today(rig: Rig) -> None:
    """A replay follows today's overlap policy, not the snapshot's; a job that is gone replays by its snapshot alone."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    rig.jobs.add(job("a", overlap=Overlap.SKIP))
    await rig.trigger("a")
    assert await rig.state(await rig.replay(old)) is RunState.SKIPPED
    del rig.jobs.definitions["a"]
    assert await rig.state(await rig.replay(old)) is RunState.RUNNING


async def test_a_missed_fire_can_be_replayed(rig: Rig) -> None:
    """A row that stands for a run that never was is a snapshot too."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    running = (await rig.trigger("a")).run_id
    skipped = (await rig.trigger("a", params={"p": 1})).run_id
    await host.finish((await host.dispatch()).attempt_key)
    assert await rig.state(running) is RunState.SUCCEEDED
    await rig.replay(skipped, from_failed_step=True)
    assert opened(await host.dispatch(2)).params_json == b'{"p":1}'


async def test_a_repeated_replay_of_a_job_that_is_gone_calls_its_child_once(rig: Rig) -> None:
    """A replay runs its snapshot, with the steps that call other jobs, whatever the catalogue says of the job today."""
    rig.jobs.add(job("p", step("call", type="call_job", callable="", target_job_id="b")), job("b", overlap="allow"))
    host = await rig.host()
    run_id = (await rig.trigger("p")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED
    del rig.jobs.definitions["p"]
    request = {"request_id": "k", "request_hash": "h"}
    first = await rig.replay(run_id, **request)
    await host.finish((await host.dispatch(2)).attempt_key)
    assert await rig.state(first) is RunState.SUCCEEDED
    await rig.restart()
    await host.attach()
    assert await rig.replay(run_id, **request) == first
    for _ in range(3):
        await rig.advance(0.1)
    assert len(host.orders) == 2


@pytest.mark.parametrize("how", ["gone", "removed", "invalid", "step renamed", "param refused"])
async def test_a_repeated_request_is_answered_though_it_would_be_refused_today(rig: Rig, how: str) -> None:
    """An acknowledged request gets the same answer, even after a restart; an id with another request is refused."""
    rig.jobs.add(job("b", step("one"), overlap="allow"))
    wish: dict[str, Any] = {"params": {"p": 1}, "op_kwargs": {"one": {"k": 1}}, "request_id": "k"}
    first = (await rig.trigger("b", **wish, request_hash="h")).run_id
    await rig.restart()
    match how:
        case "gone":
            del rig.jobs.definitions["b"]
        case "removed":
            rig.jobs.removed.add("b")
        case "invalid":
            rig.jobs.invalid["b"] = "its callable is gone"
        case "step renamed":
            rig.jobs.add(job("b", step("uno"), overlap="allow"))
        case _:
            rig.jobs.offer_all()
    again = await rig.trigger("b", **wish, request_hash="h")
    assert (again.run_id, again.deduplicated) == (first, True)
    await rig.restart()
    with pytest.raises(RequestIdReused, match=first):
        await rig.trigger("b", **wish, request_hash="other")
    with pytest.raises(KernelError) as refused:
        await rig.trigger("b", **{**wish, "request_id": "new"}, request_hash="h")
    assert not isinstance(refused.value, RequestIdReused)


async def test_a_repeated_request_is_answered_though_the_queue_is_full(rig: Rig) -> None:
    """The repeated request's own run is one of those that fill the queue."""
    rig.jobs.add(job("b", overlap="allow"))
    first = (await rig.trigger("b", request_id="k", request_hash="h")).run_id
    rig.settings = structs.replace(rig.settings, max_waiting=1)
    await rig.restart()
    with pytest.raises(QuotaExceeded):
        await rig.trigger("b", request_id="new", request_hash="h")
    again = await rig.trigger("b", request_id="k", request_hash="h")
    assert (again.run_id, again.deduplicated) == (first, True)


async def test_a_replay_may_switch_steps_and_change_the_level(rig: Rig) -> None:
    """Its own switches lie over those of the run; a level that it does not give is the run's."""
    rig.jobs.add(job("a", step("one"), step("two"), step("three")))
    host = await rig.host()
    old = (await rig.trigger("a", switches={"one": False, "two": False}, log_level="DEBUG")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    new = await rig.replay(old, switches={"two": True, "three": False})
    order = await host.dispatch(2)
    assert (order.step, opened(order).log_level) == ("two", "DEBUG")
    await host.finish(order.attempt_key)
    assert await rig.state(new) is RunState.SUCCEEDED
    third = await rig.replay(new, log_level="ERROR", switches={"one": True})
    order = await host.dispatch(3)
    assert (order.step, opened(order).log_level) == ("one", "ERROR")
    assert (await rig.detail(third)).run.request.switches == {"one": True, "two": True, "three": False}
    with pytest.raises(BadRequest, match="has no step 'tow'"):
        await rig.replay(old, switches={"tow": True})


async def test_a_replay_may_set_the_overlap_policy_aside(rig: Rig) -> None:
    """A replay beside a running run is SKIPPED, but runs with allow_overlap."""
    rig.jobs.add(job("a", step("one"), overlap=Overlap.SKIP))
    host = await rig.host()
    old = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    await rig.trigger("a")
    await host.dispatch(2)
    assert await rig.state(await rig.replay(old)) is RunState.SKIPPED
    beside = await rig.replay(old, allow_overlap=True)
    await host.dispatch(3)
    assert await rig.state(beside) is RunState.RUNNING


async def test_a_replay_may_run_the_job_as_it_is_today(rig: Rig) -> None:
    """Its steps are those of now, with the values of then; outputs of earlier steps are taken over by name."""
    rig.jobs.add(job("a", step("one"), step("gone"), step("two", op_kwargs={"n": 1})))
    host = await rig.host()
    old = (await rig.trigger("a", params={"p": 1}, op_kwargs={"two": {"m": 2}, "gone": {"x": 1}})).run_id
    await host.finish((await host.dispatch()).attempt_key, finished(rows_affected=3))
    await host.finish((await host.dispatch(2)).attempt_key)
    await host.finish((await host.dispatch(3)).attempt_key, failed())
    rig.jobs.add(job("a", step("one"), step("two", op_kwargs={"n": 5}), step("new")))
    new = await rig.replay(old, current_definition=True, from_failed_step=True)
    order = await host.dispatch(4)
    assert (order.step, json.loads(opened(order).kwargs_json)) == ("two", {"n": 5, "m": 2, "p": 1})
    assert opened(order).prev_rows_affected == 3
    await host.finish(order.attempt_key)
    assert (await host.dispatch(5)).step == "new"
    detail = await rig.detail(new)
    today = rig.jobs.job("a")
    assert today is not None
    assert today.definition is not None
    assert (detail.run.definition_digest, detail.run.replay_of) == (today.definition.digest, old)
    assert detail.run.definition_digest != (await rig.detail(old)).run.definition_digest
    with pytest.raises(BadRequest, match="job 'a' has no step 'gone'"):
        await rig.replay(old, current_definition=True, from_step="gone")


async def test_a_replay_of_today_needs_a_job_that_can_run_today(rig: Rig) -> None:
    """A job that is gone or broken, or has lost the preset of the run, is refused; as it was then it still runs."""
    with_preset = replace(job("a", step("one")), presets=(PresetDefinition(name="quick"),))
    rig.jobs.add(with_preset)
    host = await rig.host()
    old = (await rig.trigger("a", preset="quick")).run_id
    await host.finish((await host.dispatch()).attempt_key)
    rig.jobs.add(job("a", step("one")))
    with pytest.raises(BadRequest, match="has no preset 'quick'"):
        await rig.replay(old, current_definition=True)
    rig.jobs.removed.add("a")
    with pytest.raises(RemovedJob, match="no longer has it"):
        await rig.replay(old, current_definition=True)
    rig.jobs.removed.clear()
    await rig.replay(old)
    assert (await host.dispatch(2)).step == "one"


async def test_values_for_a_step_that_does_not_run_are_named(rig: Rig) -> None:
    """They are not used, so whoever triggers or replays is warned of the step that is off, or is not run again."""
    rig.jobs.add(job("a", step("one"), step("two")))
    told = ("step 'one' does not run, so the values that were given for it are not used",)
    run = await rig.trigger("a", switches={"one": False}, op_kwargs={"one": {"k": 1}, "two": {"k": 1}})
    assert run.warnings == told
    await rig.engine.cancel(run.run_id, by="ann", why="")
    again = command("", kind=TriggerKind.REPLAY, replay_of=run.run_id, from_step="two", op_kwargs={"one": {"k": 2}})
    assert (await rig.take(again)).warnings == told


async def test_a_step_before_the_start_of_a_replay_is_not_switched_on(rig: Rig) -> None:
    """It would not run, so the replay is refused with the way out; off it may be, and its output is not kept then."""
    rig.jobs.add(job("a", step("one", enabled=False), step("two"), step("three")))
    host = await rig.host()
    old = (await rig.trigger("a", switches={"one": True})).run_id
    await host.finish((await host.dispatch()).attempt_key, finished(rows_affected=1))
    await host.finish((await host.dispatch(2)).attempt_key, failed())
    told = "step 'one' is switched on, and the replay starts later, at 'two'; start it at 'one', or leave"
    for start in ({"from_step": "two"}, {"from_failed_step": True}):
        again = command("", kind=TriggerKind.REPLAY, replay_of=old, switches={"one": True}, **start)
        with pytest.raises(BadRequest) as caught:
            await rig.take(again)
        assert (caught.value.message.startswith(told), list(caught.value.fields)) == (True, ["step_switches"])
    await rig.take(
        command("", kind=TriggerKind.REPLAY, replay_of=old, switches={"one": False, "two": True}, from_step="two")
    )
    order = await host.dispatch(3)
    assert (order.step, opened(order).prev_rows_affected) == ("two", None)


async def test_a_replay_of_a_replay_takes_over_nothing_that_the_first_one_had_switched_off(rig: Rig) -> None:
    """The first one was given the output as well, but its steps did not see it."""
    host = await rig.host()
    last = ""
    seen = []
    for number, enabled in enumerate((True, False, True)):
        rig.jobs.add(job("a", step("one", enabled=enabled), step("two")))
        if number:
            last = await rig.replay(last, current_definition=True, from_step="two")
        else:
            last = (await rig.trigger("a")).run_id
            await host.finish((await host.dispatch()).attempt_key, finished(rows_affected=1))
        order = await host.dispatch(number + 2)
        await host.finish(order.attempt_key)
        seen.append(opened(order).prev_rows_affected)
    assert seen == [1, None, None]


async def test_a_repeat_is_answered_as_the_first_request_was(rig: Rig) -> None:
    """With the state in which its run was accepted, whether memory or the store knows it."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    first = await rig.trigger("a", request_id="k")
    await host.finish((await host.dispatch()).attempt_key)
    again = await rig.trigger("a", request_id="k")
    await rig.restart()
    later = await rig.trigger("a", request_id="k")
    assert (first.state, again.state, later.state) == (RunState.QUEUED,) * 3
    assert (again.run_id, later.run_id, later.deduplicated) == (first.run_id, first.run_id, True)
