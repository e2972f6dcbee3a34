"""The doors of a kernel: who joins gets a credential, and each credential opens its own door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from cryptography import x509
from google.protobuf import timestamp_pb2
from kernel_process import DEADLINE, KernelProcess, ScriptedHost, lasting_kernel, started

from cli_command import command_in
from doors import (
    Doors,
    HostIdentity,
    create_token,
    doors_of,
    join_as_host,
    owner_channel,
    signing_request,
    tls_channel,
)
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub, EnrolmentServiceStub
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.letter_words import AckStatus
from real_system import Running
from waiting import eventually

_HOST, _USER, _SERVICE = access.TOKEN_KIND_HOST, access.TOKEN_KIND_USER, access.TOKEN_KIND_SERVICE


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Start a kernel with all doors on free loopback ports."""
    with lasting_kernel("--address", "127.0.0.1:0") as process:
        yield process


@pytest.fixture
def doors(running: Running) -> Doors:
    return doors_of(running)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def host_string(doors: Doors, name: str, **fields: Any) -> JoinString:
    return JoinString.decode(await create_token(doors, kind=_HOST, name=name, **fields))


async def test_a_join_string_names_the_door_and_who_vouches_for_it(doors: Doors) -> None:
    string = await host_string(doors, "teama")
    assert string.at == (f"tls://{doors.joining}",)
    assert (string.kind, string.name) == ("host", "teama")
    assert string.authorities_pem.encode() == doors.authorities


async def test_a_host_joins_and_attaches_by_its_certificate_alone(running: Running, doors: Doors) -> None:
    identity, answer = await join_as_host(doors, (await host_string(doors, "teama")).secret)
    async with owner_channel(doors) as channel:
        found = await KernelServiceStub(channel).GetKernel(kernel.GetKernelRequest(), timeout=DEADLINE)
    assert (answer.name, tuple(answer.addresses)) == ("teama", (f"tls://{doors.hosts}",))
    assert (answer.kernel_id, answer.token) == (found.store_id, "")
    async with tls_channel(doors.hosts, identity.authorities, identity=identity) as channel:
        host = ScriptedHost(name="teama")
        assert (await host.attach(channel)).epoch == 1
        await host.leave()
    await eventually(lambda: "host 'teama' at ipv4:127.0.0.1:" in running.log)


async def test_a_user_joins_and_calls_by_the_token(doors: Doors) -> None:
    string = JoinString.decode(await create_token(doors, kind=_USER, name="alice", joins=True, roles=["viewer"]))
    async with tls_channel(doors.joining, string.authorities_pem.encode()) as channel:
        stub: Any = EnrolmentServiceStub(channel)
        answer = await stub.Enrol(access.EnrolRequest(secret=string.secret), timeout=DEADLINE)
    assert (answer.name, tuple(answer.addresses)) == ("alice", (f"tls://{doors.clients}",))
    assert answer.certificate_pem == ""
    async with tls_channel(doors.clients, answer.authorities_pem.encode()) as channel:
        client: Any = KernelServiceStub(channel)
        assert (await client.GetKernel(kernel.GetKernelRequest(), metadata=bearer(answer.token))).epoch == 1
        error = await refusal(client.Pause(kernel.PauseRequest(), metadata=bearer(answer.token)))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_every_way_to_fail_at_joining_reads_the_same(doors: Doors) -> None:
    """Used twice, unknown, endless, withdrawn, a token in place of a secret, and requests that it is not for."""
    used = await host_string(doors, "teamc")
    await join_as_host(doors, used.secret)
    withdrawn = await host_string(doors, "teamd")
    fresh = await host_string(doors, "teame", uses=9)
    token = await create_token(doors, kind=_SERVICE, name="ci", roles=["viewer"])
    async with owner_channel(doors) as channel:
        await AccessServiceStub(channel).RevokeTokens(access.RevokeTokensRequest(target="host:teamd"), timeout=DEADLINE)
    _, request = signing_request()
    said = set()
    async with tls_channel(doors.joining, doors.authorities) as channel:
        stub: Any = EnrolmentServiceStub(channel)
        for secret, csr in (
            (used.secret, request),
            (withdrawn.secret, request),
            ("unknown", request),
            ("", ""),
            ("x" * 60_000, request),
            (token, ""),
            (fresh.secret, ""),
            (fresh.secret, "no request"),
            (fresh.secret, request.replace("A", "B")),
        ):
            error = await refusal(stub.Enrol(access.EnrolRequest(secret=secret, csr_pem=csr), timeout=DEADLINE))
            said.add((error.code(), error.details()))
    assert len(said) == 1, said
    assert said.pop()[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_request_that_cannot_be_signed_does_not_use_up_the_string(doors: Doors) -> None:
    string = await host_string(doors, "teamf")
    async with tls_channel(doors.joining, doors.authorities) as channel:
        stub: Any = EnrolmentServiceStub(channel)
        await refusal(stub.Enrol(access.EnrolRequest(secret=string.secret, csr_pem="x"), timeout=DEADLINE))
    _, answer = await join_as_host(doors, string.secret)
    assert answer.name == "teamf"


async def test_a_request_that_is_not_for_the_string_does_not_use_it_up(doors: Doors) -> None:
    """A host's string without a signing request, and a user's with one: no row would say whose it was."""
    host = await host_string(doors, "teamg")
    user = JoinString.decode(await create_token(doors, kind=_USER, name="gina", joins=True, roles=["viewer"]))
    _, request = signing_request()
    async with tls_channel(doors.joining, doors.authorities) as channel:
        stub: Any = EnrolmentServiceStub(channel)
        for secret, csr in ((host.secret, ""), (user.secret, request)):
            error = await refusal(stub.Enrol(access.EnrolRequest(secret=secret, csr_pem=csr), timeout=DEADLINE))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await stub.Enrol(access.EnrolRequest(secret=user.secret), timeout=DEADLINE)).name == "gina"
    _, answer = await join_as_host(doors, host.secret)
    assert answer.name == "teamg"


async def test_two_who_use_one_string_at_once_do_not_both_join(doors: Doors) -> None:
    string = await host_string(doors, "teamg")
    outcomes = await asyncio.gather(*(join_as_host(doors, string.secret) for _ in range(8)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in outcomes) == 1


async def test_a_host_renews_its_certificate_for_its_own_name_only(doors: Doors) -> None:
    identity, _ = await join_as_host(doors, (await host_string(doors, "teamh")).secret)
    key, request = signing_request()
    async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
        stub: Any = HostGatewayServiceStub(channel)
        answer = await stub.RenewCertificate(gateway.RenewCertificateRequest(csr_pem=request), timeout=DEADLINE)
        error = await refusal(stub.RenewCertificate(gateway.RenewCertificateRequest(csr_pem="x"), timeout=DEADLINE))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("nomaflow:host:teamh")]
    assert answer.authorities_pem.encode() == doors.authorities
    renewed = HostIdentity(key=key, certificate=answer.certificate_pem.encode())
    async with tls_channel(doors.hosts, doors.authorities, identity=renewed) as channel:
        host = ScriptedHost(name="teamh")
        await host.attach(channel)
        await host.leave()
    async with owner_channel(doors) as channel:
        stub = HostGatewayServiceStub(channel)
        error = await refusal(stub.RenewCertificate(gateway.RenewCertificateRequest(csr_pem=request), timeout=DEADLINE))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED  # the owner's socket has no certificates


async def test_a_withdrawn_certificate_ends_its_session_and_opens_nothing(doors: Doors) -> None:
    """Within 5 s, although the handshake still takes it."""
    identity, _ = await join_as_host(doors, (await host_string(doors, "teami")).secret)
    async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
        host = ScriptedHost(name="teami")
        await host.attach(channel)
        async with owner_channel(doors) as own:
            request = access.RevokeTokensRequest(target="host:teami")
            await AccessServiceStub(own).RevokeTokens(request, timeout=DEADLINE)
        begun = time.monotonic()
        assert (await host.ended())[0] is grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - begun < 20
        _, csr = signing_request()
        stub: Any = HostGatewayServiceStub(channel)
        error = await refusal(stub.RenewCertificate(gateway.RenewCertificateRequest(csr_pem=csr), timeout=DEADLINE))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        await host.leave()


async def test_one_host_cannot_use_up_the_hosts_door(doors: Doors) -> None:
    """V4: a host with a good certificate opens streams on which nothing comes; another one is served meanwhile."""
    hostile, _ = await join_as_host(doors, (await host_string(doors, "teamj")).secret)
    good, _ = await join_as_host(doors, (await host_string(doors, "teamk")).secret)

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with (
        tls_channel(doors.hosts, doors.authorities, identity=hostile) as one,
        tls_channel(doors.hosts, doors.authorities, identity=hostile) as two,
        tls_channel(doors.hosts, doors.authorities, identity=good) as other,
    ):
        path = "/nomaflow_api.v1.HostGatewayService/StreamReports"
        calls = [channel.stream_unary(path)(never(), timeout=60) for channel in (one, two) for _ in range(300)]
        host = ScriptedHost(name="teamk")
        await host.attach(other)
        await eventually(lambda: sum(call.done() for call in calls) == 100)
        assert {await call.code() for call in calls if call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        await host.leave()


async def test_a_host_cannot_fill_the_history_with_its_loads(doors: Doors) -> None:
    """Each is an event of up to 60 KiB. Its session ends, and the next one may not begin with such a load either."""
    identity, _ = await join_as_host(doors, (await host_string(doors, "teaml")).secret)
    async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
        host = ScriptedHost(name="teaml")
        await host.attach(channel)
        for number in range(300):
            load = gateway.LoadState(refused=_refused_load(number))
            await host.say(gateway.AttachRequest(load_state=load))
        await host.ended()  # gRPC's client may lose the reason, since it was still writing

        async def begins_with_loads() -> None:
            for number in range(300, 310):  # one every five seconds is allowed, which a slow machine may notice
                await host.attach(channel, refused_load=_refused_load(number))
                await host.leave()

        error = await refusal(begins_with_loads())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "teaml calls LoadState more often" in str(error.details())
        await ScriptedHost(name="teaml").attach(channel)


async def test_a_request_is_not_kept_in_memory_once_it_is_answered(running: Running, doors: Doors) -> None:
    """Forty of 4 MB to each of two doors, none of which is any use: garbage would be collected after thousands."""
    identity, _ = await join_as_host(doors, (await host_string(doors, "teamm")).secret)
    process = psutil.Process(running.pid)
    async with tls_channel(doors.hosts, doors.authorities, identity=identity) as channel:
        manifest = gateway.IntroduceManifestRequest(incarnation="f" * 32, manifest_json_zlib=b"\xff" * 4_000_000)
        stub: Any = HostGatewayServiceStub(channel)
        before = process.memory_info().rss
        for _ in range(40):
            await refusal(stub.IntroduceManifest(manifest, timeout=DEADLINE))
    async with owner_channel(doors) as own:
        reader: Any = KernelServiceStub(own)
        for _ in range(40):
            await refusal(reader.WatchRun(kernel.WatchRunRequest(run_id="x" * 4_000_000), timeout=DEADLINE).read())
    assert process.memory_info().rss - before < 130 * 2**20


def _refused_load(number: int) -> job_pb2.RefusedLoad:
    return job_pb2.RefusedLoad(at=timestamp_pb2.Timestamp(seconds=number + 1), message="broken")


@pytest.fixture
async def process(project: Path) -> AsyncIterator[KernelProcess]:
    """Start a kernel with all doors, whose authority a test may replace."""
    kernel_process = KernelProcess(project=project, flags=("--address", "127.0.0.1:0"))
    try:
        yield await kernel_process.start()
    finally:
        await kernel_process.close()


async def test_a_session_goes_on_while_the_authority_is_replaced(process: KernelProcess) -> None:
    """A host that trusts only the first keeps its session, comes again, and learns of the others as it renews."""
    first = doors_of(process)
    identity, _ = await join_as_host(first, (await host_string(first, "teama")).secret)
    trusts_first = tls_channel(first.hosts, first.authorities, identity=identity)
    host = ScriptedHost(name="teama")
    await host.attach(trusts_first)
    async with owner_channel(first) as own:
        stub: Any = AccessServiceStub(own)
        before = (await stub.GetAuthority(access.GetAuthorityRequest(), timeout=DEADLINE)).authority
        for key in ("first", "first", "second"):  # a lost answer is asked for again
            request = access.RenewAuthorityRequest(replace=True, request_id=key)
            after = await stub.RenewAuthority(request, timeout=DEADLINE)
    assert after.authority.fingerprint != before.fingerprint
    assert after.authority.authorities_pem.count("BEGIN CERTIFICATE") == 3
    assert after.authority.authorities_pem.endswith(before.authorities_pem)
    assert (await host.report("run_none/a/1", 1, started())).status is AckStatus.FENCED
    async with tls_channel(first.hosts, first.authorities, identity=identity) as again:
        key, request = signing_request()
        stub = HostGatewayServiceStub(again)
        answer = await stub.RenewCertificate(gateway.RenewCertificateRequest(csr_pem=request), timeout=DEADLINE)
        assert answer.authorities_pem == after.authority.authorities_pem
    newest = answer.authorities_pem.partition("-----END CERTIFICATE-----\n")[0] + "-----END CERTIFICATE-----\n"
    renewed = HostIdentity(key=key, certificate=answer.certificate_pem.encode())
    async with tls_channel(first.hosts, newest.encode(), identity=renewed) as channel:
        other = ScriptedHost(name="teama")
        await other.attach(channel)
        await other.leave()
    await host.leave()
    await trusts_first.close()
    string = await host_string(first, "teamb")
    assert string.authorities_pem == newest
    await join_as_host(doors_of(process), string.secret)


async def test_an_authority_that_cannot_be_written_is_told_to_the_caller(process: KernelProcess) -> None:
    """It is no error of the kernel's own: the answer names the folder, and the pair that is served stays."""
    doors, folder = doors_of(process), process.project / ".nomaflow" / "pki"
    folder.rename(folder.with_name("away"))
    async with owner_channel(doors) as own:
        for replace in (False, True):
            error = await refusal(AccessServiceStub(own).RenewAuthority(access.RenewAuthorityRequest(replace=replace)))
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert (error.details() or "").startswith(f"cannot write this kernel's authority into '{folder}': no such")
    folder.with_name("away").rename(folder)
    await join_as_host(doors, (await host_string(doors, "teama")).secret)


async def test_the_next_start_knows_everybody(process: KernelProcess) -> None:
    """Tokens, certificates and the authority outlive the process."""
    doors = doors_of(process)
    identity, _ = await join_as_host(doors, (await host_string(doors, "teama")).secret)
    token = await create_token(doors, kind=_SERVICE, name="ci", roles=["viewer"])
    assert await process.stop() == 0
    await process.start()
    doors = doors_of(process)
    async with (
        tls_channel(doors.hosts, doors.authorities, identity=identity) as hosts,
        tls_channel(doors.clients, doors.authorities) as clients,
    ):
        host = ScriptedHost(name="teama")
        assert (await host.attach(hosts)).epoch == 2
        await host.leave()
        client: Any = KernelServiceStub(clients)
        assert (await client.GetKernel(kernel.GetKernelRequest(), metadata=bearer(token))).epoch == 2


async def test_a_kernel_on_its_socket_alone_has_no_authority_and_loads_none(project: Path) -> None:
    """No configuration stays no configuration: nothing is made, cryptography is not imported, and joining says so."""
    process = await KernelProcess(project=project).start()
    try:
        async with owner_channel_of(process) as channel:
            stub: Any = AccessServiceStub(channel)
            error = await refusal(stub.GetAuthority(access.GetAuthorityRequest(), timeout=DEADLINE))
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "tls://HOST:PORT" in (error.details() or "")
        assert not (project / ".nomaflow" / "pki").exists()
        assert process.process is not None
        maps = Path(f"/proc/{process.process.pid}/maps").read_text()
        assert "cryptography" not in maps
    finally:
        await process.close()


def owner_channel_of(process: KernelProcess) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(process.address)


async def test_pki_at_the_command_line(process: KernelProcess, tmp_path: Path) -> None:
    """Show, renew, replace and export, for the owner; without TCP each names the way out."""
    run = command_in(process.project)
    shown = await run("pki", "show")
    assert shown.code == 0, shown.err
    assert "sha256:" in shown.out
    assert "1 older still trusted" in (await run("pki", "replace")).out
    exported = await run("pki", "export", str(tmp_path / "authorities.pem"))
    assert exported.code == 0, exported.err
    assert (tmp_path / "authorities.pem").read_text().count("BEGIN CERTIFICATE") == 2
    assert '"own": true' in (await run("pki", "renew", "-o", "json")).out
