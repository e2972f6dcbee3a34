"""Lists in pages: whole, in order, and small enough to send, however much a host brings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from msgspec import structs
from rpc_world import World, catalogue_of

from nomaflow.client import KernelClient
from nomaflow_api.bounds import LISTED_PROBLEMS, LISTED_WORKERS, PAGE_BYTES
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_kernel.access.credentials import Credentials
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.engine.demand import Demand
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, WorkerStatus
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.reading.problems import Place


async def pages_of(method: Any, request: Any) -> list[Any]:
    """Return every page of a list."""
    pages = []
    while True:
        pages.append(await method(request, timeout=20))
        request.page_token = pages[-1].next_page_token
        if not request.page_token:
            return pages


def instance(host: str, workers: int) -> Instance:
    """Return an attached instance with workers."""
    hello = InstanceHello(
        host=host, incarnation=f"{host}-instance", machine="m", pid=1, version="0",
        max_async=1, max_sync=1,
    )  # fmt: skip
    crew = tuple(WorkerStatus(pid=number, exclusive=True, generation=1, running=1) for number in range(workers))
    return Instance(hello=hello, attached_at_us=1, heartbeat=HeartbeatInfo(workers=crew))


@pytest.mark.parametrize("size", [0, 1, 7, 500])
async def test_all_jobs_come_once_and_in_order(world: World, size: int) -> None:
    """A job that another host claims too comes after the one that owns the id, whatever the size of the pages."""
    world.catalogue.take_in(catalogue_of("teama", *(f"job-{number:04}" for number in range(0, 40, 2))))
    world.catalogue.take_in(catalogue_of("teamb", *(f"job-{number:04}" for number in range(30))))
    pages = await pages_of(world.client.ListJobs, kernel.ListJobsRequest(page_size=size))
    jobs = [(job.job_id, job.valid) for page in pages for job in page.jobs]
    assert [job_id for job_id, _ in jobs] == sorted(job_id for job_id, _ in jobs)
    assert len(jobs) == len(set(jobs)) == 50
    assert all(len(page.jobs) == size for page in pages[:-1]) or size in (0, 500)


async def test_a_page_of_large_jobs_is_small(world: World) -> None:
    """Jobs with a thousand problems of a thousand characters fill many pages, none of which is too large to send."""
    place = Place("jobs.toml", "jobs[0]")
    problems = tuple(place.error("bad", "x" * 1000) for _ in range(1000))
    jobs = tuple(
        LoadedJob(job_id=f"j{number}", host="team", definition=None, problems=problems) for number in range(100)
    )
    world.catalogue.take_in(HostCatalogue(host="team", load=CatalogueLoad(jobs=jobs, problems=problems * 10)))
    pages = await pages_of(world.client.ListJobs, kernel.ListJobsRequest())
    assert sum(len(page.jobs) for page in pages) == 100
    assert max(page.ByteSize() for page in pages) < PAGE_BYTES + 512 * 1024
    assert [bool(page.problems) for page in pages] == [True] + [False] * (len(pages) - 1)
    told = pages[0].jobs[0].problems
    assert len(told) == LISTED_PROBLEMS + 1
    assert told[-1].message == "and 900 more; correct these first"


async def test_hosts_with_very_many_workers_are_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 130,000 workers and 399 others are a list of some pages."""
    crew = [instance(f"big-{number}", 130_000 if number == 7 else 1) for number in range(400)]
    monkeypatch.setattr(world.engine, "instances", lambda: crew)
    pages = await pages_of(world.client.ListHosts, kernel.ListHostsRequest())
    hosts = [host for page in pages for host in page.hosts]
    assert [host.name for host in hosts] == sorted(host.name for host in hosts)
    assert len(hosts) == 400
    assert max(page.ByteSize() for page in pages) < PAGE_BYTES
    assert {len(host.instances[0].workers) for host in hosts} == {LISTED_WORKERS, 1}


async def test_a_host_of_many_instances_with_long_texts_is_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instance is listed; only the first ones have their long texts, or no client could receive the page."""
    worker = WorkerStatus(pid=1, exclusive=False, generation=1, running=1, attempt_keys=("k" * 400,) * 100)
    crew = [
        replace(
            each,
            hello=structs.replace(each.hello, incarnation=f"i{number}"),
            heartbeat=HeartbeatInfo(workers=(worker,) * 5),
        )
        for number, each in enumerate([instance("team", 1)] * 100)
    ]
    monkeypatch.setattr(world.engine, "instances", lambda: crew)
    (page,) = await pages_of(world.client.ListHosts, kernel.ListHostsRequest())
    (host,) = page.hosts
    assert len(host.instances) == 100
    assert 0 < sum(bool(each.workers) for each in host.instances) < 10
    assert page.ByteSize() < PAGE_BYTES


async def test_the_demand_of_many_hosts_is_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty hosts with a thousand attempts that want an instance each are more than gRPC's own limit of a message."""
    demands = [
        Demand(host=f"h{host:02}", needs=Resources(), attempts=1, since_us=1, attempt_key=f"run_{'x' * 100}/{number}/1")
        for host in range(30)
        for number in range(1000)
    ]

    async def whole_demand() -> Sequence[Demand]:
        return demands

    monkeypatch.setattr(world.engine, "whole_demand", whole_demand, raising=False)
    pages = await pages_of(world.client.ListWanted, kernel.ListWantedRequest())
    keys = [(each.host, each.attempt_key) for page in pages for each in page.wanted]
    assert keys == [(each.host, each.attempt_key) for each in demands]
    assert max(page.ByteSize() for page in pages) < PAGE_BYTES + 256 * 1024
    pages = await pages_of(world.client.ListWanted, kernel.ListWantedRequest(page_size=4))
    assert [len({each.host for each in page.wanted}) for page in pages] == [4] * 7 + [2]
    (page,) = await pages_of(world.client.ListWanted, kernel.ListWantedRequest(host="h07"))
    assert {each.host for each in page.wanted} == {"h07"}
    async with KernelClient(f"unix:{world.directory}/k.sock") as client:
        assert len(await client.list_wanted()) == 30_000


async def test_very_many_credentials_are_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """V10: certificates and tokens with 2.5 MB of reserved ids are lists of pages, each entry once and in order."""
    ids = "\n".join(f"team.{number}.{'x' * 1000}*" for number in range(10))
    certificates = [
        CertificateRecord(
            serial=f"{number:x}", host="team", issued_at_us=number // 2, expires_at_us=2**60, issued_to="", token_id="",
            ids=ids,
        )
        for number in range(250)
    ]  # fmt: skip
    tokens = [
        TokenRecord(
            token_id=f"t{number}", kind="host", name="team", joins=True, roles=(), grants=(), secret_hash="",
            created_at_us=number, created_by="", expires_at_us=2**60, ids=ids,
        )
        for number in range(250)
    ]  # fmt: skip
    monkeypatch.setattr(Credentials, "certificates", lambda _: certificates)
    monkeypatch.setattr(Credentials, "tokens", lambda _: tokens)
    monkeypatch.setattr(Credentials, "given_by", lambda *_: ())
    stub: Any = AccessServiceStub(world.channel)
    for method, request, field in (
        (stub.ListCertificates, access.ListCertificatesRequest(include_ended=True), "certificates"),
        (stub.ListTokens, access.ListTokensRequest(include_ended=True), "tokens"),
    ):
        assert max(page.ByteSize() for page in await pages_of(method, request)) < PAGE_BYTES + 64 * 1024
        request.page_size = 25
        assert [len(getattr(page, field)) for page in await pages_of(method, request)] == [25] * 10
    async with KernelClient(f"unix:{world.directory}/k.sock") as client:
        found = [each.serial for each in await client.list_certificates(include_ended=True)]
        assert sorted(found) == sorted(each.serial for each in certificates)
        assert [int(serial, 16) // 2 for serial in found] == [number // 2 for number in range(250)]
        assert [each.token_id for each in await client.list_tokens(include_ended=True)] == [
            f"t{number}" for number in range(250)
        ]


@pytest.mark.parametrize("method", ["ListJobs", "ListHosts", "ListRuns"])
async def test_a_page_token_of_ones_own_making_is_refused(world: World, method: str) -> None:
    """INVALID_ARGUMENT, in every list."""
    for token in ("x", "W10=", "WyJhIl0=" * 1000, "bnVsbA==", "\x00", "☃", "W1tbW1tb", "WzEsMl0="):
        request = getattr(kernel, f"{method}Request")(page_token=token)
        with pytest.raises(grpc.aio.AioRpcError, match="page_token does not come from a list") as caught:
            await getattr(world.client, method)(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, token


@pytest.mark.parametrize(("method", "most"), [("ListJobs", 500), ("ListHosts", 200), ("ListRuns", 500)])
async def test_a_page_may_not_be_larger_than_the_most(world: World, method: str, most: int) -> None:
    """The refusal says what was asked and what the most is."""
    request = getattr(kernel, f"{method}Request")(page_size=most + 1)
    with pytest.raises(grpc.aio.AioRpcError, match=f"page_size is {most + 1}, expected at most {most}"):
        await getattr(world.client, method)(request, timeout=10)


async def test_a_job_that_comes_between_two_pages_moves_nothing(world: World) -> None:
    """The list goes on after the last entry of the page before, by id and not by number."""
    world.catalogue.take_in(catalogue_of("team", "b", "d"))
    first = await world.client.ListJobs(kernel.ListJobsRequest(page_size=1), timeout=10)
    world.catalogue.take_in(catalogue_of("team", "a", "b", "c", "d"))
    await asyncio.sleep(0)
    second = await world.client.ListJobs(kernel.ListJobsRequest(page_token=first.next_page_token), timeout=10)
    assert [job.job_id for job in (*first.jobs, *second.jobs)] == ["b", "c", "d"]
