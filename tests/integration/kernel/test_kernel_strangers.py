"""Strangers at the TCP doors: what does not prove itself reaches no code of a service, and costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kernel_process import DEADLINE, ended, lasting_kernel

from certificate_authority import Authority
from doors import Doors, HostIdentity, create_token, doors_of, owner_channel, signing_request, tls_channel
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_kernel.network.authority import Authority as OwnAuthority
from raw_http2 import HEADERS, begin_call, calls_refused, greeted, received
from real_system import Running

_GET_KERNEL = "/nomaflow_api.v1.KernelService/GetKernel"
_HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Start a kernel with all doors on free loopback ports."""
    with lasting_kernel("--address", "tls://127.0.0.1:0", "--log-level", "DEBUG") as process:
        yield process


@pytest.fixture
def doors(running: Running) -> Doors:
    return doors_of(running)


@pytest.fixture
async def healthy(running: Running, doors: Doors) -> AsyncIterator[None]:
    """Check after a test that the kernel is as well as before, and that nothing went wrong in it."""
    yield
    async with owner_channel(doors) as channel:
        await KernelServiceStub(channel).GetKernel(kernel.GetKernelRequest(), timeout=DEADLINE)
    assert "Traceback" not in running.log


def served(running: Running) -> int:
    """Return how many calls have ended with an error so far: each that reached a service, or its guard, is logged."""
    return running.log.count(" ends with ")


async def refused(channel: grpc.aio.Channel, call: str = "GetKernel") -> str:
    """Try a call until the connection has failed for good; return what gRPC says of it."""
    async with channel:
        stub: Any = KernelServiceStub(channel)
        if call == "IntroduceManifest":
            stub = HostGatewayServiceStub(channel)
        request = kernel.GetKernelRequest() if call == "GetKernel" else gateway.IntroduceManifestRequest()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, call)(request, timeout=DEADLINE)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, caught.value
        return str(caught.value.details())


def certificate_for(authority: Authority, folder: Path, *, ends_in: timedelta = timedelta(days=1)) -> HostIdentity:
    pair = authority.issue("stranger", "localhost", ends_in=ends_in)
    return HostIdentity(key=pair.key.read_bytes(), certificate=pair.cert.read_bytes())


def of_this_kernel(running: Running) -> OwnAuthority:
    """Return the kernel's authority, as somebody who has stolen its folder: names and renewal stay as they are."""
    return OwnAuthority(running.project / ".nomaflow" / "pki", names=("127.0.0.1",))


@pytest.mark.usefixtures("healthy")
async def test_a_caller_that_trusts_somebody_else_says_nothing(running: Running, doors: Doors, tmp_path: Path) -> None:
    """A7: with an authority that did not sign the kernel's certificate, no call leaves the caller, at no door."""
    before = served(running)
    other = Authority(tmp_path).file.read_bytes()
    for address in (doors.clients, doors.joining, doors.hosts):
        assert "CERTIFICATE_VERIFY_FAILED" in (await refused(tls_channel(address, other))).upper()
    assert served(running) == before


@pytest.mark.usefixtures("healthy")
async def test_a_caller_that_meant_another_machine_says_nothing(running: Running, doors: Doors) -> None:
    """A7: the name that was dialled is not in the certificate."""
    before = served(running)
    port = doors.clients.rpartition(":")[2]
    said = await refused(tls_channel(f"127.0.0.2:{port}", doors.authorities))
    assert "127.0.0.2" in said
    assert served(running) == before


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("kind", ["none", "self-signed", "other authority", "expired", "server's own"])
async def test_the_hosts_door_opens_only_for_a_good_certificate(
    running: Running, doors: Doors, tmp_path: Path, kind: str
) -> None:
    """A7: the handshake fails, so no code of ours runs, not even the guard."""
    before, identity = served(running), None
    if kind in ("self-signed", "other authority"):
        identity = certificate_for(Authority(tmp_path, kind), tmp_path)
    elif kind == "expired":
        key, request = signing_request()
        old = OwnAuthority(running.project / ".nomaflow" / "pki", names=("127.0.0.1",), now=lambda: time.time() - 40e5)
        identity = HostIdentity(key=key, certificate=old.sign_host(request, "teamb").chain_pem.encode())
    elif kind == "server's own":
        own = of_this_kernel(running)
        identity = HostIdentity(key=own.key.read_bytes(), certificate=own.cert.read_bytes())
    await refused(tls_channel(doors.hosts, doors.authorities, identity=identity), "IntroduceManifest")
    assert served(running) == before


@pytest.mark.usefixtures("healthy")
async def test_a_certificate_that_the_kernel_never_gave_is_nobody(running: Running, doors: Doors) -> None:
    """Whoever stole the authority's key gets past the handshake, and no further: the serial is unknown."""
    key, request = signing_request()
    forged = of_this_kernel(running).sign_host(request, "teamb").chain_pem.encode()
    async with tls_channel(
        doors.hosts, doors.authorities, identity=HostIdentity(key=key, certificate=forged)
    ) as channel:
        stub: Any = HostGatewayServiceStub(channel)
        manifest = gateway.IntroduceManifestRequest()
        for call in (stub.IntroduceManifest(manifest, timeout=DEADLINE), stub.Attach(iter(()), timeout=DEADLINE)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call.read() if hasattr(call, "read") else call)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls_ends_at_the_handshake(running: Running, doors: Doors, version: ssl.TLSVersion) -> None:
    """A7: TLS 1.0 and 1.1 get no further, at no door."""
    before = served(running)
    for address in (doors.clients, doors.hosts, doors.joining):
        assert "Error" in await asyncio.to_thread(_handshake, address, doors, version)
    assert await asyncio.to_thread(_handshake, doors.clients, doors, ssl.TLSVersion.TLSv1_2) == "welcome"
    assert served(running) == before


def _handshake(address: str, doors: Doors, version: ssl.TLSVersion) -> str:
    context = ssl.create_default_context(cadata=doors.authorities.decode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as raw:
        try:
            context.wrap_socket(raw, server_hostname=host).close()
        except OSError as error:
            return type(error).__name__
    return "welcome"


@pytest.mark.usefixtures("healthy")
async def test_plaintext_is_cut_off(running: Running, doors: Doors) -> None:
    """A7: gRPC without TLS, HTTP and noise get nothing, on loopback too."""
    before = served(running)
    for address in (doors.clients, doors.hosts, doors.joining):
        await refused(grpc.aio.insecure_channel(address))
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", os.urandom(4096)):
            assert await asyncio.to_thread(_answer, address, noise) in (b"", None)
    assert served(running) == before


def _answer(address: str, noise: bytes) -> bytes | None:
    """Return what a door answers to noise, without what TLS itself says; None if it only cuts the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as raw:
        try:
            raw.sendall(noise)
            said = raw.recv(65_536)
        except OSError:
            return None
    return b"" if said[:1] == b"\x15" else said  # an alert


def calls_without_bodies(channel: grpc.aio.Channel, method: str, count: int, **options: Any) -> list[Any]:
    """Begin calls whose requests never come."""

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    begin = channel.stream_unary(method, request_serializer=None, response_deserializer=None)
    return [begin(never(), timeout=60, **options) for _ in range(count)]


@pytest.mark.usefixtures("healthy")
async def test_a_caller_is_known_before_its_request_is_waited_for(doors: Doors) -> None:
    """V4: a call without a good token is refused for that, although its request never comes."""
    metadata = (("authorization", "Bearer nft1." + "x" * 43),)
    async with tls_channel(doors.clients, doors.authorities) as channel:
        for call in calls_without_bodies(channel, _GET_KERNEL, 400, metadata=metadata):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.usefixtures("healthy")
async def test_a_request_that_never_comes_ends_its_call(doors: Doors) -> None:
    """V4: what is open to strangers has a time limit too, and few of them are waited for at once; others are served."""
    async with tls_channel(doors.clients, doors.authorities) as channel:
        begun = time.monotonic()
        calls = calls_without_bodies(channel, _HEALTH, 150)
        codes = [await call.code() for call in calls]
        assert 4 < time.monotonic() - begun < 40
        waited, refused = map(codes.count, (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED))
        assert (waited + refused, waited >= 100, refused > 0) == (150, True, True), (waited, refused)
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)).status == 1


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("door", ["clients", "hosts", "joining"])
async def test_a_method_whose_name_is_no_text_ends_no_call_but_its_own(
    running: Running, doors: Doors, tmp_path: Path, door: str
) -> None:
    """gRPC's server ends with such a call. Ours says that there is no such method, and the door stays open."""
    identity = None
    if door == "hosts":
        key, request = signing_request()
        signed = of_this_kernel(running).sign_host(request, "teamb").chain_pem.encode()
        identity = HostIdentity(key=key, certificate=signed)
    with greeted(getattr(doors, door), doors, tmp_path, identity=identity) as connection:
        connection.sendall(begin_call(1, b"/\xff") + begin_call(3, _HEALTH.encode() + b"\xc3"))
        assert await asyncio.to_thread(received, connection, [HEADERS, HEADERS]) == [1, 3]
    async with tls_channel(getattr(doors, door), doors.authorities, identity=identity) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)).status == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/nomaflow_api.v1.KernelService/Later")(b"", timeout=DEADLINE)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.usefixtures("healthy")
async def test_a_header_that_is_no_text_is_not_in_the_log(running: Running, doors: Doors, tmp_path: Path) -> None:
    """A token with one wrong byte is still a secret, and a stranger could fill the disk with headers of 8 kB."""
    with greeted(doors.clients, doors, tmp_path) as connection:
        shown = (b"authorization", b"Bearer nft1.nearly-a-token\xff")
        connection.sendall(begin_call(1, _GET_KERNEL.encode(), shown) + begin_call(3, _HEALTH.encode(), shown))
        await asyncio.to_thread(received, connection, [HEADERS, HEADERS])
    assert "nearly-a-token" not in running.log


@pytest.mark.usefixtures("healthy")
async def test_an_answer_that_is_never_taken_counts_as_a_call(doors: Doors, tmp_path: Path) -> None:
    """V4: strangers who let their answers wait use up what strangers have, and nothing of the callers with tokens."""
    token = await create_token(doors, kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["viewer"])
    calls = b"".join(begin_call(2 * number + 1, _HEALTH.encode()) for number in range(500))
    without_answer = 0
    with contextlib.ExitStack() as stack:
        for _ in range(5):  # more than the door's calls at once
            connection = stack.enter_context(greeted(doors.clients, doors, tmp_path, window=0))
            connection.sendall(calls)
            # The first 100 get their headers, and nothing else; the rest is refused.
            without_answer += await asyncio.to_thread(calls_refused, connection, 500)
        assert without_answer >= 1500  # not the 500 of the first connections alone
        async with tls_channel(doors.clients, doors.authorities) as channel:
            metadata = (("authorization", f"Bearer {token}"),)
            stub: Any = KernelServiceStub(channel)
            await stub.GetKernel(kernel.GetKernelRequest(), metadata=metadata, timeout=DEADLINE)


@pytest.mark.usefixtures("healthy")
async def test_a_door_serves_its_own_services_only(doors: Doors) -> None:
    """A8: at every door a caller without its credential is refused, whichever service it asks."""
    async with (
        tls_channel(doors.clients, doors.authorities) as clients,
        tls_channel(doors.joining, doors.authorities) as joining,
    ):
        for channel, stub, call, request in (
            (clients, HostGatewayServiceStub, "IntroduceManifest", gateway.IntroduceManifestRequest()),
            (joining, KernelServiceStub, "GetKernel", kernel.GetKernelRequest()),
            (joining, HostGatewayServiceStub, "IntroduceManifest", gateway.IntroduceManifestRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await getattr(stub(channel), call)(request, timeout=DEADLINE)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("flags", "said", "lines"),
    [
        (("--address", "http://0.0.0.0:0"), "write tls://", 3),
        (("--address", "plaintext://127.0.0.1:0"), "write tls://", 3),
        (("--address", "tls://127.0.0.1:65535"), "give listen_hosts", 3),
        (("--address", "127.0.0.1:7001,127.0.0.1:7002"), "two doors have the address", 3),
        (("--address", "127.0.0.1:0", "--listen-hosts", "unix:/tmp/x"), "write tls://HOST:PORT", 3),
        (("--address", "127.0.0.1:0", "--tls-ca", "ca.pem"), "tls_cert is not", 3),
        (("--tls-cert", "a", "--tls-key", "b"), "none of the addresses", 3),
    ],
)
async def test_an_address_that_cannot_be_served_safely_is_refused(
    project: Path, flags: tuple[str, ...], said: str, lines: int
) -> None:
    """A9: exit 78 and one line, or place, problem and way out, before anything is listened on or written."""
    code, text = await ended("--project", str(project), *flags)
    assert (code, text.count("\n")) == (78, lines), text
    assert said in text
    assert not (project / ".nomaflow" / "kernel.db").exists()


async def test_an_authority_that_others_could_read_is_not_used(project: Path) -> None:
    """A9: exit 78 naming the file and the rule, before anything is listened on."""
    OwnAuthority(project / ".nomaflow" / "pki")
    (project / ".nomaflow" / "pki" / "authority.pem").chmod(0o644)
    code, text = await ended("--project", str(project), "--address", "tls://0.0.0.0:0")
    assert (code, text.count("\n")) == (78, 1), text
    assert "chmod 600" in text
    assert not (project / ".nomaflow" / "kernel.db").exists()


@pytest.mark.parametrize("name", ["token", "host-token"])
async def test_what_is_left_of_the_shared_tokens_is_named_with_what_replaces_it(project: Path, name: str) -> None:
    """A key of nomaflow.toml or a variable ends the start: nobody should count on them."""
    key = f"{name.replace('-', '_')}_file"
    (project / "nomaflow.toml").write_text(f'[kernel]\n{key} = "x"\n')
    code, text = await ended("--project", str(project))
    assert (code, text.count("\n")) == (78, 3), text
    assert f"nomaflow.toml:2: kernel › {key}" in text
    assert "nomaflow token create" in text
    (project / "nomaflow.toml").unlink()
    code, text = await ended("--project", str(project), environ={f"NOMAFLOW_KERNEL_{key.upper()}": "x"})
    assert (code, "nomaflow token create" in text) == (78, True), text
