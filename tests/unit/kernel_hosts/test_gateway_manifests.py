"""Manifests of hosts: checked, kept, introduced once."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import zlib
from collections.abc import Callable

import grpc
import pytest
from gateway_session import INCARNATION, KEY, Session
from rpc_world import World

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from waiting import eventually


def packed(body: bytes, *, digest: str = "", explicit: bool = False) -> gateway.IntroduceManifestRequest:
    """Return the introduction of a manifest."""
    return gateway.IntroduceManifestRequest(
        host="team",
        incarnation=INCARNATION,
        digest=digest or "sha256:" + hashlib.sha256(body).hexdigest(),
        manifest_json_zlib=zlib.compress(body),
        explicit=explicit,
    )


def manifest(*job_ids: str, host: str = "team") -> bytes:
    """Return a manifest that brings jobs."""
    jobs = [{"id": job_id, "steps": [{"type": "python", "callable": "m:f"}]} for job_id in job_ids]
    callables = {"m:f": {"kind": "async", "parameters": [], "catch_all": "kwargs", "error": None}}
    file = {"path": "jobs.toml", "tree": {"jobs": jobs}, "error": None}
    return json.dumps({"host": host, "callables": callables, "job_files": [file]}).encode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: packed(manifest(), digest="sha256:" + "0" * 64),
        lambda: packed(manifest(), digest="md5:1"),
        lambda: packed(b"not json"),
        lambda: packed(b"[]"),
        lambda: packed(b'{"a":' * 100_000),
        lambda: packed(manifest(host="other")),
        lambda: packed(b" " * (16 * 1024 * 1024 + 1)),
        lambda: gateway.IntroduceManifestRequest(
            host="team", incarnation=INCARNATION, digest="sha256:" + "0" * 64, manifest_json_zlib=b"not zlib"
        ),
        lambda: gateway.IntroduceManifestRequest(
            host="team",
            incarnation=INCARNATION,
            digest="sha256:" + "0" * 64,
            manifest_json_zlib=zlib.compress(b"x" * 999)[:-6],
        ),
    ],
    ids=["digest", "digest form", "no json", "no object", "deep", "other host", "bomb", "no zlib", "cut"],
)
async def test_a_manifest_that_is_not_what_it_says_is_refused(
    world: World, make: Callable[[], gateway.IntroduceManifestRequest]
) -> None:
    """Digest, form, size and owner are checked before anything is kept; nobody waits for it any longer."""
    session = Session(world)
    await session.attach(heartbeat={"loading": True})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.gateway.IntroduceManifest(make(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(world.catalogue.hosts()) == []
    assert world.sessions.loading() == []
    session.call.cancel()


async def test_a_bad_manifest_whose_host_has_left_is_no_error_of_the_kernel(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal reaches nobody and is no error; the next manifest of the host is opened as ever."""
    session = Session(world)
    await session.attach()
    long_list = packed(b"[" + b"1," * 900_000 + b"1]")
    for seconds in (0.01, 0.02, 0.04, 0.08):
        with pytest.raises(grpc.aio.AioRpcError):
            await world.gateway.IntroduceManifest(long_list, timeout=seconds)
    assert (await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=20)).current
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    session.call.cancel()


async def test_a_manifest_becomes_the_catalogue_once(world: World) -> None:
    """A new digest or an explicit reload counts, a known one changes nothing; changes become events."""
    session = Session(world)
    await session.attach()
    old, new = packed(manifest("a", "b")), packed(manifest("b", "c"))
    assert (await world.gateway.IntroduceManifest(old, timeout=10)).current
    assert (await world.gateway.IntroduceManifest(new, timeout=10)).current
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["b", "c"]
    assert not (await world.gateway.IntroduceManifest(old, timeout=10)).current
    assert (await world.gateway.IntroduceManifest(packed(manifest("a", "b"), explicit=True), timeout=10)).current
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["a", "b"]
    events = world.feed.tail_after(0, limit=999) or []
    told = [(each.kind, each.job_id, each.data.get("change")) for each in events if each.kind == "job.changed"]
    assert told[:2] == [("job.changed", "a", "added"), ("job.changed", "b", "added")]
    assert ("job.changed", "a", "removed") in told
    assert sum(each.kind == "host.manifest" for each in events) == 3
    session.call.cancel()


async def test_an_instance_with_older_code_changes_nothing_of_the_catalogue(world: World) -> None:
    """Nor does one that was started for an attempt, whatever it brings, beside the one that serves the catalogue."""
    first, restarted, own = Session(world), Session(world), Session(world)
    await first.attach()
    for body in (manifest("old"), manifest("new")):
        assert (await world.gateway.IntroduceManifest(packed(body), timeout=10)).current
    await restarted.attach(incarnation="incarnation-2")
    await own.attach(incarnation="incarnation-3", for_attempt=KEY)
    old, other = packed(manifest("old")), packed(manifest("other"), explicit=True)
    old.incarnation, old.loaded_at_us = "incarnation-2", 2**52  # in a hundred years
    other.incarnation = "incarnation-3"
    for request in (old, other):
        assert not (await world.gateway.IntroduceManifest(request, timeout=10)).current
    assert [job.job_id for job in world.catalogue.jobs() if not job.removed] == ["new"]
    old.incarnation = INCARNATION  # an edit that was reverted
    assert (await world.gateway.IntroduceManifest(old, timeout=10)).current
    for session in (first, restarted, own):
        session.call.cancel()


async def test_a_job_id_of_another_host_disables_that_one_job(world: World) -> None:
    """The rest of the manifest serves; when the owner is forgotten its ids are free for an explicit reload."""
    first, second = Session(world), Session(world)
    await first.attach()
    await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=10)
    await second.attach(host="other", incarnation="incarnation-2")
    request = packed(manifest("a", "z", host="other"))
    request.host, request.incarnation = "other", "incarnation-2"
    assert list((await world.gateway.IntroduceManifest(request, timeout=10)).disabled_job_ids) == ["a"]
    jobs = (await world.client.ListJobs(kernel.ListJobsRequest(), timeout=10)).jobs
    assert [(job.job_id, job.host, job.owner, job.valid) for job in jobs] == [
        ("a", "team", "team", True),
        ("a", "other", "team", False),
        ("z", "other", "other", True),
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.ForgetHost(kernel.ForgetHostRequest(host="team"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    first.say(None)
    await eventually(lambda: world.sessions.hosts() == ["other"])
    released = (await world.client.ForgetHost(kernel.ForgetHostRequest(host="team"), timeout=10)).released_job_ids
    assert list(released) == ["a"]
    for explicit in (False, True):
        assert world.catalogue.job("a") is None
        request.explicit = explicit
        await world.gateway.IntroduceManifest(request, timeout=10)
    known = world.catalogue.job("a")
    assert known is not None
    assert (known.host, known.valid) == ("other", True)
    second.call.cancel()


async def test_a_manifest_of_an_instance_that_is_not_attached_is_refused(world: World) -> None:
    """A manifest without a session of its host is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
