"""Runs from trigger to end, one step after the other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from rig import Rig, canceled, failed, finished, job, opened, started, step

from nomaflow_api.v1.letter_words import TimeoutKind
from nomaflow_kernel.domain.errors import BadRequest, JobUnavailable, KernelError, RequestIdReused, UnknownJob
from nomaflow_kernel.engine.placement import roomiest
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_project.jobs.definitions import IsolationChoice, PresetDefinition
from nomaflow_project.jobs.retry_policy import Backoff, RetryPolicy


async def test_one_step_run_goes_all_the_way(rig: Rig) -> None:
    """A trigger is dispatched, reported and ends SUCCEEDED with its rows, and every change left an event."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    outcome = await rig.trigger("a")
    order = await host.dispatch()
    assert order.attempt_key == f"{outcome.run_id}/one/1"
    assert (await rig.detail(outcome.run_id)).attempts[0].state is AttemptState.DISPATCHED
    await host.finish(order.attempt_key, finished(rows_affected=5, extras_json=b'{"a":1}'))
    detail = await rig.detail(outcome.run_id)
    assert (detail.run.state, detail.run.rows_affected) == (RunState.SUCCEEDED, 5)
    assert (detail.attempts[0].extras_json, detail.attempts[0].worker_pid) == (b'{"a":1}', 77)
    kinds = [event.kind for event in await rig.events(outcome.run_id)]
    assert kinds == [
        "run.queued",
        "run.started",
        "attempt.dispatched",
        "attempt.started",
        "attempt.finished",
        "run.finished",
    ]


async def test_dispatch_is_committed_before_it_is_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders and answers wait for the commit; the store then knows instance and epoch."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    apply, asked, go = rig.store.apply, asyncio.Event(), asyncio.Event()

    async def held(*args: Any, **kwargs: Any) -> ApplyResult:
        asked.set()
        await go.wait()
        return await apply(*args, **kwargs)

    monkeypatch.setattr(rig.store, "apply", held)
    triggered = asyncio.ensure_future(rig.trigger("a"))
    await asked.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    before = list(host.orders), triggered.done()
    go.set()
    assert before == ([], False)
    order = await host.dispatch()
    attempt = (await rig.detail(order.run_id)).attempts[0]
    assert (attempt.incarnation, attempt.epoch) == (host.incarnation, order.epoch)
    assert (await triggered).run_id == order.run_id


async def test_steps_follow_each_other_and_see_what_came_before(rig: Rig) -> None:
    """The second step is dispatched after the first, with its rows and extras, and rows are summed."""
    rig.jobs.add(job("a", step("one"), step("two"), step("three")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch(1)).attempt_key, finished(rows_affected=2, extras_json=b'{"x":1}'))
    second = await host.dispatch(2)
    assert second.step == "two"
    assert opened(second).prev_rows_affected == 2
    assert json.loads(opened(second).previous_steps_json) == [
        {"name": "one", "state": "SUCCEEDED", "rows_affected": 2, "extras": {"x": 1}}
    ]
    await host.finish(second.attempt_key)
    third = await host.dispatch(3)
    assert [each["rows_affected"] for each in json.loads(opened(third).previous_steps_json)] == [2, None]
    await host.finish(third.attempt_key, finished(rows_affected=3))
    detail = await rig.detail(run_id)
    assert (detail.run.state, detail.run.rows_affected) == (RunState.SUCCEEDED, 5)


async def test_a_sum_of_rows_stays_within_what_can_be_stored(rig: Rig) -> None:
    """Two steps that each report the greatest count end the run, and not the kernel."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    outcome = await rig.trigger("a")
    for count in (1, 2):
        order = await host.dispatch(count)
        await host.finish(order.attempt_key, finished(rows_affected=2**63 - 1))
    detail = await rig.detail(outcome.run_id)
    assert (detail.run.state, detail.run.rows_affected) == (RunState.SUCCEEDED, 2**63 - 1)


async def test_failure_skips_the_rest(rig: Rig) -> None:
    """The steps after a failure are SKIPPED with the reason, and the run is FAILED with the step's."""
    rig.jobs.add(job("a", step("one"), step("two")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed(error="ValueError: no"))
    detail = await rig.detail(run_id)
    assert (detail.run.state, detail.run.error) == (RunState.FAILED, "ValueError: no")
    assert detail.run.reason is not None
    assert detail.run.reason.code == "step_failed"
    skipped = detail.attempts[1]
    assert skipped.state is AttemptState.SKIPPED
    assert skipped.reason is not None
    assert skipped.reason.code == "earlier_step_failed"


async def test_step_cancelled_ends_the_run_canceled_without_a_retry(rig: Rig) -> None:
    """StepCancelled ends attempt and run CANCELED, though a retry policy is there."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=3)))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, canceled("step_cancelled"))
    detail = await rig.detail(run_id)
    assert (detail.run.state, len(detail.attempts)) == (RunState.CANCELED, 1)
    assert detail.run.reason is not None
    assert detail.run.reason.code == "step_cancelled"


async def test_disabled_steps_are_skipped(rig: Rig) -> None:
    """A step switched off in the job or for the run is SKIPPED "disabled"; all off is SUCCEEDED at once."""
    rig.jobs.add(job("a", step("one", enabled=False), step("two"), step("three")))
    host = await rig.host()
    run_id = (await rig.trigger("a", switches={"three": False})).run_id
    order = await host.dispatch()
    assert order.step == "two"
    await host.finish(order.attempt_key)
    detail = await rig.detail(run_id)
    assert [attempt.state for attempt in detail.attempts] == ["SKIPPED", "SUCCEEDED", "SKIPPED"]
    assert detail.attempts[2].reason is not None
    assert detail.attempts[2].reason.code == "disabled"
    nothing = await rig.trigger("a", switches={"two": False, "three": False})
    await rig.settle()
    assert await rig.state(nothing.run_id) is RunState.SUCCEEDED


async def test_retry_waits_its_delay_and_counts(rig: Rig) -> None:
    """A failure opens a PENDING attempt that is dispatched after the back-off; the last failure fails the run."""
    policy = RetryPolicy(attempts=2, backoff=Backoff.FIXED, base_seconds=30, jitter=0)
    rig.jobs.add(job("a", retry=policy))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    pending = (await rig.detail(run_id)).attempts[-1]
    assert (pending.attempt, pending.state) == (2, AttemptState.PENDING)
    await rig.advance(29)
    assert len(host.orders) == 1
    await rig.advance(2)
    second = await host.dispatch(2)
    assert opened(second).attempt == 2
    await host.finish(second.attempt_key, failed())
    detail = await rig.detail(run_id)
    assert (detail.run.state, len(detail.attempts)) == (RunState.FAILED, 2)


async def test_retry_looks_at_the_exception(rig: Rig) -> None:
    """An exception outside retry_on is not retried."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=5, retry_on=("ConnectionError",))))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed("step_failed", "builtins.ValueError"))
    assert await rig.state(run_id) is RunState.FAILED


async def test_a_refused_dispatch_uses_up_no_attempt(rig: Rig) -> None:
    """host_refused is not the code's failure: a new attempt follows though the policy allows one try."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    refused = failed("host_refused")
    await host.report((await host.dispatch()).attempt_key, refused)
    await rig.advance(1)
    await host.finish((await host.dispatch(2)).attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_a_host_that_goes_on_refusing_is_asked_ever_more_seldom(rig: Rig) -> None:
    """Each refusal is a row of the history: minutes of them make a few; it is asked again all the while."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    answered = 0
    for _ in range(300):
        await rig.advance(1)
        if len(host.orders) > answered:
            answered = len(host.orders)
            await host.report((await host.dispatch(answered)).attempt_key, failed("host_refused"))
    assert 10 < len((await rig.detail(run_id)).attempts) < 20
    await rig.advance(30)
    await host.finish((await host.dispatch(len(host.orders))).attempt_key)
    assert await rig.state(run_id) is RunState.SUCCEEDED


async def test_layers_lie_in_their_order(rig: Rig) -> None:
    """job.params < step.op_kwargs < preset < run params < run op_kwargs; op_kwargs keys are strict."""
    preset = PresetDefinition(name="p", params={"c": "preset"}, op_kwargs={"one": {"d": "preset"}}, log_level="DEBUG")
    rig.jobs.add(
        job(
            "a",
            step("one", op_kwargs={"b": "step", "c": "step", "d": "step", "e": "step"}),
            params={"a": "job", "b": "job"},
            presets=(preset,),
        )
    )
    host = await rig.host()
    await rig.trigger("a", preset="p", params={"d": "run"}, op_kwargs={"one": {"e": "op"}})
    order = await host.dispatch()
    assert json.loads(opened(order).kwargs_json) == {"a": "job", "b": "step", "c": "preset", "d": "run", "e": "op"}
    assert set(opened(order).strict_keys) == {"b", "c", "d", "e"}
    assert json.loads(opened(order).params_json) == {"a": "job", "b": "job", "c": "preset", "d": "run"}
    assert opened(order).log_level == "DEBUG"


async def test_a_removed_job_is_unknown_as_it_is_after_a_restart(rig: Rig) -> None:
    """The answer is one for programs; to people it says more while the kernel still knows who had the job."""
    rig.jobs.add(job("alpha"))
    rig.jobs.removed.add("alpha")
    with pytest.raises(KernelError, match="no job has the id 'alpha': host 'demo' no longer has it") as removed:
        await rig.trigger("alpha")
    rig.jobs.definitions.clear()
    with pytest.raises(KernelError) as unknown:
        await rig.trigger("alpha")
    assert removed.value.reason == unknown.value.reason == "JOB_NOT_FOUND"


async def test_refusals_name_what_is_wrong(rig: Rig) -> None:
    """Unknown job, preset and step, a malformed job and an unusable param are refused, with what is near."""
    rig.jobs.add(job("alpha", step("load")))
    with pytest.raises(UnknownJob, match="no job has the id 'alpah'"):
        await rig.trigger("alpah")
    with pytest.raises(BadRequest, match="no preset 'x'"):
        await rig.trigger("alpha", preset="x")
    with pytest.raises(BadRequest, match="did you mean 'load'"):
        await rig.trigger("alpha", op_kwargs={"laod": {}})
    rig.jobs.invalid["alpha"] = "cron expression is wrong"
    with pytest.raises(JobUnavailable, match="cron expression is wrong"):
        await rig.trigger("alpha")
    rig.jobs.invalid.clear()
    rig.jobs.offer_all()
    with pytest.raises(BadRequest, match="no enabled step takes the param 'q'"):
        await rig.trigger("alpha", params={"q": 1})


async def test_request_id_is_one_run(rig: Rig) -> None:
    """The same request id answers with the same run, before and after a restart; another request is refused."""
    rig.jobs.add(job("a", overlap="allow"))
    first = await rig.trigger("a", request_id="r1", request_hash="h1")
    again = await rig.trigger("a", request_id="r1", request_hash="h1")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    with pytest.raises(RequestIdReused):
        await rig.trigger("a", request_id="r1", request_hash="h2")
    await rig.restart()
    host = await rig.host()
    again = await rig.trigger("a", request_id="r1", request_hash="h1")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    with pytest.raises(RequestIdReused):
        await rig.trigger("a", request_id="r1", request_hash="h2")
    await host.finish((await host.dispatch()).attempt_key)
    await rig.settle()
    assert len(host.orders) == 1, "the refused duplicates must not be dispatched"
    assert roomiest(host.rig.engine._state.fleet, "demo", exclusive=False).free(exclusive=False) == 10


async def test_slots_bound_what_is_dispatched(rig: Rig) -> None:
    """Sync callables and exclusive steps use max_sync, async ones max_async; what is over waits QUEUED."""
    rig.jobs.callables["m:slow"] = {"kind": "sync"}
    rig.jobs.add(job("a", step("slow"), overlap="allow"))
    rig.jobs.add(job("b", step("quick", isolation=IsolationChoice.EXCLUSIVE), overlap="allow"))
    rig.jobs.add(job("c", step("quick"), overlap="allow"))
    host = await rig.host(max_async=1, max_sync=2)
    runs = [(await rig.trigger(name)).run_id for name in ("a", "b", "a", "c", "c")]
    await rig.settle()
    assert [opened(order).job_id for order in host.orders] == ["a", "b", "c"]
    assert await rig.state(runs[2]) is RunState.QUEUED
    reason = rig.engine.holdup(runs[2])
    assert reason is not None
    assert reason.code == "waiting_for_slot"
    await host.finish(host.orders[0].attempt_key)
    await rig.settle()
    assert host.orders[3].run_id == runs[2]


async def test_runs_wait_for_their_host(rig: Rig) -> None:
    """A run without an instance is QUEUED with the reason, and starts when one attaches."""
    rig.jobs.add(job("a"))
    run_id = (await rig.trigger("a")).run_id
    reason = rig.engine.holdup(run_id)
    assert reason is not None
    assert reason.code == "waiting_for_host"
    assert rig.engine.why_not_running("a") == "no instance of host 'demo' takes work"
    host = await rig.host()
    assert (await host.dispatch()).run_id == run_id


async def test_jobs_take_turns_and_priority_goes_first(rig: Rig) -> None:
    """Many runs of one job do not hold up another job, and a higher priority overtakes both."""
    for name, priority in (("a", 0), ("b", 0), ("z", 5)):
        rig.jobs.add(job(name, overlap="allow", priority=priority))
    for name in ("a", "a", "a", "b", "z"):
        await rig.trigger(name)
    host = await rig.host(max_async=1)
    seen = []
    for count in range(1, 6):
        order = await host.dispatch(count)
        seen.append(opened(order).job_id)
        await host.finish(order.attempt_key)
    assert seen == ["z", "a", "b", "a", "a"]


async def test_max_parallel_bounds_a_job(rig: Rig) -> None:
    """A job's runs at one time never exceed max_parallel."""
    rig.jobs.add(job("a", overlap="allow", max_parallel=2))
    host = await rig.host()
    for _ in range(4):
        await rig.trigger("a")
    for count in (2, 3):  # the run that goes on counts when another one has ended
        await rig.settle()
        assert len(host.orders) == count
        await host.finish(host.orders[count - 2].attempt_key)
    await host.dispatch(4)


async def test_step_and_job_timeouts_reach_the_host(rig: Rig) -> None:
    """The nearer of step timeout and what is left of the job's is the attempt's limit."""
    rig.jobs.add(job("a", step("one", timeout_seconds=5), step("two", timeout_seconds=50), timeout_seconds=20))
    host = await rig.host()
    await rig.trigger("a")
    first = await host.dispatch()
    assert (first.timeout_ms, first.timeout_kind) == (5000, TimeoutKind.STEP)
    await rig.advance(1.5)
    await host.finish(first.attempt_key)
    second = await host.dispatch(2)
    assert (second.timeout_ms, second.timeout_kind) == (18_500, TimeoutKind.JOB)


async def test_job_timeout_is_not_retried_and_ends_a_backoff(rig: Rig) -> None:
    """A job timeout fails the run, whether the host reports it or it strikes during a back-off."""
    policy = RetryPolicy(attempts=9, base_seconds=100, jitter=0)
    rig.jobs.add(job("a", retry=policy, timeout_seconds=10, overlap="allow"))
    host = await rig.host()
    reported = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed("job_timed_out"))
    assert await rig.state(reported) is RunState.FAILED
    waiting = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch(2)).attempt_key, failed())
    await rig.advance(11)
    detail = await rig.detail(waiting)
    assert detail.run.state is RunState.FAILED
    assert detail.run.reason is not None
    assert detail.run.reason.code == "job_timed_out"


async def test_a_job_timeout_holds_where_the_host_says_late_how_its_attempt_ended(rig: Rig) -> None:
    """A job's timeout ends the wait for the next try or a called run, even if the host reports late."""
    policy = RetryPolicy(attempts=3, base_seconds=1000.0, max_seconds=1000.0)
    child = step("call", type="call_job", callable="", target_job_id="b")
    rig.jobs.add(job("a", step("one", retry=policy), child, timeout_seconds=5.0, overlap="allow"), job("b"))
    host = await rig.host()
    runs = [(await rig.trigger("a")).run_id for _ in range(2)]
    keys = [(await host.dispatch(number)).attempt_key for number in (1, 2)]
    for key in keys:
        await host.start(key)
    for _ in range(7):
        await rig.advance(1.0)
    await host.report(keys[0], failed(), first_seq=2)
    await host.report(keys[1], finished(), first_seq=2)
    called = (await host.dispatch(3)).attempt_key
    for _ in range(3):
        await rig.advance(1.0)
    await host.order(4)
    await host.report(called, canceled("canceled_by_parent"))
    for run_id in runs:
        run = (await rig.detail(run_id)).run
        assert (run.state, run.reason and run.reason.code) == (RunState.FAILED, "job_timed_out")


async def test_progress_is_kept(rig: Rig) -> None:
    """The newest progress is on the attempt and in an event, with a total or without."""
    from nomaflow_api.v1.letters import Progress

    rig.jobs.add(job("a"))
    host = await rig.host()
    await rig.trigger("a")
    order = await host.dispatch()
    for number, total in enumerate((None, 2.0)):
        progress = Progress(at_us=1, done=1.0, total=total, message="half")
        await host.report(order.attempt_key, started(), progress, first_seq=1 + 2 * number)
        attempt = (await rig.detail(order.run_id)).attempts[0]
        assert json.loads(attempt.progress_json) == {"done": 1.0, "total": total, "message": "half", "at_us": 1}
    assert "attempt.progress" in [event.kind for event in await rig.events(order.run_id)]
