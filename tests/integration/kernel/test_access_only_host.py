"""Calls about a host that name none."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from access_world import AccessWorld

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
    for name, call, told in (
        ("wide", "ListCallables", "there are several hosts, name one of them: 'teama', 'teamb'"),
        ("wide", "ReloadHost", "there are several hosts, name one of them: 'teama', 'teamb'"),
        ("blind", "ListCallables", "there is no host that you may see; name the one that you mean"),
        ("blind", "ReloadHost", "there is no host that you may see and operate; name the one that you mean"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_(name)(call)
        assert (caught.value.code(), caught.value.details()) == (_CODE.INVALID_ARGUMENT, told)
    assert await world.as_("ben").code("ReloadHost") is _CODE.PERMISSION_DENIED
