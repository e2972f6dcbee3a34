"""Requests of clients: every form is checked, and the invalid field is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import grpc
import pytest
from rpc_world import RUN_ID, World

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.host_pb2 import Resources
from nomaflow_api.v1.reason_statuses import details_of, read_details, status_error
from nomaflow_kernel.access.principals import OWNER, Caller, Principal, PrincipalKind
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.history.records import TriggerKind
from nomaflow_kernel.rpc.decoding import decoded
from nomaflow_kernel.rpc.pages import page_start
from nomaflow_kernel.rpc.requests import replay_command, trigger_command

CALLER = Caller(principal=OWNER, peer="unix:")
Trigger = kernel.TriggerRunRequest
Values = run_pb2.StepValues


def deep(levels: int) -> bytes:
    """Return an object nested that deeply."""
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Trigger(job_id=""), "job_id"),
        (Trigger(job_id="../../etc/passwd"), "job_id"),
        (Trigger(job_id="a\u200b"), "job_id"),
        (Trigger(job_id="a\x00b"), "job_id"),
        (Trigger(job_id="a" * 129), "job_id"),
        (Trigger(job_id="'; DROP TABLE runs"), "job_id"),
        (Trigger(job_id="a", params_json=b"[1]"), "params_json"),
        (Trigger(job_id="a", params_json=b"{"), "params_json"),
        (Trigger(job_id="a", params_json=b"\xff"), "params_json"),
        (Trigger(job_id="a", params_json=b'{"x": NaN}'), "params_json.x"),
        (Trigger(job_id="a", params_json=b'{"x": 1e999}'), "params_json.x"),
        (Trigger(job_id="a", params_json=b'{"x": ' + b"9" * 5000 + b"}"), "params_json.x"),
        (Trigger(job_id="a", params_json=b'{"x": 1, "x": 2}'), "params_json"),
        (Trigger(job_id="a", params_json=deep(65)), "params_json"),
        (Trigger(job_id="a", params_json=deep(20_000)), "params_json"),
        (Trigger(job_id="a", params_json=b'{"x": {"$date": "soon"}}'), "params_json.x"),
        (Trigger(job_id="a", params_json=b'{"x": "' + b"y" * 262_144 + b'"}'), "params_json"),
        (Trigger(job_id="a", step_values=[Values(step="s", op_kwargs_json=b"1")]), "step_values.s.op_kwargs_json"),
        (Trigger(job_id="a", step_values=[Values(step="s"), Values(step="s")]), "step_values"),
        (Trigger(job_id="a", step_switches=[run_pb2.StepSwitch(step="")]), "step_switches"),
        (Trigger(job_id="a", preset="x" * 200), "preset"),
        (Trigger(job_id="a", log_level="LOUD"), "log_level"),
        (Trigger(job_id="a", trigger_kind=run_pb2.TRIGGER_KIND_CRON), "trigger_kind"),
        (Trigger(job_id="a", trigger_kind=77), "trigger_kind"),  # type: ignore[arg-type]  # a newer client's
        (Trigger(job_id="a", overlap=77), "overlap"),  # type: ignore[arg-type]  # likewise
        (Trigger(job_id="a", by="\x1b[2J"), "by"),
        (Trigger(job_id="a", request_id="é"), "request_id"),
        (Trigger(job_id="a", request_id="x" * 129), "request_id"),
        (Trigger(job_id="a", request_id="a\nb"), "request_id"),
    ],
)
def test_a_trigger_that_breaks_a_rule_names_the_field(request_: kernel.TriggerRunRequest, field: str) -> None:
    """A malformed trigger does not reach the engine."""
    with pytest.raises(BadRequest) as caught:
        trigger_command(request_, CALLER)
    assert next(iter(caught.value.fields)).startswith(field)
    assert "expected" in caught.value.message or "cannot be used" in caught.value.message


def test_a_good_trigger_becomes_a_command_with_everything_it_says() -> None:
    """Dates keep their tags, the caller's name fills in for a missing one."""
    command = trigger_command(
        Trigger(
            job_id="a",
            params_json=b'{"day": {"$date": "2026-01-31"}}',
            step_values=[Values(step="s", op_kwargs_json=b'{"n": 1}')],
            step_switches=[run_pb2.StepSwitch(step="t", enabled=False)],
            preset="p",
            log_level="DEBUG",
            trigger_kind=run_pb2.TRIGGER_KIND_CLI,
            overlap=run_pb2.OVERLAP_CHOICE_ALLOW,
            request_id="k",
        ),
        CALLER,
    )
    assert command.request.params == {"day": {"$date": "2026-01-31"}}
    assert command.request.op_kwargs == {"s": {"n": 1}}
    assert command.request.switches == {"t": False}
    assert (command.kind, command.by, command.request.allow_overlap) == (TriggerKind.CLI, "owner", True)


def test_the_hash_of_a_request_says_everything_but_its_id() -> None:
    """The same wish has one hash under any id; any other wish has another."""

    def hash_of(**fields: object) -> str:
        return trigger_command(Trigger(job_id="a", **{"request_id": "k", **fields}), CALLER).request_hash  # type: ignore[arg-type]  # fields of many types

    assert hash_of() == hash_of(request_id="other")
    others = {
        hash_of(params_json=b"{}"),
        hash_of(by="x"),
        hash_of(overlap=run_pb2.OVERLAP_CHOICE_ALLOW),
        hash_of(preset="p"),
    }
    assert len(others | {hash_of()}) == 5


def test_nobody_signs_with_another_name() -> None:
    """V9: whatever a caller writes into ``by`` is a note behind the name that his credential proves."""
    alice = Caller(principal=Principal(kind=PrincipalKind.USER, name="alice"), peer="ipv4:127.0.0.1:1")
    assert trigger_command(Trigger(job_id="a", by="root <ceo@corp>"), alice).by == "alice (for root <ceo@corp>)"
    assert trigger_command(Trigger(job_id="a", by="owner"), alice).by == "alice (for owner)"
    assert trigger_command(Trigger(job_id="a"), alice).by == "alice"
    assert replay_command(kernel.ReplayRunRequest(run_id=RUN_ID, by="bob"), alice).by == "alice (for bob)"


def test_request_ids_are_each_principals_own() -> None:
    """A principal cannot use up, or find out, the idempotency keys of another; the owner's stay as they are."""
    alice = Caller(principal=Principal(kind=PrincipalKind.USER, name="alice"), peer="ipv4:127.0.0.1:1")
    assert trigger_command(Trigger(job_id="a", request_id="k"), CALLER).request_id == "k"
    assert trigger_command(Trigger(job_id="a", request_id="k"), alice).request_id == "alice/k"
    assert trigger_command(Trigger(job_id="a"), alice).request_id == ""


def test_a_replay_starts_from_one_place() -> None:
    """A step and the failed step cannot both be asked for."""
    request = kernel.ReplayRunRequest(run_id=RUN_ID, from_step="s", from_failed_step=True)
    with pytest.raises(BadRequest, match="both set"):
        replay_command(request, CALLER)


@pytest.mark.parametrize("token", ["x", "====", "MXJ1bl8", "run_" + "0" * 25, "\u2603", "M" * 10_000])
def test_a_page_token_of_ones_own_making_is_refused(token: str) -> None:
    """Tokens are opaque, and only ours are taken."""
    with pytest.raises(BadRequest, match="page_token"):
        page_start(token)


def test_a_request_of_countless_parts_is_refused() -> None:
    """Some hundred kilobytes on the wire that would be megabytes in memory are refused as they are decoded."""
    trigger = kernel.TriggerRunRequest(step_values=[run_pb2.StepValues()] * 1_000)
    for request in (
        kernel.ReplayRunRequest(step_values=[run_pb2.StepValues()] * 100_001),
        kernel.ListRunsRequest(run_ids=[""] * 100_001),
        kernel.ListRunsRequest(states=[run_pb2.RUN_STATE_QUEUED] * 100_001),
        kernel.TriggerRunsRequest(requests=[trigger] * 101),
        gateway.AttachRequest(hello=gateway.Hello(has=Resources(labels={f"{n}": "" for n in range(100_001)}))),
    ):
        with pytest.raises(BadRequest, match="more than 100,000 messages and values"):
            decoded(type(request), request.SerializeToString())


@pytest.mark.parametrize(("steps", "size"), [(1, 3_000), (40, 20)])
def test_a_request_of_large_parts_is_read(steps: int, size: int) -> None:
    """A thousand triggers with values of a few kilobytes, or of many steps, are no more than 100,000 messages."""
    values = [run_pb2.StepValues(step="one", op_kwargs_json=b" " * size)] * steps
    many = kernel.TriggerRunsRequest(requests=[kernel.TriggerRunRequest(job_id="job", step_values=values)] * 1_000)
    assert decoded(kernel.TriggerRunsRequest, many.SerializeToString()) == many


def test_a_page_token_names_the_run_before_it() -> None:
    """The token of a list names the run before which the next page begins."""
    assert page_start(RUN_ID) == RUN_ID
    assert page_start("") == ""


@pytest.mark.parametrize(
    "call",
    [
        lambda client, bad: client.GetRun(kernel.GetRunRequest(run_id=bad), timeout=10),
        lambda client, bad: client.CancelRun(kernel.CancelRunRequest(run_id=bad), timeout=10),
        lambda client, bad: client.ReplayRun(kernel.ReplayRunRequest(run_id=bad), timeout=10),
        lambda client, bad: client.WatchRun(kernel.WatchRunRequest(run_id=bad), timeout=10).read(),
        lambda client, bad: client.ReadLogs(kernel.ReadLogsRequest(run_id=bad), timeout=10).read(),
    ],
)
async def test_a_run_id_of_another_form_is_refused_everywhere(world: World, call: Callable[..., object]) -> None:
    """Paths, SQL, wildcards and novels are no run ids; the answer carries the field."""
    for bad in ("../../etc/passwd", "'; DROP TABLE runs; --", "run_%", "x" * 10_000, "a\x00b"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(world.client, bad)  # type: ignore[misc]  # each lambda returns an awaitable
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(read_details(caught.value.trailing_metadata()).fields) == ["run_id"]


async def test_runs_that_do_not_exist_are_not_found(world: World) -> None:
    """A well-formed id of no run is NOT_FOUND, for calls and streams alike."""
    for awaitable in (
        world.client.GetRun(kernel.GetRunRequest(run_id=RUN_ID), timeout=10),
        world.client.WatchRun(kernel.WatchRunRequest(run_id=RUN_ID), timeout=10).read(),
        world.client.ReadLogs(kernel.ReadLogsRequest(run_id=RUN_ID, follow=True), timeout=10).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await awaitable
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_pause_names_something_that_exists(world: World) -> None:
    """Unknown jobs and hosts, empty names, and a time gone by are refused; everything may always be paused."""
    for request, code in (
        (kernel.PauseRequest(job_id="absent"), grpc.StatusCode.NOT_FOUND),
        (kernel.PauseRequest(host="absent"), grpc.StatusCode.NOT_FOUND),
        (kernel.PauseRequest(job_id=""), grpc.StatusCode.INVALID_ARGUMENT),
        (kernel.PauseRequest(host=""), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        end = kernel.ResumeRequest.FromString(request.SerializeToString())
        for call in (world.client.Pause(request, timeout=10), world.client.Resume(end, timeout=10)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is code
    past = kernel.PauseRequest()
    past.until.seconds = 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.Pause(past, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await world.client.Pause(kernel.PauseRequest(why="x"), timeout=10)).pause.by == "owner"
    noted = await world.client.Pause(kernel.PauseRequest(by="root <ceo@corp>"), timeout=10)
    assert noted.pause.by == "owner (for root <ceo@corp>)"


async def test_a_run_shows_the_params_that_its_layers_make(world: World) -> None:
    """GetRun merges job, preset and run; lists leave params and steps out."""
    await world.queue_run()
    run = (await world.client.GetRun(kernel.GetRunRequest(run_id=RUN_ID), timeout=10)).run
    assert (json.loads(run.params_json), run.log_level, run.steps[0].callable) == ({}, "INFO", "m:f")
    (listed,) = (await world.client.ListRuns(kernel.ListRunsRequest(), timeout=10)).runs
    assert (listed.run_id, len(listed.steps), listed.params_json) == (RUN_ID, 0, b"")


async def test_a_refused_item_of_a_batch_names_its_field_as_a_call_does(world: World) -> None:
    """Its status has the message and the details that a trigger of its own has, cut to the same sizes."""
    long_key = b'{"' + b"k" * 200_000 + b'": {"$date": "soon"}}'
    requests = [Trigger(job_id="a", log_level="LOUD"), Trigger(job_id="a", params_json=long_key)]
    answer = await world.client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests), timeout=10)
    for request, item in zip(requests, answer.items, strict=True):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.client.TriggerRun(request, timeout=10)
        assert status_error(item.status).details() == caught.value.details()
        assert details_of(item.status) == read_details(caught.value.trailing_metadata())
    assert list(details_of(answer.items[0].status).fields) == ["log_level"]
    assert answer.ByteSize() < 10_000


async def test_a_stream_without_a_request_under_way_does_not_hold_up_the_end(world: World) -> None:
    """Such streams end first, with the reason, whatever time open calls are given: clients keep them open for hours."""
    stream = world.client.StreamTriggers(timeout=120)
    item = kernel.StreamTriggersRequest.Item(number=1, request=kernel.TriggerRunRequest(job_id="one"))
    await stream.write(kernel.StreamTriggersRequest(items=[item]))
    await stream.read()
    async with asyncio.timeout(60):
        await world.stop_servers(120)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert read_details(caught.value.trailing_metadata()).reason == "KERNEL_STOPPING"
