"""Ids that are paths, SQL, patterns, novels or control characters: refused by name in every field of every method."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace
from rpc_world import RUN_ID, World, catalogue_of, queue_run

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.event_pb2 import ListEventsRequest
from nomaflow_api.version import VERSION

SERVICE = kernel.DESCRIPTOR.services_by_name["KernelService"]
HOSTILE = ["../../etc/passwd\x00", "x" * 10_000, "a\x00b", "a\nb", "\x1b]8;;http://evil\x07", "a\u202eb", "\u2028"]
NO_ID = ["'; DROP TABLE runs; --", "%", "_%", "../../etc/passwd", "a b", 'a"b', "é", "%00", "${HOME}"]
FREE = {"by", "why"}
"""Fields that hold what a person writes. ``by`` may not hold control characters either; ``why`` may, and is shown."""
IDS = {"run_id", "job_id", "host"}

FILTERS = {
    "ListRuns": (
        "job_id", "host", "triggered_by", "tag", "reason_codes", "run_id_prefix", "replay_of", "parent_run_id",
        "run_ids",
    ),
    "ListEvents": ("kinds", "run_id", "job_id", "host", "by"),
    "ListJobs": ("host", "tag"),
}  # fmt: skip
PATTERNS = ["TEAM", "%", "_%", "t__m", "*", "te?m", "[t]eam", "' OR '1'='1", "team' --"]


def text_fields() -> Iterator[tuple[str, str]]:
    """Yield method and field of each text that a request of the service may hold, but for free ones."""
    for method in SERVICE.methods:
        for field in method.input_type.fields:
            if field.type == FieldDescriptor.TYPE_STRING and field.name not in FREE:
                yield method.name, field.name


def lists() -> Iterator[tuple[str, str]]:
    """Yield every field of a request of one message that takes many values."""
    for method in SERVICE.methods:
        if not method.client_streaming:
            yield from ((method.name, field.name) for field in method.input_type.fields if field.is_repeated)


async def refusal(world: World, method: str, field: str, value: str) -> grpc.aio.AioRpcError:
    """Return the error of a call that is good but for one field."""
    request: Any = message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)()
    known = request.DESCRIPTOR.fields_by_name
    if "run_id" in known:
        request.run_id = RUN_ID
    if method == "TriggerRun":
        request.job_id = "job"
    put(request, field, value)
    return await failure(world, method, request)


def put(request: Any, field: str, text: str) -> None:
    """Set a field of a request, or its only item."""
    if hasattr(getattr(request, field), "append"):
        getattr(request, field).append(text)
    else:
        setattr(request, field, text)


async def failure(world: World, method: str, request: Any) -> grpc.aio.AioRpcError:
    """Return the error of a call."""
    call: Any = getattr(world.client, method)(request, timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    return caught.value


async def test_a_hostile_text_is_refused_in_every_field(world: World) -> None:
    """A hostile text in any field is INVALID_ARGUMENT, as is a malformed id; nothing is looked up."""
    await world.queue_run()
    for method, field in text_fields():
        for value in HOSTILE + (NO_ID if field in IDS - {"host"} else []):
            error = await refusal(world, method, field, value)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, field, value[:40], error.details())
            assert len(error.details() or "") < 2000, (method, field)
            assert (error.details() or "").isprintable(), (method, field, value[:40])


async def test_a_filter_has_no_wildcards(world: World) -> None:
    """A16: a text that would match all as a pattern, or end a statement of SQL, is no filter or keeps nothing."""
    queued = queue_run()
    trigger = replace(queued.run.trigger, by="team (for t1m)")
    await world.apply(replace(queued, run=replace(queued.run, trigger=trigger)))
    world.catalogue.take_in(catalogue_of("team", "job"))
    for (method, fields), text in product(FILTERS.items(), PATTERNS):
        kind = message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)
        for field in fields:
            request: Any = kind()
            put(request, field, text)
            call = getattr(world.client, method)(request, timeout=10)
            if await call.code() is grpc.StatusCode.OK:
                kept = [name.name for name, _ in (await call).ListFields() if name.is_repeated]
                assert kept == [], (method, field, text)
            else:
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, field, text)
    for method in FILTERS:
        everything = await getattr(world.client, method)(getattr(kernel, f"{method}Request", ListEventsRequest)())
        assert len(everything.ListFields()[0][1]) == 1, method


async def test_every_list_of_a_request_has_a_bound(world: World) -> None:
    """A request of 4 MiB may have four million numbers: looking at each would hold up everybody for seconds."""
    await world.queue_run()
    for method, field in lists():
        request: Any = message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)()
        for name, value in (("job_id", "job"), ("run_id", RUN_ID)):
            if name in request.DESCRIPTOR.fields_by_name:
                setattr(request, name, value)
        described = request.DESCRIPTOR.fields_by_name[field]
        item = {described.TYPE_ENUM: 1, described.TYPE_STRING: "x"}.get(described.type)
        getattr(request, field).extend([described.message_type._concrete_class() if item is None else item] * 20_000)
        error = await failure(world, method, request)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, field)
        assert f"{field} has 20000 items, expected at most" in (error.details() or ""), (method, field)


async def test_twenty_kilobytes_of_metadata_are_refused_and_the_next_call_is_answered(world: World) -> None:
    """gRPC itself refuses such a call, before any of our code; the same connection goes on."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.GetKernel(kernel.GetKernelRequest(), metadata=[("x-large", "x" * 20_000)], timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await world.client.GetKernel(kernel.GetKernelRequest(), timeout=10)).version == VERSION


LATE, EARLY = Timestamp(seconds=2_000_000_000), Timestamp(seconds=1_000_000_000)


@pytest.mark.parametrize(
    ("method", "fields", "told"),
    [
        ("ListRuns", {"states": [1] * 64 + [99]}, "states has the number 99"),
        ("ListRuns", {"trigger_kinds": [1] * 64 + [99]}, "trigger_kinds has the number 99"),
        ("ListJobs", {"conditions": [1] * 64 + [99]}, "conditions has the number 99"),
        ("ListRuns", {"log_levels": 1 << 31}, "log_levels is 2147483648, expected at most 127"),
        ("ListRuns", {"run_ids": ["nightly"]}, "run_ids has 'nightly', expected 'run_' and 26 characters"),
        ("ListRuns", {"exclude_job_ids": [""]}, "exclude_job_ids has ''"),
        ("ListRuns", {"since": LATE, "until": EARLY}, "since is later than until"),
        ("ListRuns", {"since": Timestamp(seconds=253_402_300_799)}, "expected a time from 1970 to 29 December 9999"),
        ("ListEvents", {"since": LATE, "until": EARLY}, "since is later than until"),
        ("ListEvents", {"kinds": [""]}, "there is no kind of event ''"),
        ("SummarizeRuns", {"since": LATE, "until": EARLY}, "since is later than until"),
        ("GetJobStats", {"job_ids": ["*"]}, "job_ids has '*'"),
        ("ListJobs", {"job_ids": ["*"]}, "job_ids has '*'"),
        ("TriggerRun", {"job_id": "job", "params_json": b" null "}, "params_json is 'null', expected a JSON object"),
        ("TriggerRun", {"job_id": "job", "params_json": b'{"$date": "2026-01-31"}'}, "expected a JSON object"),
    ],
)
async def test_a_field_that_would_be_passed_over_is_refused(
    world: World, method: str, fields: dict[str, Any], told: str
) -> None:
    """By its own name: a filter that cannot keep anything, or would keep everything, is a mistake of the caller."""
    await world.queue_run()
    request = message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)(**fields)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(world.client, method)(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"since": Timestamp(seconds=2**53 + 1)}, "since is 9007199254740993 seconds after 1970"),
        ({"since": Timestamp(seconds=-1)}, "since is -1 seconds after 1970"),
        ({"since": Timestamp(nanos=-1)}, "since has -1 nanoseconds"),
        ({"principal": "a\x00b"}, "principal is"),
        ({"action": "x" * 10_000}, "action is"),
    ],
)
async def test_the_audit_is_asked_in_its_own_form(world: World, fields: dict[str, Any], told: str) -> None:
    """INVALID_ARGUMENT for times that no calendar has and for texts that nobody is called."""
    stub: Any = AccessServiceStub(world.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReadAudit(access.ReadAuditRequest(**fields), timeout=10).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in (caught.value.details() or "")
