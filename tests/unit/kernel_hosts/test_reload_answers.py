"""The answer to a reload names the jobs that the kernel has disabled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest
from gateway_session import INCARNATION, Session
from rpc_world import World
from test_gateway_manifests import manifest, packed

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.grants import Grant
from nomaflow_kernel.access.principals import Caller, Principal, PrincipalKind
from nomaflow_kernel.domain.errors import KernelStopping
from nomaflow_kernel.hosts.reloading import reload_host
from nomaflow_kernel.rpc.job_problems import disabled_jobs
from waiting import eventually

GOOD = {"id": "good", "steps": [{"callable": "m:f"}]}
AIMED = {"id": "aimed", "host": "wlak", "steps": [{"callable": "m:f"}]}
NEVER_VALID = {"id": "never", "timout_seconds": 5, "steps": [{"callable": "m:f"}]}


def bringing(tables: Sequence[dict[str, Any]], *, host: str = "team") -> gateway.IntroduceManifestRequest:
    """Return the introduction of a manifest with these tables of jobs."""
    body = json.loads(manifest(host=host))
    body["job_files"][0]["tree"]["jobs"] = list(tables)
    return packed(json.dumps(body).encode())


async def reloaded(
    world: World, session: Session, *, digest: str, accepted: bool = True, host: str = "team", **loaded: Any
) -> kernel.ReloadOutcome:
    """Reload a host that answers at once."""
    asked = asyncio.ensure_future(world.client.ReloadHost(kernel.ReloadHostRequest(host=host), timeout=10))
    ((command,),) = await session.commands(1)
    result = gateway.ReloadResult(
        command_seq=command.command_seq, accepted=accepted, generation=2, manifest_digest=digest,
        loaded=gateway.Loaded(**loaded),
    )  # fmt: skip
    session.say(gateway.AttachRequest(reload_result=result))
    (outcome,) = (await asked).instances
    return outcome


async def test_a_reload_names_each_disabled_job_with_its_reason(world: World) -> None:
    """A host that accepts nothing and a job that was never valid are errors of the answer, with their place."""
    session = Session(world)
    await session.attach()
    request = bringing([GOOD, AIMED, NEVER_VALID])
    await world.gateway.IntroduceManifest(request, timeout=10)
    outcome = await reloaded(world, session, digest=request.digest)
    assert outcome.accepted
    aimed, never = outcome.problems
    assert aimed.message == "job 'aimed' is disabled: no host 'wlak' accepts jobs of host 'team'"
    assert (aimed.severity, aimed.code, aimed.file, aimed.path) == (
        "error", "job_disabled", "jobs.toml", "jobs[1].host",
    )  # fmt: skip
    assert aimed.fix.startswith("to run it there:")
    assert never.message.startswith("job 'never' is disabled: ")
    assert "timout_seconds" in never.message
    session.call.cancel()


async def test_an_instance_that_leaves_during_a_reload_hides_no_other(world: World) -> None:
    """One that is scaled down, or whose machine is gone, does not make it seem that none is attached."""
    stays, leaves = Session(world), Session(world)
    await stays.attach()
    await leaves.attach(incarnation="incarnation-2")
    asked = asyncio.ensure_future(world.client.ReloadHost(kernel.ReloadHostRequest(host="team"), timeout=10))
    ((command,),) = await stays.commands(1)
    await leaves.commands(1)
    leaves.call.cancel()
    result = gateway.ReloadResult(command_seq=command.command_seq, accepted=True, generation=2)
    stays.say(gateway.AttachRequest(reload_result=result))
    assert [outcome.incarnation for outcome in (await asked).instances] == [INCARNATION]
    again = asyncio.ensure_future(world.client.ReloadHost(kernel.ReloadHostRequest(host="team"), timeout=10))
    await stays.commands(1)
    stays.call.cancel()
    with pytest.raises(grpc.aio.AioRpcError, match="no instance of host 'team' is attached"):
        await again


async def test_a_reload_of_a_kernel_that_stops_is_not_told_that_the_host_is_away(world: World) -> None:
    """It is attached, and goes to the kernel that leads next, where the reload is to be asked for again."""
    session = Session(world)
    await session.attach()
    asked = asyncio.ensure_future(world.client.ReloadHost(kernel.ReloadHostRequest(host="team"), timeout=10))
    await session.commands(1)
    world.sessions.stop()
    with pytest.raises(grpc.aio.AioRpcError, match="the kernel is stopping") as caught:
        await asked
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(KernelStopping):
        await reload_host(world.sessions, "team", force=False)


async def test_a_reload_names_what_all_of_the_host_brought_before_and_no_more(world: World) -> None:
    """A host that has started upon a broken file knows nothing of the jobs before; the kernel does."""
    session = Session(world)
    await session.attach()
    await world.gateway.IntroduceManifest(bringing([GOOD, {**GOOD, "id": "old"}]), timeout=10)
    asked = asyncio.ensure_future(world.client.ReloadHost(kernel.ReloadHostRequest(host="team"), timeout=10))
    ((command,),) = await session.commands(1)
    request = bringing([GOOD, {**GOOD, "id": "new"}])
    await world.gateway.IntroduceManifest(request, timeout=10)
    of_host = gateway.Loaded(added_job_ids=["good", "new"], added_count=2, stopped_schedules=["good"], stopped_count=1)
    result = gateway.ReloadResult(
        command_seq=command.command_seq, accepted=True, generation=2, manifest_digest=request.digest, loaded=of_host
    )
    session.say(gateway.AttachRequest(reload_result=result))
    (outcome,) = (await asked).instances
    assert (list(outcome.removed_job_ids), outcome.removed_count) == (["old"], 1)
    assert (list(outcome.added_job_ids), outcome.added_count) == (["new"], 1)
    assert (list(outcome.stopped_schedules), outcome.stopped_count) == (["good"], 1)
    session.call.cancel()


async def test_a_reload_names_the_jobs_that_keep_their_last_good_definition(world: World) -> None:
    """A host that has started upon a broken file does not know that it ever was in order; the kernel does."""
    session = Session(world)
    await session.attach()
    for jobs in ([GOOD], [{**GOOD, "timout_seconds": 5}]):
        request = bringing(jobs)
        await world.gateway.IntroduceManifest(request, timeout=10)
    outcome = await reloaded(world, session, digest=request.digest)
    (kept,) = outcome.problems
    assert (outcome.accepted, kept.severity, kept.code, kept.file) == (True, "error", "job_kept", "jobs.toml")
    assert kept.message.startswith(f"job {GOOD['id']!r} keeps its last good definition: unknown key 'timout_seconds'")
    session.call.cancel()


async def test_only_the_manifest_that_was_loaded_counts(world: World) -> None:
    """A refused load, or a manifest other than the catalogue's, changes nothing about the catalogue's jobs."""
    session = Session(world)
    await session.attach()
    request = bringing([GOOD, AIMED])
    await world.gateway.IntroduceManifest(request, timeout=10)
    assert not (await reloaded(world, session, digest=request.digest, accepted=False)).problems
    assert not (await reloaded(world, session, digest="sha256:" + "0" * 64)).problems
    session.call.cancel()


async def test_an_id_of_another_host_is_told(world: World) -> None:
    """The answer names the owner of the id only to a caller who may see that host."""
    first, second = Session(world), Session(world)
    await first.attach()
    await world.gateway.IntroduceManifest(packed(manifest("a")), timeout=10)
    await second.attach(host="other", incarnation="incarnation-2")
    request = packed(manifest("a", host="other"))
    request.host, request.incarnation = "other", "incarnation-2"
    await world.gateway.IntroduceManifest(request, timeout=10)
    (problem,) = (await reloaded(world, second, digest=request.digest, host="other")).problems
    assert problem.message == "job 'a' is disabled: the id 'a' belongs to the host 'team'"
    (hidden,) = disabled_jobs(world.catalogue.jobs(), "other", _may("operate host:other"))
    assert hidden.message == "job 'a' is disabled: the id 'a' belongs to another host, or is not claimed"
    assert "team" not in hidden.fix
    (shown,) = disabled_jobs(world.catalogue.jobs(), "other", _may("read host:team"))
    assert shown == problem
    for session in (first, second):
        session.call.cancel()


async def test_a_reload_shows_the_warnings_of_the_jobs(world: World) -> None:
    """As `check` does: the author of an edit learns of them where it takes effect. Each names its job."""
    session = Session(world)
    await session.attach()
    capped = {"attempts": 3, "base_seconds": 100, "max_seconds": 10}
    request = bringing([GOOD, {"id": "capped", "retry": capped, "steps": [{"callable": "m:f"}]}])
    await world.gateway.IntroduceManifest(request, timeout=10)
    (problem,) = (await reloaded(world, session, digest=request.digest)).problems
    assert (problem.severity, problem.code, problem.path) == ("warning", "delay_capped", "jobs[1].retry.max_seconds")
    assert problem.message == "job 'capped': no delay is longer than 10 s, though base_seconds is 100"
    session.call.cancel()


async def test_many_disabled_jobs_are_counted(world: World) -> None:
    """The answer names 50 disabled jobs and counts the others; removed jobs are not among them."""
    session = Session(world)
    await session.attach()
    await world.gateway.IntroduceManifest(bringing([AIMED]), timeout=10)
    request = bringing([{**AIMED, "id": f"job-{number:03}"} for number in range(1_060)])
    await world.gateway.IntroduceManifest(request, timeout=10)
    problems = (await reloaded(world, session, digest=request.digest)).problems
    assert len(problems) == 51
    assert problems[0].message.startswith("job 'job-000' is disabled: ")
    assert problems[-1] == job_pb2.Problem(
        severity="error",
        code="job_disabled",
        message="1,010 more jobs are disabled",
        fix="see all: nomaflow jobs --all",
    )
    session.call.cancel()


async def test_the_numbers_of_jobs_are_passed_on(world: World) -> None:
    """The answer and the event of a load say how many jobs there are beside those that are named."""
    session = Session(world)
    await session.attach()
    told = {"removed_job_ids": ["a"], "removed_count": 60, "added_count": 70, "stopped_count": 80}
    outcome = await reloaded(world, session, digest="sha256:not the catalogue", **told)
    assert (outcome.removed_count, outcome.added_count, outcome.stopped_count) == (60, 70, 80)
    session.say(gateway.AttachRequest(load_state=gateway.LoadState(loaded=gateway.Loaded(**told))))
    await eventually(lambda: world.engine.loads)
    (load,) = world.engine.loads
    assert (load.removed_job_ids, load.removed_count, load.added_count, load.stopped_count) == (("a",), 60, 70, 80)
    session.call.cancel()


def _may(*grants: str) -> Caller:
    """Return a call of a user with these grants."""
    principal = Principal(kind=PrincipalKind.USER, name="ann", grants=tuple(map(Grant.parse, grants)))
    return Caller(principal=principal, peer="here")
