"""Sessions over TCP: both sides prove themselves, nothing is said to anybody else, certificates are renewed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, abort_with
from msgspec import structs
from session_steps import MakeGateway, MakeHost

from certificate_authority import Authority
from host_identities import identity_of, joined
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.process.errors import NotJoined
from real_system import free_ports
from waiting import eventually

Serve = Callable[..., Awaitable[FakeGateway]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make the kernel's own authority."""
    return Authority(tmp_path)


@pytest.fixture
async def serve(tmp_path: Path, authority: Authority) -> AsyncIterator[Serve]:
    """Serve hosts as a kernel does: with a certificate, and for certificates only; without TLS if nobody issued one."""
    made: list[FakeGateway] = []

    async def start(
        port: int, *, by: Authority | None = authority, names: tuple[str, ...] = ("127.0.0.1",)
    ) -> FakeGateway:
        credentials = None
        if by is not None:
            pair = by.issue(f"server{len(made)}", *names)
            credentials = grpc.ssl_server_credentials(
                [(pair.key.read_bytes(), pair.cert.read_bytes())], by.file.read_bytes(), require_client_auth=True
            )
        kernel = FakeGateway(tmp_path / "unused")
        made.append(kernel)
        await kernel.start(f"127.0.0.1:{port}", credentials)
        return kernel

    yield start
    for kernel in made:
        await kernel.kill()


async def test_nothing_is_said_to_who_cannot_prove_to_be_the_kernel(
    serve: Serve, host: MakeHost, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """V1: whoever has the kernel's port, with or without TLS, hears nothing; the host comes back to the real kernel."""
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    port = free_ports(1)
    mine = host(given=f"127.0.0.1:{port}", identity_file=joined(tmp_path, identity_of(authority, "demo")))
    with caplog.at_level(logging.WARNING):
        plain = await serve(port, by=None)
        await eventually(lambda: "does not speak TLS" in caplog.text)
        await plain.kill()
        false = await serve(port, by=stranger)
        await eventually(lambda: "is not the kernel that this side trusts" in caplog.text)
        await false.kill()
        # Another host's certificate, by the right authority, makes nobody the kernel.
        other = await serve(port, names=("another.example.org",))
        await eventually(lambda: "is for another name" in caplog.text)
        await other.kill()
    for kernel in (plain, false, other):
        assert (kernel.sessions, kernel.metadata) == ([], [])
    real = await serve(port)
    await real.session()
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert "authorization" not in real.metadata[-1]


async def test_a_kernel_on_tcp_needs_an_identity(host: MakeHost) -> None:
    """A host without one ends and says how to join."""
    mine = host(given="127.0.0.1:9")
    with pytest.raises(NotJoined, match="--join") as raised:
        await asyncio.wait_for(mine.task, 30)
    assert raised.value.exit_code == 78


async def test_a_refused_certificate_is_told_and_tried_again(
    serve: Serve, host: MakeHost, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Revoked: the log names the certificate and the command that mends it. Expired: the connection ends at once."""
    port = free_ports(1)
    identity = identity_of(authority, "demo")
    file = joined(tmp_path, identity)
    kernel = await serve(port)

    async def refuse(_: pb.Hello, context: Any) -> None:
        await abort_with(context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")

    kernel.on_attach = refuse
    with caplog.at_level(logging.WARNING):
        mine = host(given=f"127.0.0.1:{port}", identity_file=file)
        await eventually(
            lambda: f"{identity.serial} of host demo" in caplog.text and "Z, may have expired or been" in caplog.text
        )
        assert "nomaflow token create --host demo" in caplog.text
        assert "this is not the kernel's port for hosts" in caplog.text
        await mine.close()
        kernel.on_attach = None
        expired = identity_of(authority, "demo", begins_in=timedelta(days=-31), ends_in=timedelta(days=-1))
        file.write(expired)
        host(given=f"127.0.0.1:{port}", identity_file=file)
        await eventually(lambda: f"does not accept the certificate {expired.serial}" in caplog.text)
        assert f"good until {expired.good_until}; if that persists, join again" in caplog.text
    file.write(identity)
    await kernel.session()


async def test_the_certificate_is_renewed_on_the_session(
    serve: Serve,
    host: MakeHost,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At two thirds of its life, with a new key; what the kernel refuses is tried again.

    Then a session begins that shows the new one: with the old one it would end as refused when that expires.
    """
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("nomaflow_host.session.renewing._SOON_SECONDS", 1.0)
    port = free_ports(1)
    first = identity_of(authority, "demo", begins_in=timedelta(seconds=-180), ends_in=timedelta(seconds=60))
    file = joined(tmp_path, first)
    kernel = await serve(port)
    (tmp_path / "next").mkdir()
    authorities = Authority(tmp_path / "next").file.read_text() + authority.file.read_text()
    asked: list[bytes] = []
    shown: list[bytes] = []

    async def attach(_: pb.Hello, context: Any) -> None:
        shown.extend(context.auth_context()["x509_pem_cert"])

    async def renew(request: pb.RenewCertificateRequest, context: Any) -> pb.RenewCertificateResponse:
        asked.append(b"".join(context.auth_context()["x509_subject_alternative_name"]))
        if len(asked) == 1:
            await abort_with(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA")
        file.keep_addresses(("tls://127.0.0.2:9",))  # as another instance of the host does
        certificate = authority.sign_host(request.csr_pem, "demo")
        return pb.RenewCertificateResponse(certificate_pem=certificate, authorities_pem=authorities)

    kernel.on_renew = renew
    kernel.on_attach = attach
    host(given=f"127.0.0.1:{port}", identity_file=file)
    await kernel.session()
    await eventually(lambda: file.read().serial != first.serial)
    after = file.read()
    await eventually(lambda: len(shown) == 2)
    assert [each.strip() for each in shown] == [each.certificate.strip().encode() for each in (first, after)]
    assert len(asked) == 2
    assert asked[0] == b"nomaflow:host:demo"
    assert after.key != first.key
    assert after.addresses == ("tls://127.0.0.2:9",)
    assert after.authorities == authorities
    assert after.expires_at - time.time() > 29 * 86_400
    assert "could not be renewed, trying again" in caplog.text
    assert "QUOTA" in caplog.text
    assert "no session" not in caplog.text


async def test_the_next_connection_shows_the_renewed_certificate(
    serve: Serve, host: MakeHost, authority: Authority, tmp_path: Path
) -> None:
    """Files are read anew each time: an authority that is replaced between two connections is no obstacle."""
    port = free_ports(1)
    file = joined(tmp_path, identity_of(authority, "demo"))
    kernel = await serve(port)
    mine = host(given=f"127.0.0.1:{port}", identity_file=file)
    await kernel.session()
    (tmp_path / "next").mkdir()
    successor = Authority(tmp_path / "next")
    file.write(identity_of(successor, "demo"))
    await kernel.kill()
    again = await serve(port, by=successor)
    await again.session()
    await asyncio.wait_for(mine.session.attached.wait(), 30)


async def test_addresses_that_a_kernel_tells_take_nothing_away(
    serve: Serve, host: MakeHost, authority: Authority, tmp_path: Path
) -> None:
    """A host still finds its kernel after that has named useless addresses: known good ones are kept."""
    port = free_ports(3)
    own, wrong, other = (f"tls://127.0.0.1:{port + number}" for number in range(3))
    file = joined(tmp_path, structs.replace(identity_of(authority, "demo"), addresses=(other, own)))
    kernel = await serve(port)
    kernel.welcome["addresses"] = [wrong, "unix:/tmp/kernel.sock", "kernel.example.org"]
    host(identity_file=file)
    await eventually(lambda: file.read().addresses == (wrong, own, other))
    await kernel.kill()
    again = await serve(port)
    again.welcome["addresses"] = [f"tls://127.0.0.1:{port + number}" for number in range(1, 20)]
    await eventually(lambda: len(file.read().addresses) > 3)
    assert len(file.read().addresses) == 8
    assert own in file.read().addresses


async def test_addresses_that_a_person_gives_stay_alone(
    serve: Serve, host: MakeHost, authority: Authority, tmp_path: Path
) -> None:
    """A host that is told where to look keeps nothing else."""
    port = free_ports(1)
    file = joined(tmp_path, identity_of(authority, "demo"))
    kernel = await serve(port)
    kernel.welcome["addresses"] = ["tls://127.0.0.2:9"]
    mine = host(given=f"127.0.0.1:{port}", identity_file=file)
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert file.read().addresses == ("tls://127.0.0.1:9",)


async def test_only_a_kernel_that_has_proved_itself_tells_addresses(
    serve: Serve, host: MakeHost, gateway: MakeGateway, authority: Authority, tmp_path: Path
) -> None:
    """On a Unix socket, to which a kernel that stands by may send a host, nothing proves which kernel it is."""
    own = f"tls://127.0.0.1:{free_ports(1)}"
    file = joined(tmp_path, structs.replace(identity_of(authority, "demo"), addresses=(own,)))
    local = await gateway(addresses=["tls://127.0.0.2:9"])

    async def stand_by(_: pb.Hello, context: Any) -> None:
        await abort_with(context, grpc.StatusCode.UNAVAILABLE, "NOT_LEADER", leader=f"unix:{local.path}")

    kernel = await serve(int(own.rpartition(":")[2]))
    kernel.on_attach = stand_by
    mine = host(identity_file=file)
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert mine.session.address == f"unix:{local.path}"
    assert file.read().addresses == (own,)
