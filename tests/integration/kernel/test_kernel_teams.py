"""Two teams on one kernel, each with a certificate of its own, one of them hostile: all over TLS, to a real process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from kernel_process import DEADLINE, ScriptedHost, finished, lasting_kernel, manifest, started, terminal

from doors import Doors, create_token, doors_of, join_as_host, owner_channel, tls_channel
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import AckStatus
from real_system import Running


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Start a kernel with all doors on free loopback ports."""
    with lasting_kernel("--address", "127.0.0.1:0") as process:
        yield process


@pytest.fixture
def doors(running: Running) -> Doors:
    """Return the doors of the kernel."""
    return doors_of(running)


@pytest.fixture
async def owner(doors: Doors) -> AsyncIterator[Any]:
    """Return the owner's stub."""
    async with owner_channel(doors) as channel:
        yield KernelServiceStub(channel)


async def _certified(doors: Doors, name: str) -> grpc.aio.Channel:
    """Return a channel to the hosts' door with a certificate for a name."""
    secret = await create_token(doors, kind=access.TOKEN_KIND_HOST, name=name)
    identity, _ = await join_as_host(doors, JoinString.decode(secret).secret)
    return tls_channel(doors.hosts, doors.authorities, identity=identity)


async def _refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    code: grpc.StatusCode = caught.value.code()
    return code


async def test_a_hostile_team_changes_nothing_of_another(running: Running, doors: Doors, owner: Any) -> None:
    """V2, V5, A4, A5: it can neither be the other team, nor speak for it, nor end it; the other's run succeeds."""
    denied = grpc.StatusCode.PERMISSION_DENIED
    of_a, of_b = await _certified(doors, "teama"), await _certified(doors, "teamb")
    b = ScriptedHost(name="teamb")
    await b.attach(of_b)
    asked = kernel.TriggerRunRequest(job_id="two")
    run_id = (await owner.TriggerRun(asked, timeout=DEADLINE)).run_id
    key = (await b.dispatched()).attempt_key
    await b.report(key, 1, started())

    before = (await owner.GetRun(kernel.GetRunRequest(run_id=run_id), timeout=DEADLINE)).run
    imitator = ScriptedHost(name="teamb")
    assert await _refused(imitator.attach(of_a)) is denied
    namesake = ScriptedHost(name="teama", incarnation=b.incarnation)
    await namesake.attach(of_a, heartbeat={"generation": 1})
    assert (await namesake.report(key, 2, finished(rows=666))).status is AckStatus.FENCED
    await namesake.leave()
    a = ScriptedHost(name="teama")
    body = {**manifest("teama"), "job_files": []}
    await a.attach(of_a, ended_incarnations=[b.incarnation], heartbeat={"generation": 1})
    await a.introduce(body)
    assert (await a.report(key, 2, finished(rows=666))).status is AckStatus.FENCED
    own, a.incarnation = a.incarnation, b.incarnation
    assert await _refused(a.report(key, 2, finished(rows=666))) is grpc.StatusCode.FAILED_PRECONDITION
    assert await _refused(a.introduce(manifest("teamb"))) is grpc.StatusCode.FAILED_PRECONDITION
    a.incarnation = own
    assert await _refused(a.introduce(manifest("teamb"))) is grpc.StatusCode.INVALID_ARGUMENT
    after = (await owner.GetRun(kernel.GetRunRequest(run_id=run_id), timeout=DEADLINE)).run
    assert after == before
    await b.report(key, 2, finished())
    second = (await b.dispatched()).attempt_key
    await b.report(second, 1, started(), finished())
    run = await terminal(owner, run_id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.rows_affected == 14
    assert "host:teama on here may not attach as host teamb" in running.log
    for host in (a, b):
        await host.leave()
    for channel in (of_a, of_b):
        await channel.close()
