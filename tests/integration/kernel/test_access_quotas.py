"""Quotas of a caller, enforced by a real kernel over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from access_world import DEADLINE, AccessWorld, kernel_of_two_teams

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.reason_statuses import details_of, read_details, status_error
from waiting import eventually

_CODE = grpc.StatusCode


@pytest.fixture
async def tight() -> AsyncIterator[AccessWorld]:
    """A kernel with small quotas."""
    quotas = "calls_per_second = 2\ntriggers_per_second = 0.1\nstreams = 2\nqueued_runs = 3\nbytes_per_second = 1024\n"
    with kernel_of_two_teams(quotas) as process:
        async with AsyncExitStack() as stack:
            yield await AccessWorld(running=process).start(stack)


async def _refusal(call: Any) -> tuple[grpc.StatusCode, str, float]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = read_details(caught.value.trailing_metadata())
    assert details.retry_seconds is not None
    return caught.value.code(), details.reason, details.retry_seconds


async def test_a_storm_of_one_caller_is_told_when_to_come_back(tight: AccessWorld) -> None:
    """A19: RESOURCE_EXHAUSTED with the true wait; others, and the owner, do not notice."""
    ann, ben, owner = (tight.as_(name) for name in ("ann", "ben", "owner"))
    allowed: list[Any] = []

    async def until_refused() -> None:
        while True:
            allowed.append(await ann("GetKernel"))

    code, reason, wait = await _refusal(until_refused())
    assert len(allowed) >= 20
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 0 < wait <= 0.5
    assert await ben.code("GetKernel") is _CODE.OK
    assert {await owner.code("TriggerRun", job_id="a.one") for _ in range(40)} == {_CODE.OK}
    await asyncio.sleep(wait)
    assert await ann.code("GetKernel") is _CODE.OK


async def test_each_trigger_on_a_stream_counts_as_a_call(tight: AccessWorld) -> None:
    """Else a caller could start more on one stream than by calls. The stream itself goes on."""
    await tight.as_("owner")("Pause", job_id="a.one")
    stream = KernelServiceStub(tight.channel("ann")).StreamTriggers(metadata=tight.metadata("ann"), timeout=DEADLINE)
    asked = [{"number": number, "request": kernel.TriggerRunRequest(job_id="a.one")} for number in range(1, 21)]
    await stream.write(kernel.StreamTriggersRequest(items=asked))
    items: list[Any] = []
    while len(items) < 20:
        items += (await stream.read()).items
    assert {item.number for item in items} == set(range(1, 21))
    refused = [status_error(item.status) for item in items if item.status]
    assert {each.code() for each in refused} == {_CODE.RESOURCE_EXHAUSTED}
    assert {read_details(each.trailing_metadata()).reason for each in refused} == {"QUOTA"}
    answered = [item.response.run_id for item in items if not item.status]
    runs = (await tight.as_("owner")("ListRuns", states=[run_pb2.RUN_STATE_QUEUED])).runs
    assert {run.run_id for run in runs} == set(answered)
    assert len(answered) == 3


async def test_triggers_streams_waiting_runs_and_bytes_have_limits(tight: AccessWorld) -> None:
    """Each is refused with QUOTA, and what was refused did not happen."""
    ann = tight.as_("ann")
    streams = [ann.stream("WatchEvents") for _ in range(2)]
    for stream in streams:
        await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ann.stream("WatchEvents").read()
    details = read_details(caught.value.trailing_metadata())
    assert (details.reason, details.retry_seconds) == ("QUOTA", None)  # waiting alone does not help
    streams.pop().cancel()

    async def another() -> bool:
        streams.append(ann.stream("WatchEvents"))
        try:
            await streams[-1].read()
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(another)
    await tight.as_("owner")("Pause", job_id="a.one")
    items = (await ann("TriggerRuns", requests=[kernel.TriggerRunRequest(job_id="a.one")] * 5)).items
    refusals = [details_of(item.status) for item in items]
    assert [each.reason for each in refusals] == ["", "", "", "QUOTA", "QUOTA"]
    assert all(each.retry_seconds for each in refusals[3:])
    assert (await ann("TriggerRun", job_id="a.one", validate_only=True)) is not None
    code, reason, wait = await _refusal(ann("TriggerRun", job_id="a.one"))
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 0 < wait <= 10  # a run every ten seconds
    ben = tight.as_("ben")
    assert await ben.code("GetRun", run_id="x" * 20_000) is _CODE.PERMISSION_DENIED
    code, reason, wait = await _refusal(ben("GetRun", run_id=tight.runs["b"]))
    assert (code, reason) == (_CODE.RESOURCE_EXHAUSTED, "QUOTA")
    assert 0 < wait <= 10  # 20,000 bytes at 1,024 a second, of which ten seconds are free
    runs = (await tight.as_("owner")("ListRuns", states=[run_pb2.RUN_STATE_QUEUED])).runs
    assert [run.trigger.by for run in runs] == ["ann"] * 3


async def test_bytes_are_counted_before_they_are_decoded(tight: AccessWorld) -> None:
    """Four megabytes of nothing cost a fifth of a second to decode: whoever sent them all the time kept others out."""
    channel = tight.channel("ann")
    service = "/nomaflow_api.v1.KernelService/"
    codes = []
    for begin, name in (
        (channel.unary_unary, "GetRun"),
        (channel.unary_stream, "WatchEvents"),
        (channel.stream_stream, "StreamTriggers"),
    ):
        given: Any = b"\xff" * 20_000
        sent = iter([given]) if name == "StreamTriggers" else given
        codes.append(await begin(service + name)(sent, metadata=tight.metadata("ann")).code())
    assert codes == [_CODE.INVALID_ARGUMENT, _CODE.RESOURCE_EXHAUSTED, _CODE.RESOURCE_EXHAUSTED]
