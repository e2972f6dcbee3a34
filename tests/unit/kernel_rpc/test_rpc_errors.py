"""Errors on the wire: one table, complete; nothing of an unexpected error leaks."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from rpc_world import RUN_ID, World, catalogue_of

import nomaflow_kernel
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.reason_statuses import REASONS
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.rpc.failed_calls import status_of
from nomaflow_kernel.store.errors import StaleEpoch, StoreBusy, StoreFull
from waiting import eventually

DOCS = Path(nomaflow_kernel.__file__).parents[2] / "docs" / "grpc_api.md"
DETAILS = "grpc-status-details-bin"


def subclasses(kind: type[KernelError]) -> Iterator[type[KernelError]]:
    """Yield a class and all that derive from it."""
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Return the rich status of an error."""
    (raw,) = [value for key, value in error.trailing_metadata() if key == DETAILS]
    assert len(raw) < 4096
    return status_pb2.Status.FromString(raw)


async def refused(world: World, request: kernel.TriggerRunRequest) -> grpc.aio.AioRpcError:
    """Return the error that a trigger ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.TriggerRun(request, timeout=10)
    return caught.value


def test_every_error_of_the_kernel_has_a_status() -> None:
    """A reason without a status, of a class or of one error, is found here, and not by a caller."""
    kinds = [kind for kind in subclasses(KernelError) if kind.__module__.startswith("nomaflow_kernel.")]
    assert [kind.__name__ for kind in kinds if kind.reason not in REASONS] == []
    texts = (file.read_text() for file in Path(nomaflow_kernel.__file__).parent.rglob("*.py"))
    calls = [each for text in texts for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    made = [each for each in calls if ast.unparse(each.func) in ("KernelError", "StoreUnusable")]
    said = {ast.unparse(given.value).strip("'") for each in made for given in each.keywords if given.arg == "reason"}
    assert len(said) > 10
    assert said <= REASONS.keys()


def test_the_documentation_has_the_same_table() -> None:
    """Each reason is listed once with its code."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", DOCS.read_text(), re.MULTILINE))
    assert rows == {reason: row.code.name for reason, row in REASONS.items()}


@pytest.mark.parametrize("text", ["x" * 100_000, "\u2603" * 50_000, "bad \udc80 surrogate"])
def test_no_message_is_too_long_or_too_odd_to_travel(text: str) -> None:
    """Details stay under 4 KiB, and whatever the text is, it becomes valid UTF-8."""
    made = status_of(BadRequest(text, field=text))
    assert len(made.message.encode()) <= 900
    assert sum(len(value) for _, value in made.trailing) < 4096


async def test_a_bug_is_internal_with_an_id_and_without_its_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an id, the log gets the traceback under that id."""
    world.engine.trouble = RuntimeError("password is hunter2")
    with caplog.at_level(logging.ERROR):
        error = await refused(world, kernel.TriggerRunRequest(job_id="a"))
    assert error.code() is grpc.StatusCode.INTERNAL
    details = error.details() or ""
    assert "hunter2" not in details
    found = re.search(r"error id ([0-9a-f]{16})", details)
    assert found is not None
    assert found[1] in caplog.text
    assert "hunter2" in caplog.text


@pytest.mark.parametrize("call", ["Attach", "WatchRun", "ReadLogs", "ListRuns", "ReadAudit"])
async def test_a_bug_is_internal_in_every_service_and_stream(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A20: hosts, followers, lists and the audit are told the id as well, and nothing of the error."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password is hunter2")

    world.engine.trouble = RuntimeError("password is hunter2")
    for method in ("run_details", "run_subjects", "list_runs", "audit_rows", "audit_ends", "log_page"):
        monkeypatch.setattr(world.store, method, broken)
    hello = gateway.Hello(protocol_min=1, protocol_max=1, host="team", incarnation="incarnation-1", max_async=5)
    request, service = {
        "Attach": (gateway.AttachRequest(hello=hello), world.gateway),
        "WatchRun": (kernel.WatchRunRequest(run_id=RUN_ID), world.client),
        "ReadLogs": (kernel.ReadLogsRequest(run_id=RUN_ID), world.client),
        "ListRuns": (kernel.ListRunsRequest(), world.client),
        "ReadAudit": (access.ReadAuditRequest(), AccessServiceStub(world.channel)),
    }[call]
    begun = getattr(service, call)(iter([request]) if call == "Attach" else request, timeout=10)
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
        await (begun.read() if hasattr(begun, "read") else begun)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    found = re.search(r"error id ([0-9a-f]{16})", caught.value.details() or "")
    assert found is not None
    assert found[1] in caplog.text
    assert "hunter2" not in f"{caught.value.details()}{caught.value.trailing_metadata()}"


async def test_a_timeout_error_from_inside_is_a_bug_and_not_a_deadline(world: World) -> None:
    """DEADLINE_EXCEEDED stands only for the kernel's own limit."""
    world.engine.trouble = TimeoutError("some inner wait")
    assert (await refused(world, kernel.TriggerRunRequest(job_id="a"))).code() is grpc.StatusCode.INTERNAL


async def test_a_full_store_is_told_with_a_time_to_come_back_and_health_follows(world: World) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; health turns NOT_SERVING, and SERVING again once the store can be written."""
    world.engine.trouble = StoreFull("disk full")
    error = await refused(world, kernel.TriggerRunRequest(job_id="a"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    rich = status(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert rich.details[0].Unpack(info)
    assert rich.details[1].Unpack(retry)
    assert (info.domain, info.reason) == ("nomaflow", "STORE_FULL")
    assert retry.retry_delay.seconds > 0
    await eventually(lambda: world.health.serving)


async def test_health_stays_down_where_a_newer_kernel_has_taken_over(world: World) -> None:
    """Health does not recover by itself after a takeover; callers get NOT_LEADER."""
    world.engine.trouble = StaleEpoch(own=1, found=2)
    error = await refused(world, kernel.TriggerRunRequest(job_id="a"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert not world.health.serving


async def test_a_busy_store_is_worth_a_later_try(world: World) -> None:
    """UNAVAILABLE with RetryInfo."""
    world.engine.trouble = StoreBusy("locked")
    error = await refused(world, kernel.TriggerRunRequest(job_id="a"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert [detail.type_url.rpartition(".")[2] for detail in status(error).details] == ["ErrorInfo", "RetryInfo"]


async def test_an_unknown_job_names_what_is_near(world: World) -> None:
    """NOT_FOUND with the near ids as data."""
    world.engine.knows_no_job = True
    world.catalogue.take_in(catalogue_of("team", "nightly", "other"))
    error = await refused(world, kernel.TriggerRunRequest(job_id="nightli"))
    info = error_details_pb2.ErrorInfo()
    assert status(error).details[0].Unpack(info)
    assert (error.code(), info.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "nightly")


async def test_a_request_that_is_no_protobuf_is_the_callers_mistake(world: World) -> None:
    """An unreadable request is INVALID_ARGUMENT, for unary calls and streams; other calls continue."""
    deep = b"\x0a\x80\x80\x80"
    for method, kind in (("TriggerRun", "unary_unary"), ("WatchRun", "unary_stream")):
        call = getattr(world.channel, kind)(f"/nomaflow_api.v1.KernelService/{method}")(deep, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call if kind == "unary_unary" else call.read())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await world.client.GetKernel(kernel.GetKernelRequest(), timeout=10)).epoch == 1


async def test_a_method_that_does_not_exist_is_unimplemented(world: World) -> None:
    """A caller of a newer version hears so."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.channel.unary_unary("/nomaflow_api.v1.KernelService/Nonsense")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_that_gives_up_lets_go_of_its_call(world: World) -> None:
    """A deadline of the caller ends the call on both sides."""
    world.engine.hold = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.CancelRun(kernel.CancelRunRequest(run_id=RUN_ID), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    world.engine.hold.set()
    assert world.engine.cancels == []
