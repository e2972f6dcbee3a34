"""A launcher at the doors of a real kernel: it lets single instances join, and declares that one has ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from access_world import AccessWorld
from cryptography import x509
from kernel_process import ScriptedHost, started

from doors import HostIdentity, join_as_host, signing_request, tls_channel
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.letter_words import VerdictAction
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_api.v1.reason_statuses import read_details
from nomaflow_api.v1.sealing import open_verdicts

DENIED, OK = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.OK
EVIDENCE = "Slurm job 12 is TIMEOUT, and its processes were in a cgroup"
ROLES = {"launch-a": "launcher host:teama", "launch-b": "launcher host:teamb", "watcher": "operator"}


@pytest.fixture
async def world(world: AccessWorld) -> AccessWorld:
    """Give each of the two teams a launcher."""
    for name, role in ROLES.items():
        await world.join(name, kind="service", roles=[role])
    return world


async def _launched(world: AccessWorld, **fields: Any) -> tuple[str, str, HostIdentity]:
    """Let an instance of team a join; return its name, the secret of its string and its identity."""
    answer = await world.as_("launch-a")("InviteInstance", host="teama", **fields)
    string = JoinString.decode(answer.secret)
    assert (string.kind, string.name) == ("host", "teama")
    identity, enrolled = await join_as_host(world.doors, string.secret)
    assert enrolled.instance == answer.token.token_id
    return answer.token.token_id, string.secret, identity


async def _attached(world: AccessWorld, stack: AsyncExitStack, identity: HostIdentity) -> ScriptedHost:
    channel = tls_channel(world.doors.hosts, world.doors.authorities, identity=identity)
    stack.push_async_callback(channel.close)
    host = ScriptedHost(name="teama")
    await host.attach(channel)
    stack.push_async_callback(host.leave)
    return host


async def test_a_string_lets_one_instance_join_once_until_its_end(world: AccessWorld) -> None:
    """Its certificate lasts as long as the launcher has said, a second use is refused, and nothing renews it."""
    _, secret, identity = await _launched(world, instance_seconds=7200)
    leaf = x509.load_pem_x509_certificates(identity.certificate)[0]
    left = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert round(left.total_seconds()) == 2 * 86_400 + 7200
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await join_as_host(world.doors, secret)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with tls_channel(world.doors.hosts, world.doors.authorities, identity=identity) as channel:
        stub: Any = HostGatewayServiceStub(channel)
        request = gateway.RenewCertificateRequest(csr_pem=signing_request()[1])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.RenewCertificate(request, timeout=20)
    assert caught.value.code() is DENIED
    assert "may not renew a certificate for one instance" in (caught.value.details() or "")


async def test_a_host_is_at_zero_while_its_launcher_asks(world: AccessWorld) -> None:
    """The launcher says so when it asks what waits; only one that may launch the host can."""
    async with AsyncExitStack() as stack:  # the kernel then knows the host
        await _attached(world, stack, (await _launched(world))[2])
    fields = {"launched_hosts": ["teama"], "launched_seconds": 60}
    assert await world.as_("watcher").code("ListWanted", **fields) is DENIED
    assert await world.as_("launch-b").code("ListWanted", **fields) is DENIED
    launched = [each.launched for each in (await world.as_("owner")("ListHosts")).hosts if each.name == "teama"]
    assert launched == [False]
    assert await world.as_("launch-a").code("ListWanted", **fields) is OK
    launched = [each.launched for each in (await world.as_("owner")("ListHosts")).hosts if each.name == "teama"]
    assert launched == [True]


async def test_one_instance_is_shut_out_alone_by_its_name(world: AccessWorld) -> None:
    """The audit tells the instances of a host apart; the one that is withdrawn loses its session, the other goes on."""
    async with AsyncExitStack() as stack:
        (one, _, first), (other, _, second) = await _launched(world), await _launched(world)
        gone, stays = await _attached(world, stack, first), await _attached(world, stack, second)
        both = {f"host:teama/{one}", f"host:teama/{other}"}
        async with asyncio.timeout(60):  # a row of the audit is written while its stream is answered
            while not both <= {row.principal for row in await _audit(world, "Attach")}:
                pass
        assert await world.as_("owner").code("RevokeTokens", target=f"host:teama/{one}") is OK
        async with asyncio.timeout(60):
            code, _ = await gone.ended()
        assert code is grpc.StatusCode.UNAUTHENTICATED
        await stays.say(gateway.AttachRequest(heartbeat=gateway.Heartbeat(sent_at_us=7)))
        async with asyncio.timeout(60):
            while await stays.acks.get() != 7:
                pass


async def test_a_launcher_acts_for_the_hosts_in_its_scope_only(world: AccessWorld) -> None:
    """Another team's host is as good as none, and no role but launcher and admin has the verb."""
    ask, told = {"host": "teama"}, {"host": "teama", "incarnation": "f" * 32, "evidence": EVIDENCE}
    for name, want in (
        ("launch-a", OK), ("admin", OK), ("launch-b", DENIED), ("watcher", DENIED), ("ann", DENIED), ("one", DENIED),
    ):  # fmt: skip
        assert await world.as_(name).code("InviteInstance", **ask) is want, name
        assert await world.as_(name).code("DeclareEnded", **told) is want, name
    assert await world.as_("launch-a").code("InviteInstance", host="nobody") is DENIED
    assert await world.as_("launch-a").code("CreateToken", kind=3, name="teama", joins=True) is DENIED
    no_evidence = {**told, "evidence": " "}
    assert await world.as_("launch-a").code("DeclareEnded", **no_evidence) is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_invitation_names_the_field_of_its_request_that_is_wrong(world: AccessWorld) -> None:
    """The host's name is in the field `host` there, and in `name` of a request for a token."""
    for method, fields, wrong in (
        ("InviteInstance", {"host": "Team A"}, "host"),
        ("CreateToken", {"kind": 3, "name": "Team A"}, "name"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.as_("owner")(method, **fields)
        assert (caught.value.details() or "").startswith(f"{wrong} is 'Team A', expected the name of a host")
        assert list(read_details(caught.value.trailing_metadata()).fields) == [wrong]


async def test_a_declaration_reaches_no_instance_of_another_team(world: AccessWorld) -> None:
    """A declaration by that team's host or its own ends nothing; the run goes on; the team's launcher can end it."""
    host = world.hosts["a"]
    run_id = (await world.as_("owner")("TriggerRun", job_id="a.one", params_json=b'{"password": "x"}')).run_id
    order = await host.dispatched()
    await host.report(order.attempt_key, 1, started())
    theirs, told = world.as_("launch-b"), {"incarnation": host.incarnation, "evidence": EVIDENCE}
    assert await theirs.code("DeclareEnded", host="teama", **told) is DENIED
    assert not (await theirs("DeclareEnded", host="teamb", **told)).known
    assert (await world.as_("owner")("GetRun", run_id=run_id)).run.state == run_pb2.RUN_STATE_RUNNING
    answer = await world.as_("launch-a")("DeclareEnded", host="teama", **told)
    assert (answer.known, answer.attempts) == (True, 1)
    run = (await world.as_("owner")("GetRun", run_id=run_id)).run
    assert (run.state, run.reason.code) == (run_pb2.RUN_STATE_FAILED, "host_ended")
    assert EVIDENCE in run.reason.message
    (row,) = [
        row
        for row in await _audit(world, "DeclareEnded")
        if row.correlation == host.incarnation and row.seq > 0 and row.principal == "launch-a"
    ]
    assert (row.target, row.outcome, row.note) == ("host:teama", "ok", EVIDENCE)
    # It lives after all: it is told so, attaches again, and must kill what it holds.
    code, text = await host.ended()
    assert (code, EVIDENCE in text) == (grpc.StatusCode.ABORTED, True)
    held = InventoryLine(attempt_key=order.attempt_key)
    welcome = await host.attach(
        world.channel("owner"), inventory=[held], heartbeat={"generation": 1, "manifest_digest": "sha256:" + "0" * 64}
    )
    assert [verdict.action for verdict in open_verdicts(welcome.verdicts)] == [VerdictAction.KILL]


async def _audit(world: AccessWorld, action: str) -> list[access.AuditRow]:
    stub: Any = AccessServiceStub(world.channel("owner"))
    return [row async for answer in stub.ReadAudit(access.ReadAuditRequest(action=action)) for row in answer.rows]
