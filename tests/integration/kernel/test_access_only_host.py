"""Calls about a host that name none, and the words of refusals."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from access_world import AccessWorld

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway

_CODE = grpc.StatusCode


async def test_no_host_is_named_by_who_sees_only_one(world: AccessWorld) -> None:
    """The kernel takes the only host that the caller may see and use; otherwise it asks for a name."""
    assert (await world.as_("ben")("ListCallables")).host == "teamb"
    task = asyncio.create_task(world.as_("ann").code("ReloadHost"))
    while not (await asyncio.wait_for(world.hosts["a"].commands.get(), 20)).HasField("reload"):
        pass
    task.cancel()
    await world.join("wide", grants=("read *", "operate host:teamb", "operate host:teama"))
    await world.join("blind", grants=("operate host:teama", "read host:teamx"))
    await world.join("blindest", grants=("operate *", "logs host:teama"))
    for name, call, told in (
        ("wide", "ListCallables", "there are several hosts, name one of them: 'teama', 'teamb'"),
        ("wide", "ReloadHost", "there are several hosts, name one of them: 'teama', 'teamb'"),
        ("blind", "ListCallables", "there is no host that you may see; name the one that you mean"),
        ("blind", "ReloadHost", "there is no host that you may see and operate; name the one that you mean"),
        ("blindest", "ReloadHost", "there is no host that you may see and operate; name the one that you mean"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_(name)(call)
        assert (caught.value.code(), caught.value.details()) == (_CODE.INVALID_ARGUMENT, told)
    assert await world.as_("ben").code("ReloadHost") is _CODE.PERMISSION_DENIED


async def test_a_reload_names_the_jobs_of_the_host_to_who_may_see_them(world: AccessWorld) -> None:
    """A caller who may operate a host but not read it learns whether each instance has loaded its code, no more."""
    await world.join("hands", grants=("operate host:teama",))
    for name, seen in (("ann", True), ("hands", False)):
        task = asyncio.create_task(world.as_(name)("ReloadHost", host="teama"))
        while not (command := await asyncio.wait_for(world.hosts["a"].commands.get(), 20)).HasField("reload"):
            pass
        loaded = gateway.Loaded(generation=2, jobs=7, stopped_schedules=["a.two (night)"])
        problem = b'[{"severity": "warning", "code": "odd", "path": "jobs.a.one", "message": "x"}]'
        result = gateway.ReloadResult(
            command_seq=command.command_seq, accepted=True, generation=2, loaded=loaded, problems_json=problem
        )
        await world.hosts["a"].say(gateway.AttachRequest(reload_result=result))
        (outcome,) = (await task).instances
        assert (outcome.host, outcome.accepted, outcome.generation) == ("teama", True, 2)
        assert ("a.two" in str(outcome), "a.one" in str(outcome), outcome.jobs == 7) == (seen, seen, seen)


async def test_a_refusal_names_the_grant_that_is_missing(world: AccessWorld) -> None:
    """As it is written in a token; the act is in words."""
    await world.join("reader", grants=("read *", "logs job:a.two"))
    for call, fields, told in (
        ("InspectAttempt", {"run_id": world.runs["a"]}, "reader may not see the logs of run_"),
        ("ListTokens", {}, "reader may not call ListTokens, which needs the grant `admin`; "),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_("reader")(call, **fields)
        assert (caught.value.details() or "").startswith(told)
