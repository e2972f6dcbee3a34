"""Bounds on what hosts send: each refusal names what there is too much of, how much there is, and the most."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import zlib
from typing import Any

import grpc
import pytest
from gateway_session import INCARNATION, Session, hello
from google.protobuf.timestamp_pb2 import Timestamp
from rpc_world import World

from nomaflow_api import bounds
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import host_pb2, job_pb2
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_api.v1.sealing import seal
from nomaflow_kernel.catalogue import registry as catalogue_registry
from nomaflow_kernel.catalogue import service
from nomaflow_kernel.engine.host_messages import HeartbeatInfo
from nomaflow_kernel.hosts import registry
from nomaflow_kernel.hosts.incoming import read_hello


def introduction(manifest: Any) -> gateway.IntroduceManifestRequest:
    """Return the introduction of a manifest, of bytes or of a JSON value."""
    body = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    return gateway.IntroduceManifestRequest(
        host="team", incarnation=INCARNATION, digest=digest, manifest_json_zlib=zlib.compress(body)
    )


def of(**fields: Any) -> dict[str, Any]:
    """Return a manifest of the host ``team``."""
    return {"host": "team", "callables": {}, "modules": {}, "job_files": [], **fields}


def callables(count: int) -> dict[str, Any]:
    """Return callables of a manifest."""
    entry = {"kind": "sync", "parameters": [], "catch_all": "", "error": None}
    return {f"plugins.m{number % 100}:function_{number}": entry for number in range(count)}


def jobs(count: int) -> list[dict[str, Any]]:
    """Return a job file with jobs of one step each, whose callable nobody offers."""
    tables = [
        {"id": f"job-{number}", "steps": [{"type": "python", "callable": f"pluggins.m:functoin_{number}"}]}
        for number in range(count)
    ]
    return [{"path": "jobs.toml", "tree": {"jobs": tables}}]


def jobs_named(ids: str) -> list[dict[str, Any]]:
    """Return a job file with a job for each letter."""
    return [{"path": "jobs.toml", "tree": {"jobs": [{"id": letter} for letter in ids]}}]


async def refusal(world: World, manifest: Any) -> grpc.aio.AioRpcError:
    """Return the error that an introduction ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.gateway.IntroduceManifest(introduction(manifest), timeout=60)
    return caught.value


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the fields that an error blames."""
    return list(read_details(error.trailing_metadata()).fields)


async def test_a_manifest_outside_the_bounds_is_refused_by_name(world: World) -> None:
    """INVALID_ARGUMENT with the field and the place in the manifest; the session and the kernel go on."""
    session = Session(world)
    await session.attach()
    for manifest, told in (
        (of(callables=callables(20_001)), "the manifest has 20,001 callables, expected at most 20,000"),
        (of(modules={f"m{n}": {"error": None} for n in range(20_001)}), "the manifest has 20,001 modules"),
        (of(job_files=jobs(20_001)), "the manifest has 20,001 jobs, expected at most 20,000"),
        (of(problems=[{}] * 600_000), "values, expected at most 1,000,000"),
        (b'{"host":"team","x":' + b"[" * 100_000, "nested more than 69 levels"),
        (b'{"host":"team","x":NaN}', "NaN is not allowed"),
        (b'{"host":"team","x":1e999}', "out of range"),
        (b'{"host":"team","host":"team"}', "the key 'host' occurs twice"),
        (b'{"host":"team","x":' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
        (b'{"host":"team","x":"\xff"}', "cannot be read"),
        (of(callables=[]), "malformed"),
        (of(callables={"m:f": None}), "malformed"),
        (of(callables={"m:f": {"parameters": [{"name": "a"}]}}), "parameters"),
        (of(callables={"m:f": {"parameters": [{"name": 1, "kind": "keyword", "required": True}]}}), "parameters"),
        (of(callables={"m:f": {"parameters": [{"name": "a", "kind": "keyword", "required": True}] * 256}}), "255"),
        (of(callables={"m" * 300: {}}), "255"),
        (of(modules={"m": 5}), "malformed"),
        (of(job_files={"a": 1}), "job_files"),
        (of(job_files=[{"tree": {}}]), "path"),
        (of(job_files=[{"path": "a", "tree": [1]}]), "tree"),
        (of(job_files=[{"path": "a" * 5000}]), "4096"),
        (of(step_types=[{"name": "x"}]), "callable"),
        (of(step_types=[{"name": "x", "callable": "m:f", "schema": {"properties": {"a": 5}}}]), "properties"),
        (of(problems=["x"]), "problems"),
        (of(injections=5), "injections"),
    ):
        error = await refusal(world, manifest)
        assert (error.code(), fields_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["manifest_json_zlib"]), told
        assert told in (error.details() or "")
    await world.gateway.IntroduceManifest(introduction(of()), timeout=30)
    session.say(None)


async def test_a_job_outside_the_bounds_is_disabled_by_name(world: World) -> None:
    """V10: one of too many steps and one that is too large say how much, and the most; the next one is served."""
    step = {"type": "python", "callable": "m:f"}
    tables = [
        {"id": "steps", "steps": [{**step, "name": f"s{number}"} for number in range(1001)]},
        {"id": "large", "params": {"p": "x" * bounds.JOB_BYTES}, "steps": [step]},
        {"id": "good", "steps": [{**step, "name": f"s{number}"} for number in range(1000)]},
    ]
    offered = {"m:f": {"kind": "sync", "parameters": [], "catch_all": "kwargs", "error": None}}
    session = Session(world)
    await session.attach()
    brought = of(callables=offered, job_files=[{"path": "jobs.toml", "tree": {"jobs": tables}}])
    answer = await world.gateway.IntroduceManifest(introduction(brought), timeout=30)
    assert sorted(answer.disabled_job_ids) == ["large", "steps"]
    entries = {each.job_id: each for each in world.catalogue.jobs()}
    assert "has 1,001 entries, expected at most 1,000" in entries["steps"].why_not_valid
    assert "bytes as JSON, expected at most 1,048,576" in entries["large"].why_not_valid
    assert entries["good"].valid
    session.say(None)


async def test_thousands_of_unknown_callables_are_checked_at_once(world: World) -> None:
    """3,000 unknown names beside 5,000 known ones take a moment, off the loop, and each job has its problem."""
    session = Session(world)
    await session.attach()
    longest, turns = 0.0, 0

    async def watch() -> None:
        nonlocal longest, turns
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest, turns = max(longest, time.monotonic() - before), turns + 1

    watching = asyncio.create_task(watch())
    began = time.process_time()
    request = introduction(of(callables=callables(5000), job_files=jobs(3000)))
    answer = await world.gateway.IntroduceManifest(request, timeout=60)
    watching.cancel()
    assert len(answer.disabled_job_ids) == 3000
    assert time.process_time() - began < 15
    assert turns > 5
    assert longest < 20
    entry = world.catalogue.job("job-2999")
    assert entry is not None
    assert entry.why_not_valid == "the host offers no callable 'pluggins.m:functoin_2999'"
    session.say(None)


async def test_a_manifest_that_takes_too_long_to_check_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A circle of 20,000 calls is given up by name; what the host brought before stays, and its next one is taken."""
    monkeypatch.setattr(service, "MANIFEST_SECONDS", 0.5)
    session = Session(world)
    await session.attach()
    await world.gateway.IntroduceManifest(introduction(of(callables=callables(3), job_files=jobs(3))), timeout=60)
    circle = [
        {"id": f"j{number}", "steps": [{"type": "call_job", "target_job_id": f"j{(number + 1) % 20_000}"}]}
        for number in range(20_000)
    ]
    error = await refusal(world, of(job_files=[{"path": "jobs.toml", "tree": {"jobs": circle}}]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the manifest of host 'team' is refused: checking it takes more than 0.5 seconds" in (error.details() or "")
    assert len(world.catalogue.jobs()) == 3
    await world.gateway.IntroduceManifest(introduction(of(callables=callables(4), job_files=jobs(4))), timeout=60)
    assert len(world.catalogue.jobs()) == 4
    session.say(None)


async def test_all_manifests_together_have_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """RESOURCE_EXHAUSTED for the manifest that has no room beside the others; a smaller one of the host is taken."""
    first, second = Session(world), Session(world)
    await first.attach()
    await world.gateway.IntroduceManifest(introduction(of(callables=callables(100))), timeout=30)
    monkeypatch.setattr(service, "CATALOGUE_BYTES", 15_000)
    await second.attach(host="other", incarnation="incarnation-2")
    large = introduction({"host": "other", "callables": callables(100)})
    large.host, large.incarnation = "other", "incarnation-2"
    with pytest.raises(grpc.aio.AioRpcError, match=r"expected at most 15,000 together; forget hosts") as caught:
        await world.gateway.IntroduceManifest(large, timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    small = introduction({"host": "other", "callables": callables(10)})
    small.host, small.incarnation = "other", "incarnation-2"
    await world.gateway.IntroduceManifest(small, timeout=30)
    await world.gateway.IntroduceManifest(introduction(of(callables=callables(90))), timeout=30)
    for session in (first, second):
        session.say(None)


async def test_the_ids_of_a_host_have_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """RESOURCE_EXHAUSTED for the manifest that claims too many, since removed jobs keep theirs; known ids are taken."""
    monkeypatch.setattr(catalogue_registry, "IDS_OF_HOST", 5)
    session = Session(world)
    await session.attach()
    for ids in ("abc", "cde", "bd"):
        await world.gateway.IntroduceManifest(introduction(of(job_files=jobs_named(ids))), timeout=30)
    with pytest.raises(grpc.aio.AioRpcError, match=r"6 job ids would be of host 'team'.*forget team") as caught:
        await world.gateway.IntroduceManifest(introduction(of(job_files=jobs_named("af"))), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["b", "d"]
    await world.gateway.IntroduceManifest(introduction(of(job_files=jobs_named("ae"))), timeout=30)
    session.say(None)


async def test_a_kernel_with_the_most_hosts_serves_those_it_knows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new name is refused with the command that makes room; a known one attaches, also with another instance."""
    monkeypatch.setattr(registry, "HOSTS", 2)
    sessions = [Session(world) for _ in range(3)]
    for number, name in enumerate(("one", "two", "one")):
        await sessions[number].attach(host=name, incarnation=f"instance-{number}")
    stranger = Session(world)
    stranger.say(hello(host="three", incarnation="instance-9"))
    code, reason, _ = await stranger.refusal()
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA")
    assert "host 'three' is new, and this kernel knows 2 hosts" in (await stranger.call.details())
    for session in sessions:
        session.say(None)


async def test_a_host_has_so_many_instances(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused; one that comes back is not one more."""
    monkeypatch.setattr(registry, "INSTANCES_OF_HOST", 2)
    first, second, third, back = (Session(world) for _ in range(4))
    await first.attach(incarnation="instance-1")
    await second.attach(incarnation="instance-2")
    third.say(hello(incarnation="instance-3"))
    assert (await third.refusal())[1] == "QUOTA"
    assert "host 'team' has 2 instances attached, the maximum" in (await third.call.details())
    await back.attach(incarnation="instance-2")
    for session in (first, second, back):
        session.say(None)


_LINE = InventoryLine(attempt_key="run/step/1")
_LATE = Timestamp(seconds=2**60)


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"max_async": 100_001}, "hello.max_async", "100,001 steps at once, expected at most 100,000"),
        ({"max_sync": 2**32 - 1}, "hello.max_sync", "4,294,967,295 steps at once"),
        ({"ended_incarnations": ["x"] * 1001}, "hello.ended_incarnations", "1,001 incarnations"),
        ({"inventory": seal([_LINE] * 20_001)}, "hello.inventory", "20,001 attempts, expected at most 20,000"),
        ({"inventory": b"\xdd\xff\xff\xff\xff"}, "hello.inventory", "the inventory cannot be read"),
        ({"inventory": b"\x91" * 100_000}, "hello.inventory", "the inventory cannot be read"),
        ({"heartbeat": {"loaded_at_us": 2**62}}, "heartbeat.loaded_at_us", "expected microseconds from 1970 to 9999"),
        ({"heartbeat": {"loaded_at_us": -1}}, "heartbeat.loaded_at_us", "expected microseconds from 1970 to 9999"),
        ({"refused_load": job_pb2.RefusedLoad(at=_LATE)}, "refused_load.at", "expected microseconds from 1970"),
        ({"heartbeat": {"sent_at_us": -1}}, "heartbeat.sent_at_us", "expected microseconds from 1970 to 9999"),
        ({"host": "h" * 65}, "hello.host", "expected 1 to 64"),
        ({"host": "../../etc/passwd"}, "hello.host", "expected 1 to 64"),
        ({"host": "team\x00"}, "hello.host", "expected 1 to 64"),
        ({"incarnation": "i" * 10_000}, "incarnation", "expected 8 to 64"),
        ({"has": host_pb2.Resources(labels={str(n): "" for n in range(51)})}, "hello.has.labels", "at most 50"),
        ({"has": host_pb2.Resources(cpu=float("nan"))}, "hello.has.cpu", "hello.has.cpu is nan, expected 0 to"),
    ],
)
async def test_a_hello_outside_the_bounds_is_refused_by_name(
    world: World, fields: dict[str, Any], field: str, told: str
) -> None:
    """INVALID_ARGUMENT with the field, how much it has and the most."""
    session = Session(world)
    session.say(hello(**fields))
    code, reason, _ = await session.refusal()
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")
    assert told in (await session.call.details())
    assert list(read_details(await session.call.trailing_metadata()).fields) == [field]
    assert world.sessions.hosts() == []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            {"heartbeat": gateway.Heartbeat(workers=[gateway.HostWorker()] * (bounds.WORKERS_OF_INSTANCE + 1))},
            "heartbeat.workers has 2,001 workers, expected at most 2,000",
        ),
        (
            {"heartbeat": gateway.Heartbeat(workers=[gateway.HostWorker(attempt_keys=["k"] * 2001)] * 2)},
            "heartbeat.workers.attempt_keys has 4,002 attempts, expected at most 4,000",
        ),
        ({"heartbeat": gateway.Heartbeat(loaded_at_us=2**63 - 1)}, "heartbeat.loaded_at_us is"),
        ({"load_state": gateway.LoadState(refused=job_pb2.RefusedLoad(at=_LATE))}, "refused_load.at is"),
    ],
)
async def test_a_message_outside_the_bounds_ends_its_session(world: World, message: dict[str, Any], told: str) -> None:
    """The host is told by name what was wrong; the kernel keeps nothing of it."""
    session = Session(world)
    await session.attach()
    session.say(gateway.AttachRequest(**message))
    code, reason, _ = await session.refusal()
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")
    assert told in (await session.call.details())
    assert world.engine.heartbeats == world.engine.loads == []


def test_a_hello_says_whether_it_takes_steps_and_by_which_clock() -> None:
    """The kernel knows as much of an instance that has just attached as of one that has sent a heartbeat."""
    beat: dict[str, Any] = {"draining": True, "saturated": True, "sent_at_us": 7}
    told = hello(heartbeat={**beat, "workers_unchanged": True}).hello
    assert read_hello(told).heartbeat == HeartbeatInfo(**beat)
