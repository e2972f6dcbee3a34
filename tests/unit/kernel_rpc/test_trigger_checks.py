"""Waits and checks of a trigger before the engine sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from msgspec.structs import replace
from rpc_world import RUN_ID, PlayedHost, World, queue_run

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.letters import ValueProblem
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_api.v1.sealing import open_checked_steps, seal
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.engine.commands import Draft, TriggerCommand
from nomaflow_kernel.engine.run_plan import plan_run
from nomaflow_kernel.rpc import trigger_checks
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.load import load_job_files
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.reading.files import JobFile
from waiting import eventually

JOB = {
    "jobs": [
        {
            "id": "job",
            "steps": [
                {"name": "first", "callable": "m:first"},
                {"name": "second", "callable": "m:second", "op_kwargs": {"rows": 1}},
                {"name": "off", "callable": "m:off", "enabled": False},
                {"name": "call", "type": "call_job", "job": "other"},
            ],
        }
    ]
}


def _definition() -> JobDefinition:
    load = load_job_files([JobFile(path="jobs.toml", tree=JOB, error=None)], host="team")
    definition = load.jobs[0].definition
    assert definition is not None
    return definition


class CheckingHost(PlayedHost):
    """One instance on a real session, which answers checks as the test says."""

    def __init__(self, world: World) -> None:
        super().__init__(world, self._reply)
        self.asked: list[gateway.CheckCommand] = []
        self.answer: gateway.CheckResult | None = gateway.CheckResult(settled=True, checked=True)

    def _reply(self, command: gateway.Command) -> gateway.AttachRequest | None:
        self.asked.append(command.check)
        if self.answer is None:
            return None
        result = gateway.CheckResult()
        result.CopyFrom(self.answer)
        result.command_seq = command.command_seq
        return gateway.AttachRequest(check_result=result)


@pytest.fixture
async def host(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CheckingHost]:
    """A host that is not attached yet, and an engine that knows one job of it."""
    definition = _definition()
    job = Job(loaded=LoadedJob(job_id="job", host="team", definition=definition))

    async def draft(command: TriggerCommand) -> TriggerCommand:
        return replace(
            command,
            draft=Draft(
                job=job,
                job_id="job",
                host="team",
                definition=definition,
                digest="",
                definition_json="",
                request=command.request,
                plan=plan_run(definition, command.request),
            ),
        )

    monkeypatch.setattr(world.engine, "draft", draft)
    monkeypatch.setattr(world.catalogue, "job", lambda job_id: job if job_id == "job" else None)
    played = CheckingHost(world)
    yield played
    await played.leave()


async def test_only_given_values_of_steps_that_run_are_asked_about(world: World, host: CheckingHost) -> None:
    """A disabled step or a call is left out; without values no host is asked."""
    await host.attach(heartbeat={"generation": 1})
    await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="job"))
    assert host.asked == []
    request = kernel.TriggerRunRequest(
        job_id="job",
        params_json=b'{"since": 1}',
        step_values=[run_pb2.StepValues(step="second", op_kwargs_json=b'{"rows": 2}')],
    )
    await world.client.TriggerRun(request)
    (asked,) = host.asked
    assert not asked.settle
    assert [(each.step, list(each.given_keys), list(each.strict_keys)) for each in open_checked_steps(asked.steps)] == [
        ("first", ["since"], []),
        ("second", ["since", "rows"], ["rows"]),
    ]
    assert len(world.engine.triggers) == 2


async def test_a_refusal_names_every_value_with_its_field(world: World, host: CheckingHost) -> None:
    """One field names the param that two steps refuse; the engine does not see the trigger."""
    await host.attach(heartbeat={"generation": 1})
    host.answer = gateway.CheckResult(
        settled=True,
        checked=True,
        problems=seal(
            [
                ValueProblem(step="first", key="since", message="no date"),
                ValueProblem(step="second", key="since", message="no day"),
                ValueProblem(step="second", key="rows", message="too few"),
            ]
        ),
    )
    request = kernel.TriggerRunRequest(
        job_id="job",
        params_json=b'{"since": 1}',
        step_values=[run_pb2.StepValues(step="second", op_kwargs_json=b'{"rows": 2}')],
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.TriggerRun(request)
    fields = {"params_json.since": "no date", "step_values.second.op_kwargs_json.rows": "too few"}
    told = read_details(caught.value.trailing_metadata())
    assert (caught.value.code(), told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALUE_INVALID")
    assert (told.fields, told.retry_seconds) == (fields, None)
    assert world.engine.triggers == []


async def test_a_repeat_is_admitted_whatever_the_check_says(world: World, host: CheckingHost) -> None:
    """A request id that the store knows is the engine's to answer."""
    await host.attach(heartbeat={"generation": 1})
    run = queue_run()
    await world.apply(type(run)(run=_with_request(run.run, "once"), definition_json=run.definition_json))
    host.answer = gateway.CheckResult(
        settled=True,
        checked=True,
        problems=seal([ValueProblem(step="first", key="since", message="no date")]),
    )
    request = kernel.TriggerRunRequest(job_id="job", request_id="once", params_json=b'{"since": 1}')
    assert (await world.client.TriggerRun(request)).run_id == RUN_ID
    request.request_id = "twice"
    with pytest.raises(grpc.aio.AioRpcError):
        await world.client.TriggerRun(request)


def _with_request(run: Any, request_id: str) -> Any:

    return replace(run, request_id=request_id)


@pytest.mark.parametrize("answer", [None, gateway.CheckResult(settled=True, checked=False)])
async def test_a_check_that_cannot_be_had_is_a_warning(
    world: World, host: CheckingHost, answer: gateway.CheckResult | None
) -> None:
    """If a host cannot check the values, or does not answer, the run starts with a warning."""
    await host.attach(heartbeat={"generation": 1})
    host.answer = answer
    reply = await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="job", params_json=b'{"since": 1}'))
    assert reply.run_id == RUN_ID
    assert "not checked" in reply.warnings[0]


async def test_a_run_waits_for_its_host_with_values_that_nobody_has_checked(world: World, host: CheckingHost) -> None:
    """It starts without a warning, as each step checks its values; only who validates is told."""
    request = kernel.TriggerRunRequest(job_id="job", params_json=b'{"since": 1}')
    reply = await world.client.TriggerRun(request)
    assert (reply.run_id, list(reply.warnings)) == (RUN_ID, [])
    request.validate_only = True
    (warning,) = (await world.client.TriggerRun(request)).warnings
    assert "the values were not checked: no instance of host 'team' has code loaded" in warning


async def test_no_more_values_are_checked_than_fit_into_a_message(
    world: World, host: CheckingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step gets all params: with a hundred steps, gRPC ended the host's session for the size of one check."""
    await host.attach(heartbeat={"generation": 1})
    monkeypatch.setattr(trigger_checks, "VALUES_BYTES", 50)
    reply = await world.client.TriggerRun(
        kernel.TriggerRunRequest(job_id="job", params_json=b'{"since": "%s"}' % (b"x" * 60))
    )
    assert [each.step for each in open_checked_steps(host.asked[0].steps)] == ["first"]
    (warning,) = reply.warnings
    assert warning.startswith("the values of 1 of 2 steps were checked: together they are too large; each step checks")


async def test_a_host_that_watches_settles_first(world: World, host: CheckingHost) -> None:
    """A trigger asks a host that watches to finish what is due; where that takes too long, it says so."""
    await host.attach(heartbeat={"generation": 1}, watching=True)
    await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="job"))
    assert [(each.settle, len(each.steps)) for each in host.asked] == [(True, 0)]
    host.answer = gateway.CheckResult(settled=False, checked=True)
    reply = await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="job"))
    assert "still loading the saved files" in reply.warnings[0]


async def test_an_unknown_job_waits_for_hosts_that_load(world: World, host: CheckingHost) -> None:
    """A job may still come while a host loads; once the load has failed, the engine gives the answer."""
    await host.attach(heartbeat={"loading": True})
    request = kernel.TriggerRunRequest(job_id="unknown")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.TriggerRun(request)
    told = read_details(caught.value.trailing_metadata())
    assert (caught.value.code(), told.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_LOADING")
    assert (told.fields, told.retry_seconds) == ({}, 1.0)
    assert "host 'team' is still loading" in caught.value.details()
    assert (await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="job"))).run_id == RUN_ID
    waiting = asyncio.ensure_future(world.client.TriggerRun(request))
    await asyncio.sleep(0)
    host.beat(loading=False, generation=0)
    assert (await waiting).run_id == RUN_ID


async def test_a_host_that_is_expected_counts_as_loading(world: World, host: CheckingHost) -> None:
    """A kernel that expects a host waits for it until one has loaded: it may break off before that, and come again."""
    world.sessions.expect_host(30)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="unknown"))
    assert "a host that is being started is still loading" in caught.value.details()
    await host.attach(heartbeat={"loading": True})
    await host.leave()
    await eventually(lambda: not world.sessions.hosts())
    with pytest.raises(grpc.aio.AioRpcError, match="a host that is being started is still loading"):
        await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="unknown"))
    await host.attach(heartbeat={"generation": 1})
    assert (await world.client.TriggerRun(kernel.TriggerRunRequest(job_id="unknown"))).run_id == RUN_ID


async def test_a_batch_is_validated_and_triggered_item_by_item(world: World, host: CheckingHost) -> None:
    """An item that only validates makes no run, and one that is refused leaves the others alone."""
    await host.attach(heartbeat={"generation": 1})
    reply = await world.client.TriggerRuns(
        kernel.TriggerRunsRequest(
            requests=[
                kernel.TriggerRunRequest(job_id="job", params_json=b'{"since": 1}', validate_only=True),
                kernel.TriggerRunRequest(job_id="no job!"),
                kernel.TriggerRunRequest(job_id="job", params_json=b'{"since": 1}'),
            ]
        )
    )
    told = [(item.WhichOneof("outcome"), item.response.run_id) for item in reply.items]
    assert told == [("response", ""), ("status", ""), ("response", RUN_ID)]
    assert len(world.engine.triggers) == 1


async def test_validating_tells_what_each_step_would_get(world: World, host: CheckingHost) -> None:
    """Merged from all layers, references as written; steps that are off are left out, a batch has none."""
    await host.attach(heartbeat={"generation": 1})
    request = kernel.TriggerRunRequest(
        job_id="job", params_json=b'{"since":"${DAY}"}', validate_only=True,
        step_values=[run_pb2.StepValues(step="second", op_kwargs_json=b'{"rows":2}')],
    )  # fmt: skip
    reply = await world.client.TriggerRun(request)
    assert {each.step: json.loads(each.op_kwargs_json) for each in reply.steps} == {
        "first": {"since": "${DAY}"}, "second": {"rows": 2, "since": "${DAY}"}, "call": {},
    }  # fmt: skip
    batch = await world.client.TriggerRuns(kernel.TriggerRunsRequest(requests=[request]))
    assert list(batch.items[0].response.steps) == []
    assert world.engine.triggers == []


async def test_a_replay_is_validated_too(world: World, host: CheckingHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no run, and tells values and warnings; a value that its callable would refuse is refused."""
    await host.attach(heartbeat={"generation": 1})
    monkeypatch.setattr(world.engine, "warnings_of", lambda drafted: ("it is old",))
    await world.queue_run()
    request = kernel.ReplayRunRequest(run_id=RUN_ID, params_json=b'{"since":1}', validate_only=True)
    reply = await world.client.ReplayRun(request)
    assert (reply.run_id, list(reply.warnings)) == ("", ["it is old"])
    assert [each.step for each in reply.steps] == ["first", "second", "call"]
    problem = ValueProblem(step="first", key="since", message="no")
    host.answer = gateway.CheckResult(checked=True, problems=seal([problem]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.client.ReplayRun(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert world.engine.triggers == []
