"""A kernel with a given certificate: accepted callers, refused ones with their reasons, and renewed certificates."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from kernel_process import DEADLINE, PATIENCE, KernelProcess, ScriptedHost, ended

from certificate_authority import Authority, Pair
from cli_command import command_in
from doors import create_token, doors_of, join_as_host, tls_channel
from nomaflow.client import ClientError, KernelClient, KernelUnreachable, NotTrusted, TriggerOrder
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_api.v1.reason_statuses import read_details
from postgres_server import SUPERUSER, PostgresServer
from waiting import eventually


@pytest.fixture
def authority(project: Path) -> Authority:
    """Make an authority."""
    return Authority(project)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """Have it issue the kernel's certificate."""
    return authority.issue("kernel", "127.0.0.1", "localhost")


@pytest.fixture
async def process(project: Path, pair: Pair) -> AsyncIterator[KernelProcess]:
    """Start a kernel with that certificate on free loopback ports."""
    (project / "jobs.toml").write_text('jobs = [{ id = "one", host = "team", steps = [{ callable = "a.b:c" }] }]\n')
    flags = ["--address", "tls://127.0.0.1:0", "--jobs", "jobs.toml", *pair.flags, "--tls-ca", "authority.pem"]
    kernel = KernelProcess(project=project, flags=flags)
    try:
        yield await kernel.start()
    finally:
        await kernel.close()


async def client(
    process: KernelProcess, *, address: str = "", ca: Path | None = None, connect_seconds: float = PATIENCE
) -> KernelClient:
    """Return a client that shows a good token at the clients' door."""
    doors = doors_of(process)
    token = await create_token(doors, kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["admin"])
    return KernelClient(address or f"tls://{doors.clients}", token=token, ca=ca, connect_seconds=connect_seconds)


def certificate_of(process: KernelProcess) -> Pair:
    """Return the files that a kernel was given."""
    return Pair(cert=process.project / "kernel.crt", key=process.project / "kernel.key")


def port_of(process: KernelProcess) -> int:
    """Return the port of the clients' door."""
    return int(doors_of(process).clients.rpartition(":")[2])


async def test_a_given_certificate_opens_to_those_who_trust_its_authority(
    process: KernelProcess, authority: Authority
) -> None:
    """Name and number are equally good, with or without the scheme; a token is wanted still."""
    port = port_of(process)
    for address in (f"tls://127.0.0.1:{port}", f"tls://localhost:{port}", f"127.0.0.1:{port}"):
        async with await client(process, address=address, ca=authority.file) as known:
            assert (await known.get_kernel()).epoch == 1
    async with KernelClient(f"127.0.0.1:{port}", token="wrong", ca=authority.file, connect_seconds=PATIENCE) as unknown:
        with pytest.raises(ClientError) as caught:
            await unknown.get_kernel()
        assert caught.value.reason == "UNAUTHENTICATED"


async def test_a_join_string_trusts_the_given_certificate_and_the_host_the_own_authority(
    process: KernelProcess, authority: Authority
) -> None:
    """The joining door shows the given certificate, so its string names that authority; hosts get the kernel's."""
    doors = doors_of(process)
    string = JoinString.decode(await create_token(doors, kind=access.TOKEN_KIND_HOST, name="team"))
    assert string.authorities_pem == authority.file.read_text()
    identity, _ = await join_as_host(replace(doors, authorities=authority.file.read_bytes()), string.secret)
    assert identity.authorities == doors.authorities
    async with tls_channel(doors.hosts, identity.authorities, identity=identity) as channel:
        host = ScriptedHost()
        await host.attach(channel)
        await host.leave()


async def knows_no_authority(process: KernelProcess, _authority: Authority) -> str:
    """Trust the system's authorities only."""
    return await refusal(process)


async def knows_another_authority(process: KernelProcess, _authority: Authority) -> str:
    """Trust somebody else, of the same name."""
    (process.project / "other").mkdir()
    return await refusal(process, ca=Authority(process.project / "other").file)


async def calls_it_another_name(process: KernelProcess, authority: Authority) -> str:
    """Reach it by an address that is not in its certificate."""
    certificate_of(process).become(authority.issue("elsewhere", "elsewhere.example"))
    return await refusal(process, ca=authority.file)


async def comes_after_its_end(process: KernelProcess, authority: Authority) -> str:
    """Come when the certificate has expired while the kernel ran."""
    certificate_of(process).become(authority.issue("short", "127.0.0.1", ends_in=timedelta(seconds=4)))
    return await refusal(process, ca=authority.file)


async def refusal(process: KernelProcess, *, ca: Path | None = None) -> str:
    """Ask with the right token until there is a refusal, try to pause everything, and return what was said."""
    said: list[str] = []

    async def refused() -> bool:
        async with await client(process, ca=ca, connect_seconds=0) as stranger:
            try:
                await stranger.get_kernel()
            except NotTrusted as error:
                said.append(error.advice)
            except KernelUnreachable:
                pass  # on a busy machine there may be no answer in time
        return bool(said)

    await eventually(refused)
    async with await client(process, ca=ca, connect_seconds=0) as stranger:
        with pytest.raises(KernelUnreachable):
            await stranger.pause(why="a stranger was here")
    return said[0]


STRANGERS: dict[Callable[[KernelProcess, Authority], Awaitable[str]], str] = {
    knows_no_authority: "nobody trusted",
    knows_another_authority: "nobody trusted",
    calls_it_another_name: "for another name",
    comes_after_its_end: "has expired; renew it on the kernel's machine, by `nomaflow pki renew` or in tls_cert",
}


async def test_a_handshake_that_fails_reaches_nothing(process: KernelProcess, authority: Authority, pair: Pair) -> None:
    """A caller with a failed handshake learns the reason, none of its calls runs, and the kernel serves others."""
    for stranger, said in STRANGERS.items():
        assert said in await stranger(process, authority), stranger.__doc__
        pair.become(authority.issue("again", "127.0.0.1", "localhost"))
        async with await client(process, ca=authority.file) as known:
            assert await known.is_serving(), stranger.__doc__
            assert not await known.resume(), stranger.__doc__  # nothing was paused
    assert "Traceback" not in process.log


async def test_the_command_line_says_why_it_does_not_trust(process: KernelProcess, authority: Authority) -> None:
    """Exit 5 and the cause; the authority comes by option, by variable, or from the system."""
    doors = doors_of(process)
    token = await create_token(doors, kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["admin"])
    run, there = command_in(process.project), ("--address", f"tls://{doors.clients}", "--token", token)
    done = await run("runs", *there)
    assert (done.code, "nobody trusted" in done.err, "--ca" in done.err) == (5, True, True)
    done = await run("runs", *there, "--ca", str(process.project / "kernel.log"))
    assert (done.code, "holds no certificate" in done.err) == (5, True)
    for arguments, variables in (
        (("--ca", str(authority.file)), {}),
        ((), {"NOMAFLOW_CA": str(authority.file)}),
        ((), {"SSL_CERT_FILE": str(authority.file)}),
    ):
        done = await run("runs", *there, *arguments, env=variables)
        assert done.code == 0, done.err


async def test_a_renewed_certificate_is_taken_without_a_restart(
    process: KernelProcess, authority: Authority, pair: Pair
) -> None:
    """New connections get the renewed certificate, open streams continue, and a mismatched pair changes nothing."""
    other = Authority(process.project, "successor")
    async with await client(process, ca=authority.file) as early:
        await early.trigger("one")
        events = early.watch_events(from_start=True)
        assert (await anext(events)).seq
        pair.cert.write_bytes(other.issue("unfit", "127.0.0.1").cert.read_bytes())
        for _ in range(2):
            async with await client(process, ca=authority.file) as known:
                await known.get_kernel()
        assert process.log.count("the certificate was not replaced") == 1  # each pair of files is looked at once
        pair.become(other.issue("renewed", "127.0.0.1"))
        async with await client(process, ca=other.file) as known:
            await known.trigger(TriggerOrder(job_id="one", overlap="allow"))
        assert process.log.count(f"certificate {pair.cert} for ") == 2
        async with asyncio.timeout(DEADLINE):
            assert (await anext(events)).seq
        await events.aclose()
    assert "nobody trusted" in await refusal(process, ca=authority.file)


def open_key(pair: Pair, _authority: Authority) -> None:
    """Make the key readable for everybody."""
    pair.key.chmod(0o644)


def other_key(pair: Pair, authority: Authority) -> None:
    """Take the key of another certificate."""
    pair.key.write_bytes(authority.issue("other", "localhost").key.read_bytes())


def expired(pair: Pair, authority: Authority) -> None:
    """Take a certificate of yesterday."""
    pair.become(authority.issue("old", "127.0.0.1", ends_in=timedelta(days=-1)))


def too_new(pair: Pair, authority: Authority) -> None:
    """Take a certificate of tomorrow."""
    pair.become(authority.issue("new", "127.0.0.1", begins_in=timedelta(days=1)))


def with_password(pair: Pair, authority: Authority) -> None:
    """Take a key that asks for a password."""
    pair.become(authority.issue("locked", "127.0.0.1", password=b"open sesame"))


def no_pem(pair: Pair, _authority: Authority) -> None:
    """Take something else for the certificate."""
    pair.cert.write_text("a certificate\n")


def gone(pair: Pair, _authority: Authority) -> None:
    """Take the certificate away."""
    pair.cert.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (open_key, "chmod 600"),
        (other_key, "does not belong to the certificate"),
        (expired, "has expired"),
        (too_new, "is not valid yet"),
        (with_password, "has a password"),
        (no_pem, "cannot be read as PEM"),
        (gone, "no such file or directory"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_refused(
    project: Path, authority: Authority, pair: Pair, spoil: Callable[[Pair, Authority], None], said: str
) -> None:
    """Exit 78 and one line that names the file, before there is a store or a port."""
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    spoil(pair, authority)
    code, text = await ended("--project", str(project), "--address", "tls://127.0.0.1:0", *pair.flags)
    assert (code, text.count("\n")) == (78, 1), text
    assert said in text
    assert str(pair.key) in text or str(pair.cert) in text
    assert not (project / ".nomaflow" / "kernel.db").exists()


async def test_a_certificate_needs_a_tcp_address_and_its_key(project: Path, pair: Pair) -> None:
    """Exit 78: somebody believes that it is used."""
    for flags, said in (
        (pair.flags, "none of the addresses"),
        (["--address", "tls://127.0.0.1:0", *pair.flags[:2]], "tls_key is not"),
    ):
        code, text = await ended("--project", str(project), *flags)
        assert (code, text.count("\n")) == (78, 3), text
        assert "command line: tls_cert" in text
        assert said in text


async def test_doctor_looks_at_the_certificate(project: Path, authority: Authority, pair: Pair) -> None:
    """The doctor reports the validity, warns in the last two weeks, and names what a kernel would refuse."""
    settings = '[kernel]\nlisten = "127.0.0.1:0"\ntls_cert = "kernel.crt"\ntls_key = "kernel.key"\n'
    (project / "nomaflow.toml").write_text(settings)
    soon = authority.issue("soon", "localhost", ends_in=timedelta(days=3))
    for change, level, said in (
        (lambda: None, "ok", "for 127.0.0.1, localhost is valid until"),
        (lambda: pair.become(soon), "warning", "2 days"),
        (lambda: pair.key.chmod(0o644), "problem", "open to others"),
    ):
        change()
        done = await command_in(project)("doctor", "-o", "json")
        found = next(one for one in json.loads(done.out)["findings"] if one["check"] == "kernel.certificate")
        assert found["level"] == level, found
        assert said in found["message"]


@pytest.mark.postgres
async def test_kernels_of_one_database_have_one_authority(project: Path, postgres_server: PostgresServer) -> None:
    """One with another authority does not stand by, nor any longer once the leader's is replaced, and says why."""
    folder, url = str(postgres_server.folder), postgres_server.url("two_authorities")
    database = await asyncpg.connect(host=folder, user=SUPERUSER, database="postgres")
    await database.execute("CREATE DATABASE two_authorities")
    flags = ("--address", "tls://127.0.0.1:0", "--store", url, "--leader-ttl-seconds", "3")
    first, second = (KernelProcess(project=project / name, flags=flags) for name in ("first", "second"))
    for kernel in (first, second):
        kernel.project.mkdir()
    pki = second.project / ".nomaflow" / "pki"
    try:
        await first.start()
        code, errors = await ended("--project", str(second.project), *flags)
        assert code == 78
        assert "another authority, sha256:" in errors
        assert "copy its .nomaflow/pki over that of this kernel" in errors
        assert not (second.project / ".nomaflow" / "address").exists()
        shutil.rmtree(pki)
        shutil.copytree(first.project / ".nomaflow" / "pki", pki)
        await second.start()
        assert (await command_in(first.project)("pki", "replace")).code == 0
        assert second.process is not None
        await eventually(lambda: second.process is not None and second.process.ended)
        assert second.process.process.returncode == 78
        assert await first.stop() == 0
        second.process = None
        await second.start()
        assert "the kernel that led before had another authority, sha256:" in second.log
    finally:
        for kernel in (first, second):
            await kernel.close()
        await database.execute("DROP DATABASE two_authorities WITH (FORCE)")
        await database.close()


@pytest.mark.postgres
async def test_a_standby_sends_clients_and_hosts_on_to_their_own_doors(
    project: Path, postgres_server: PostgresServer
) -> None:
    """Both kernels have one authority, copied. A standby asks for no token, names the leader's door, and takes over."""
    folder, url = str(postgres_server.folder), postgres_server.url("tls_pair")
    database = await asyncpg.connect(host=folder, user=SUPERUSER, database="postgres")
    await database.execute("CREATE DATABASE tls_pair")
    flags = ("--address", "tls://127.0.0.1:0", "--store", url)
    kernels = [KernelProcess(project=project / name, flags=flags) for name in ("first", "second")]
    first, second = kernels
    try:
        first.project.mkdir()
        await first.start()
        shutil.copytree(first.project / ".nomaflow" / "pki", second.project / ".nomaflow" / "pki")
        (second.project / ".nomaflow").chmod(0o700)
        await second.start()
        leading = doors_of(first)
        token = await create_token(leading, kind=access.TOKEN_KIND_SERVICE, name="ci", roles=["operator"])
        secret = JoinString.decode(await create_token(leading, kind=access.TOKEN_KIND_HOST, name="team")).secret
        identity, _ = await join_as_host(leading, secret)
        await eventually(lambda: f"tls://{leading.clients};" in second.log)
        waiting = doors_of(second, words="listening on ")
        async with tls_channel(waiting.hosts, waiting.authorities, identity=identity) as channel:
            attach: Any = HostGatewayServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await attach.Attach(timeout=DEADLINE).read()
        told = read_details(caught.value.trailing_metadata())
        assert told.reason == "NOT_LEADER"
        assert told.metadata["leader"].split(",") == [leading.owner, f"tls://{leading.hosts}"]
        ca = first.project / ".nomaflow" / "pki" / "authorities.pem"
        async with KernelClient(f"tls://{waiting.clients}", token=token, ca=ca) as caller:
            assert (await caller.get_kernel()).pid == first.process.pid  # type: ignore[union-attr]  # it runs
            assert await first.stop() == 0
            assert (await caller.get_kernel()).pid == second.process.pid  # type: ignore[union-attr]  # it runs
        leading = doors_of(second)
        async with tls_channel(leading.hosts, leading.authorities, identity=identity) as channel:
            host = ScriptedHost()
            await host.attach(channel)
            await host.leave()
    finally:
        for kernel in kernels:
            await kernel.close()
        await database.execute("DROP DATABASE tls_pair WITH (FORCE)")
        await database.close()
