"""Inspecting an attempt: the question goes to its instance, and whatever comes back is bounded and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from rpc_histories import finish
from rpc_world import INSTANCE, RUN_ID, PlayedHost, World, queue_run

from nomaflow.client.values import InspectionView
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.attempt_inspection_pb2 import (
    InspectAttemptRequest,
    InspectAttemptResponse,
    InspectedProcess,
    ThreadStack,
)
from nomaflow_api.v1.message_codec import decode
from nomaflow_kernel.history.records import AttemptRecord
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import OpenAttempt, StartRun
from nomaflow_kernel.rpc import inspect_calls


class InspectedHost(PlayedHost):
    """One instance on a real session, which answers questions about attempts as the test says."""

    def __init__(self, world: World) -> None:
        super().__init__(world, self._reply)
        self.asked: list[str] = []
        self.answer: InspectAttemptResponse | None = InspectAttemptResponse()
        self.found = True
        self.silent = False

    def _reply(self, command: gateway.Command) -> gateway.AttachRequest | None:
        self.asked.append(command.inspect.attempt_key)
        if self.silent:
            return None
        result = gateway.InspectResult(command_seq=command.command_seq, found=self.found, response=self.answer)
        return gateway.AttachRequest(inspect_result=result)


@pytest.fixture
async def host(world: World) -> AsyncIterator[InspectedHost]:
    """A host that is attached."""
    played = InspectedHost(world)
    await played.attach(heartbeat={"generation": 1})
    yield played
    await played.leave()


async def running(world: World, **fields: Any) -> None:
    """Commit a run whose attempt the instance runs."""
    told = {"state": AttemptState.RUNNING, "host": "team", "incarnation": INSTANCE, **fields}
    attempt = AttemptRecord(run_id=RUN_ID, step_index=0, step="a", attempt=1, **told)
    await world.apply(
        queue_run(),
        StartRun(run_id=RUN_ID, job_id="job", at_us=1),
        OpenAttempt(job_id="job", attempt=attempt),
    )


async def inspect(world: World, **query: Any) -> InspectionView:
    """Return what a client is told."""
    reply = await world.client.InspectAttempt(InspectAttemptRequest(run_id=RUN_ID, **query), timeout=15)
    return decode(InspectionView, reply)


async def refusal(world: World, **query: Any) -> str:
    """Return the status and text of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await inspect(world, **query)
    return f"{refused.value.code().name}: {refused.value.details()}"


async def test_what_the_host_sees_is_told(world: World, host: InspectedHost) -> None:
    """With the names of attempt and host, which the kernel knows better."""
    await running(world)
    host.answer = InspectAttemptResponse(
        attempt_key="another",
        processes=[InspectedProcess(pid=7, ppid=1, state="S", rss_bytes=5, cpu_seconds=1.5, command="python -m x")],
        stacks=[ThreadStack(name="t", frames=["a.py:1 f", "a.py:2 g"], of_attempt=True)],
        note="n",
    )
    for query in ({}, {"step": "a"}, {"attempt": 1}):
        seen = await inspect(world, **query)
        assert (seen.attempt_key, seen.host, seen.note) == (f"{RUN_ID}/a/1", "team", "n")
        assert seen.processes[0].command == "python -m x"
        assert seen.stacks[0].frames == ("a.py:1 f", "a.py:2 g")
        assert seen.seen_at is not None
    assert host.asked == [f"{RUN_ID}/a/1"] * 3


async def test_an_answer_without_bounds_is_cut(world: World, host: InspectedHost) -> None:
    """A host may send anything; the innermost frames are the ones that are kept."""
    await running(world)
    frames = [f"f{number}" for number in range(200)]
    host.answer = InspectAttemptResponse(
        processes=[InspectedProcess(pid=1, command="c" * 5_000, state="s" * 50)] * 300,
        stacks=[ThreadStack(name="n" * 5_000, frames=frames)] * 150,
        note="n" * 5_000,
    )
    host.answer.seen_at.seconds = 2**60
    seen = await inspect(world)
    assert (len(seen.processes), len(seen.stacks), len(seen.note)) == (100, 100, 500)
    assert (len(seen.processes[0].command), len(seen.stacks[0].name)) == (500, 500)
    assert seen.stacks[0].frames == tuple(frames[-60:])


async def test_a_host_that_does_not_answer_is_told(
    world: World, host: InspectedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes in time, and says so."""
    monkeypatch.setattr(inspect_calls, "_ANSWER_SECONDS", 0.1)
    await running(world)
    host.silent = True
    seen = await inspect(world)
    assert "host 'team' did not answer within 0.1 s" in seen.note
    assert seen.attempt_key == f"{RUN_ID}/a/1"


async def test_what_does_not_run_is_refused_with_why(world: World, host: InspectedHost) -> None:
    """A step that there is not, one that waits, one that ended, and one that its host knows nothing of."""
    await running(world)
    host.found = False
    assert "has ended, or has not arrived yet" in await refusal(world)
    assert (await refusal(world, attempt=9)).startswith("FAILED_PRECONDITION: nothing of run")
    assert (await refusal(world, step="b")).startswith("INVALID_ARGUMENT")
    await world.apply(finish())
    assert len(host.asked) == 1


async def test_an_attempt_of_an_instance_that_is_away_is_refused(world: World) -> None:
    """The call is refused without asking any instance."""
    await running(world)
    assert "no instance of host 'team' is attached" in await refusal(world)


async def test_a_step_that_calls_a_job_names_the_run_to_look_at(world: World, host: InspectedHost) -> None:
    """Such a step runs in no host: the refusal names the called run."""
    await running(world, child_run_id="run_" + "2" * 26, host="", incarnation="")
    assert "waits for run run_2222" in await refusal(world)
    assert host.asked == []


async def test_a_step_that_has_called_a_job_waits_for_nothing(world: World, host: InspectedHost) -> None:
    """Once such a step has ended, the refusal says so instead of sending the caller on to the called run."""
    await running(world, state=AttemptState.SUCCEEDED, child_run_id="run_" + "2" * 26, host="", incarnation="")
    assert "try 1 of step 'a' is SUCCEEDED" in await refusal(world)
