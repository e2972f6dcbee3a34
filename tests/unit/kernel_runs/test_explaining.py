"""The reason that a RUNNING run shows when it does not progress."""

from __future__ import annotations

import pytest
from rig import Rig, failed, job, step

from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.access.principals import OWNER, Caller
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.messages import run_detail_message
from nomaflow_kernel.rpc.shown_runs import ShownRuns
from nomaflow_project.jobs.retry_policy import Backoff, RetryPolicy


def why(rig: Rig, run_id: str) -> tuple[str, str]:
    """Return code and sentence of what holds a run up, both empty where nothing does."""
    reason = rig.engine.holdup(run_id)
    return (reason.code, reason.message) if reason is not None else ("", "")


def fix(rig: Rig, run_id: str) -> str:
    """Return the way out of what holds a run up."""
    reason = rig.engine.holdup(run_id)
    assert reason is not None
    return reason.fix


@pytest.mark.parametrize(
    ("scope", "name", "command"),
    [
        ("all", "", "nomaflow resume"),
        ("host", "demo", "nomaflow resume --host demo"),
        ("job", "a b", "nomaflow resume 'a b'"),
    ],
)
async def test_a_pause_names_the_command_that_ends_it(rig: Rig, scope: str, name: str, command: str) -> None:
    """With the name of what is paused, as a shell takes it."""
    rig.jobs.add(job("a b"))
    await rig.engine.set_pause(PauseRecord(scope=scope, name=name, by="", why="", since_us=0, until_us=None))
    assert fix(rig, (await rig.trigger("a b")).run_id) == command


async def test_a_run_whose_host_is_silent_says_so_until_it_is_back(rig: Rig) -> None:
    """A run with a live host has no reason; past the lease the silence is named with its length, until it ends."""
    rig.jobs.add(job("a"))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    await host.start((await host.dispatch()).attempt_key)
    assert why(rig, run_id) == ("", "")
    host.silent = True
    await rig.advance(3)
    code, sentence = why(rig, run_id)
    assert code == "host_silent"
    assert "the process of host 'demo' that runs step 'one' has been silent for 3 s" in sentence
    rig.clock.advance(240)
    assert "silent for 4 min 03 s" in why(rig, run_id)[1]
    rig.clock.advance(7200)
    assert "silent for 2 h 04 min" in why(rig, run_id)[1]
    host.silent = False
    await rig.advance(0.1)
    assert why(rig, run_id) == ("", "")


async def test_a_run_between_two_attempts_says_what_it_waits_for(rig: Rig) -> None:
    """First for its back-off, then for the slot that another run has meanwhile."""
    policy = RetryPolicy(attempts=2, backoff=Backoff.FIXED, base_seconds=30, jitter=0)
    rig.jobs.add(job("a", retry=policy), job("b"))
    host = await rig.host(max_async=1)
    run_id = (await rig.trigger("a")).run_id
    await host.finish((await host.dispatch()).attempt_key, failed())
    await rig.trigger("b")
    await rig.advance(10)
    assert why(rig, run_id) == ("waiting_for_retry", "the next attempt of step 'one' starts in 20 s")
    await rig.advance(21)
    assert why(rig, run_id) == ("waiting_for_slot", "host 'demo' has no free slot")


async def test_a_reason_is_of_an_attempt_that_is_shown_beside_it(rig: Rig) -> None:
    """A run that was read before its attempt failed does not say that it waits for the next one, which it lacks."""
    rig.jobs.add(job("a", retry=RetryPolicy(attempts=2, backoff=Backoff.FIXED, base_seconds=30, jitter=0)))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    order = await host.dispatch()
    before = await rig.store.run_details([run_id])
    await host.finish(order.attempt_key, failed())
    after = await rig.store.run_details([run_id])
    assert [len(each.steps[0].attempts) for each in await _shown(rig, *before, *after)] == [1, 2]
    assert [each.reason.code for each in await _shown(rig, *before, *after)] == ["", "waiting_for_retry"]


async def _shown(rig: Rig, *details: RunDetail) -> list[run_pb2.Run]:
    return await ShownRuns(guard=Guard.blind(), engine=rig.engine).shown(
        map(run_detail_message, details), Caller(principal=OWNER, peer="")
    )


async def test_a_run_that_has_called_another_names_it(rig: Rig) -> None:
    """A call_job step waits for its child, which is named."""
    rig.jobs.add(job("parent", step("call", type="call_job", callable="", target_job_id="child")), job("child"))
    host = await rig.host()
    parent = (await rig.trigger("parent")).run_id
    child = (await host.dispatch()).run_id
    assert why(rig, parent) == ("waiting_for_call", f"{child} of job 'child' has not ended")
    assert fix(rig, parent) == f"nomaflow show {child}"
    assert why(rig, child) == ("", "")


async def test_a_job_whose_first_step_calls_another_waits_for_no_host(rig: Rig) -> None:
    """It could run although no host is there, and its page does not say otherwise."""
    rig.jobs.add(job("a", step("call", type="call_job", callable="", target_job_id="b"), host=""), job("b"))
    assert rig.engine.why_not_running("a") == ""
    assert rig.engine.why_not_running("b") == "no instance of host 'demo' takes work"
