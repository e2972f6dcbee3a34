"""Near ids in answers about unknown jobs: one search per answer, and never of jobs that the caller may not see."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from google.rpc import status_pb2
from rpc_world import World, catalogue_of

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.reason_statuses import details_of, status_error
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import OWNER, Caller, Principal, PrincipalKind
from nomaflow_kernel.rpc.catalogue_calls import CatalogueCalls


async def test_a_thousand_misspelt_ids_do_not_hold_up_the_kernel(world: World) -> None:
    """Such a batch is answered at once beside 10,000 jobs, its first item with a hint; other calls go on meanwhile."""
    world.engine.knows_no_job = True
    world.catalogue.take_in(catalogue_of("team", *(f"reports.team.daily-{number:05}" for number in range(10_000))))
    requests = [kernel.TriggerRunRequest(job_id=f"reprots.team.daily-{number:05}") for number in range(1000)]
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before - 0.01)

    watching = asyncio.create_task(watch())
    began = time.monotonic()
    answer = await world.client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests), timeout=30)
    took = time.monotonic() - began
    watching.cancel()
    texts = [status_error(item.status).details() or "" for item in answer.items]
    hints = [text for text in texts if "did you mean" in text]
    assert len(answer.items) == 1000
    assert hints == texts[:1]
    assert "'reports.team.daily-00000'" in hints[0]
    assert took < 20
    assert longest < 10


async def test_twenty_thousand_characters_are_no_id(world: World) -> None:
    """Such ids are refused for their form; nothing is searched."""
    world.catalogue.take_in(catalogue_of("team", *(f"job-{number}" for number in range(1000))))
    requests = [kernel.TriggerRunRequest(job_id="j" * 20_000) for _ in range(100)]
    answer = await world.client.TriggerRuns(kernel.TriggerRunsRequest(requests=requests), timeout=30)
    assert {details_of(item.status).reason for item in answer.items} == {"BAD_REQUEST"}
    with pytest.raises(grpc.aio.AioRpcError, match="expected 1 to 128 letters"):
        await world.client.GetJob(kernel.GetJobRequest(job_id="j" * 20_000), timeout=10)


async def test_a_host_that_is_misspelt_is_named_among_many(world: World) -> None:
    """A list of the first known ones would not have it; if none is near, they are listed."""
    for number in range(30):
        world.catalogue.take_in(catalogue_of(f"host-{number:02}", f"job-{number}"))
    world.catalogue.take_in(catalogue_of("reporting", "reports"))
    for name, told in (("reprting", "; did you mean 'reporting'?"), ("zzz", "; known hosts: 'host-00', .*'host-19' …")):
        with pytest.raises(grpc.aio.AioRpcError, match=f"no host has the name '{name}'{told}".replace("?", r"\?")):
            await world.client.ReloadHost(kernel.ReloadHostRequest(host=name), timeout=10)


async def test_near_ids_are_those_that_the_caller_may_see(world: World) -> None:
    """A reader of one team's jobs is never told the names of another's."""
    calls = CatalogueCalls(world.parts)
    world.catalogue.take_in(catalogue_of("teama", "a.nightly"))
    world.catalogue.take_in(catalogue_of("teamb", "b.nightly"))
    alice = Principal(kind=PrincipalKind.USER, name="alice", grants=(Grant.parse("read job:a.*"),))
    assert calls.unknown_job("b.nightl", Caller(principal=alice, peer="")).metadata == {"near": "a.nightly"}
    near = calls.unknown_job("b.nightl", Caller(principal=OWNER, peer="")).metadata["near"]
    assert set(near.split(",")) == {"a.nightly", "b.nightly"}


async def test_each_trigger_of_a_message_is_told_what_is_near(world: World) -> None:
    """Triggers that are decided together are answered as calls are."""
    world.engine.knows_no_job = True
    world.catalogue.take_in(catalogue_of("team", "daily", "nightly"))
    stream = world.client.StreamTriggers(timeout=30)
    requests = [kernel.TriggerRunRequest(job_id=each) for each in ("dayly", "nightli")]
    items = [{"number": number, "request": request} for number, request in enumerate(requests)]
    await stream.write(kernel.StreamTriggersRequest(items=items))
    told = status_pb2.Status.FromString
    assert [told(item.status).message for item in (await stream.read()).items] == [
        "no job has the id 'dayly'; did you mean 'daily'?",
        "no job has the id 'nightli'; did you mean 'nightly'?",
    ]
