"""A kernel with a certificate: accepted callers, refused ones with their reasons, and renewed certificates."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from kernel_process import DEADLINE, KernelProcess, ended, eventually

from certificate_authority import Authority, Pair
from cli_command import command_in
from nomaflow.client import ClientError, KernelClient, KernelUnreachable, NotTrusted, TriggerOrder
from postgres_server import SUPERUSER, PostgresServer


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
    """Start a kernel with that certificate on a free loopback port, and on its own socket."""
    (project / "jobs.toml").write_text('jobs = [{ id = "one", host = "team", steps = [{ callable = "a.b:c" }] }]\n')
    flags = ["--address", "tls://127.0.0.1:0", "--jobs", "jobs.toml", *pair.flags]
    kernel = KernelProcess(project=project, flags=flags)
    try:
        yield await kernel.start()
    finally:
        await kernel.close()


def client(process: KernelProcess, *, address: str = "", ca: Path | None = None) -> KernelClient:
    """Return a client that shows the right token and gives up at its first failure."""
    token = (process.project / ".nomaflow" / "token").read_text().strip()
    return KernelClient(address or process.address, token=token, ca=ca, connect_seconds=0)


def certificate_of(process: KernelProcess) -> Pair:
    """Return the files that a kernel was given."""
    return Pair(cert=process.project / "kernel.crt", key=process.project / "kernel.key")


def port_of(process: KernelProcess) -> int:
    """Return the port that a kernel has published."""
    return int(process.address.rpartition(":")[2])


async def test_tls_and_a_token_open_the_kernel(process: KernelProcess, authority: Authority) -> None:
    """The address says that there is TLS; name and number are equally good; a token is wanted still."""
    assert process.address.startswith("tls://127.0.0.1:")
    for address in (process.address, f"tls://localhost:{port_of(process)}", f"127.0.0.1:{port_of(process)}"):
        async with client(process, address=address, ca=authority.file) as known:
            assert (await known.get_kernel()).epoch == 1
    async with KernelClient(process.address, token="wrong", ca=authority.file) as unknown:
        with pytest.raises(ClientError) as caught:
            await unknown.get_kernel()
        assert caught.value.reason == "UNAUTHENTICATED"


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


async def speaks_no_tls(process: KernelProcess, _authority: Authority) -> str:
    """Speak plaintext to the port."""
    return await refusal(process, address=f"127.0.0.1:{port_of(process)}")


async def speaks_tls_1_0(process: KernelProcess, authority: Authority) -> str:
    """Offer TLS 1.0 and nothing later."""
    return await asyncio.to_thread(old_handshake, process, authority, ssl.TLSVersion.TLSv1)


async def speaks_tls_1_1(process: KernelProcess, authority: Authority) -> str:
    """Offer TLS 1.1 and nothing later."""
    return await asyncio.to_thread(old_handshake, process, authority, ssl.TLSVersion.TLSv1_1)


async def refusal(process: KernelProcess, *, address: str = "", ca: Path | None = None) -> str:
    """Ask with the right token until there is a refusal, try to pause everything, and return what was said."""
    said: list[str] = []

    async def refused() -> bool:
        async with client(process, address=address, ca=ca) as stranger:
            try:
                await stranger.get_kernel()
            except NotTrusted as error:
                said.append(str(error))
            except KernelUnreachable:
                pass  # on a busy machine there may be no answer in time
        return bool(said)

    await eventually(refused)
    async with client(process, address=address, ca=ca) as stranger:
        with pytest.raises(KernelUnreachable):
            await stranger.pause(why="a stranger was here")
    return said[0]


def old_handshake(process: KernelProcess, authority: Authority, version: ssl.TLSVersion) -> str:
    """Return how a handshake of one version ends."""
    context = ssl.create_default_context(cafile=str(authority.file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port_of(process)), DEADLINE) as raw:
        try:
            context.wrap_socket(raw, server_hostname="127.0.0.1").close()
        except OSError as error:
            return type(error).__name__
    return "welcome"


STRANGERS: dict[Callable[[KernelProcess, Authority], Awaitable[str]], str] = {
    knows_no_authority: "nobody trusted",
    knows_another_authority: "nobody trusted",
    calls_it_another_name: "for another name",
    comes_after_its_end: "has expired",
    speaks_no_tls: "ends plaintext connections at once",
    speaks_tls_1_0: "Error",
    speaks_tls_1_1: "Error",
}


async def test_a_handshake_that_fails_reaches_nothing(process: KernelProcess, authority: Authority, pair: Pair) -> None:
    """A caller with a failed handshake learns the reason, none of its calls runs, and the kernel serves others."""
    for stranger, said in STRANGERS.items():
        assert said in await stranger(process, authority), stranger.__doc__
        pair.become(authority.issue("again", "127.0.0.1", "localhost"))
        async with client(process, ca=authority.file) as known:
            assert await known.is_serving(), stranger.__doc__
            assert not await known.resume(), stranger.__doc__  # nothing was paused
    assert "Traceback" not in process.log


async def test_the_command_line_says_why_it_does_not_trust(process: KernelProcess, authority: Authority) -> None:
    """Exit 5 and the cause; the authority comes by option, by variable, or from the system."""
    run = command_in(process.project)
    done = await run("runs")
    assert (done.code, "nobody trusted" in done.err, "--ca" in done.err) == (5, True, True)
    done = await run("runs", "--ca", str(process.project / "kernel.log"))
    assert (done.code, "holds no certificate" in done.err) == (5, True)
    for arguments, variables in (
        (("--ca", str(authority.file)), {}),
        ((), {"NOMAFLOW_CA": str(authority.file)}),
        ((), {"SSL_CERT_FILE": str(authority.file)}),
    ):
        done = await run("runs", *arguments, env=variables)
        assert done.code == 0, done.err


async def test_tls_to_a_kernel_without(project: Path, authority: Authority) -> None:
    """The caller learns that the kernel does not speak TLS."""
    plain = KernelProcess(project=project, flags=["--address", "127.0.0.1:0"])
    try:
        await plain.start()
        async with client(plain, ca=authority.file) as caller:
            with pytest.raises(KernelUnreachable, match="does not speak TLS"):
                await caller.get_kernel()
    finally:
        await plain.close()


async def test_a_renewed_certificate_is_taken_without_a_restart(
    process: KernelProcess, authority: Authority, pair: Pair
) -> None:
    """New connections get the renewed certificate, open streams continue, and a mismatched pair changes nothing."""
    other = Authority(process.project, "successor")
    async with client(process, ca=authority.file) as early:
        await early.trigger("one")
        events = early.watch_events(from_start=True)
        assert (await anext(events)).seq
        pair.cert.write_bytes(other.issue("unfit", "127.0.0.1").cert.read_bytes())
        async with client(process, ca=authority.file) as known:
            await known.get_kernel()
        assert "the certificate was not replaced" in process.log
        pair.become(other.issue("renewed", "127.0.0.1"))
        async with client(process, ca=other.file) as known:
            await known.trigger(TriggerOrder(job_id="one", allow_overlap=True))
        async with asyncio.timeout(DEADLINE):
            assert (await anext(events)).seq
        await events.aclose()
    async with client(process, ca=authority.file) as late:
        with pytest.raises(NotTrusted):
            await late.get_kernel()


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


async def test_certificate_and_address_belong_together(project: Path, pair: Pair) -> None:
    """A kernel exits with 78 if an address wants TLS and there is none, if none wants it, or if one file is missing."""
    for flags, said in (
        (["--address", "tls://127.0.0.1:0"], "give a certificate"),
        (["--address", "0.0.0.0:0"], "has no TLS"),
        (["--address", "127.0.0.1:0", *pair.flags], "none of the addresses"),
        (pair.flags, "none of the addresses"),
        (["--address", "tls://127.0.0.1:0", *pair.flags[:2]], "tls_key is not"),
    ):
        code, text = await ended("--project", str(project), *flags)
        assert (code, text.count("\n")) == (78, 1), text
        assert said in text


async def test_doctor_looks_at_the_certificate(project: Path, authority: Authority, pair: Pair) -> None:
    """The doctor reports the validity, warns in the last two weeks, and names what a kernel would refuse."""
    (project / "nomaflow.toml").write_text('[kernel]\ntls_cert = "kernel.crt"\ntls_key = "kernel.key"\n')
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


@pytest.mark.usefixtures("pair")
async def test_a_project_up_with_tls_alone(project: Path, authority: Authority) -> None:
    """Kernel, host and the command that runs them trust the authority that is named once."""
    (project / "nomaflow.toml").write_text('[kernel]\ntls_cert = "kernel.crt"\ntls_key = "kernel.key"\n')
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nomaflow_cli", "up", str(project), "--address", "tls://127.0.0.1:0",
        "--ca", str(authority.file), "-o", "json", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        async with asyncio.timeout(DEADLINE):
            ready = json.loads(await child.stdout.readline())
        assert ready["type"] == "ready"
        assert ready["address"].startswith("tls://127.0.0.1:")
        assert ready["host"] is not None
    finally:
        child.terminate()
        await child.communicate()
    assert child.returncode == 0


async def test_the_own_socket_beside_tls(project: Path, pair: Pair, authority: Authority) -> None:
    """The project's own commands need neither token nor authority if `unix:` is among the addresses."""
    both = KernelProcess(project=project, flags=["--address", "tls://127.0.0.1:0,unix:", *pair.flags])
    try:
        await both.start()
        assert both.address == f"unix:{project}/.nomaflow/run/kernel.sock"
        done = await command_in(project)("runs")
        assert done.code == 0, done.err
        await eventually(lambda: "serving on tls://127.0.0.1:" in both.log)
        port = both.log.partition("serving on tls://127.0.0.1:")[2].partition(",")[0]
        async with client(both, address=f"tls://127.0.0.1:{port}", ca=authority.file) as known:
            assert await known.is_serving()
    finally:
        await both.close()


@pytest.mark.postgres
async def test_a_standby_sends_callers_on_with_tls(
    project: Path, authority: Authority, pair: Pair, postgres_server: PostgresServer
) -> None:
    """A standby serves the same certificate, names the leader with its scheme, and takes over with TLS as well."""
    folder, url = str(postgres_server.folder), postgres_server.url("tls_pair")
    database = await asyncpg.connect(host=folder, user=SUPERUSER, database="postgres")
    await database.execute("CREATE DATABASE tls_pair")
    tokens = ("--token-file", str(project / "token"), "--host-token-file", str(project / "host-token"))
    flags = ("--address", "tls://127.0.0.1:0", "--store", url, *tokens, *pair.flags)
    kernels = []
    try:
        for name in ("first", "second"):
            (project / name).mkdir()
            kernels.append(KernelProcess(project=project / name, flags=flags))
            await kernels[-1].start()
        token = (project / "token").read_text().strip()
        async with KernelClient(kernels[1].address, token=token, ca=authority.file) as caller:
            assert (await caller.get_kernel()).pid == kernels[0].process.pid  # type: ignore[union-attr]  # it runs
            await eventually(lambda: f"is the leader at {kernels[0].address}" in kernels[1].log)
            assert await kernels[0].stop() == 0
            assert (await caller.get_kernel()).pid == kernels[1].process.pid  # type: ignore[union-attr]  # it runs
        assert kernels[1].address.startswith("tls://")
    finally:
        for kernel in kernels:
            await kernel.close()
        await database.execute("DROP DATABASE tls_pair WITH (FORCE)")
        await database.close()
