"""A host joins a kernel with one string, once, and says nothing to anybody but that kernel."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, abort_with
from msgspec import structs

import nomaflow_cli
from certificate_authority import Authority
from fake_enrolment import FakeEnrolment
from nomaflow.client import enrolment
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as pb
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.identity.joining import join_kernel, read_join_string
from nomaflow_host.process.errors import NotJoined
from nomaflow_kernel.network.authority import Authority as KernelAuthority
from real_system import free_ports, launch, run_to_end


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make the kernel's own authority."""
    return Authority(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> IdentityFile:
    """Return a place that holds no identity yet."""
    return IdentityFile(tmp_path / ".nomaflow" / "identity.json")


@pytest.fixture
async def door(authority: Authority) -> AsyncIterator[FakeEnrolment]:
    """Open the joining door."""
    started = await FakeEnrolment(authority).start()
    yield started
    await started.stop()


async def join(text: str, file: IdentityFile, tmp_path: Path, host: str = "demo") -> None:
    """Join with a string in a file."""
    string = tmp_path / "string"
    string.write_text(text + "\n")
    await join_kernel(read_join_string(str(string)), host=host, file=file)


async def refusal(text: str, file: IdentityFile, tmp_path: Path, host: str = "demo") -> NotJoined:
    """Return the error of a string that cannot be joined with."""
    with pytest.raises(NotJoined) as raised:
        await join(text, file, tmp_path, host)
    error = raised.value
    assert error.fix
    assert "\n" not in error.problem + error.fix
    assert "S3CRET" not in str(error), "the secret is told to nobody"
    return error


async def test_a_string_works_once(door: FakeEnrolment, file: IdentityFile, tmp_path: Path) -> None:
    """The host keeps what it gets; it does not use the same string again, and nobody else can."""
    await join(door.string(), file, tmp_path)
    kept = file.read()
    assert (kept.host, kept.kernel_id, kept.addresses) == ("demo", "kernel-1", ("tls://127.0.0.1:9",))
    assert b"PRIVATE KEY" not in door.requests[0].csr_pem.encode()
    await join(door.string(), file, tmp_path)
    assert (len(door.requests), file.read()) == (1, kept)
    elsewhere = IdentityFile(tmp_path / "elsewhere")
    error = await refusal(door.string(), elsewhere, tmp_path)
    assert "it was used already, has expired, was withdrawn" in error.problem
    assert "nomaflow token create --host demo" in error.fix
    assert error.exit_code == 78
    assert not elsewhere.exists


async def test_a_used_string_beside_an_identity_that_cannot_be_used(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """The error begins with the identity: a restore with other modes, say, is not told as a string that was stolen."""
    await join(door.string(), file, tmp_path)
    file.path.chmod(0o644)
    problem = (await refusal(door.string(), file, tmp_path)).problem
    assert problem.startswith(f"the key in {str(file.path)!r} is open to others (mode 644), who can attach")
    assert "this join string: it was used already" in problem


async def test_a_second_join_replaces_the_identity_once_it_is_whole(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """A string that is refused leaves the identity; a good one replaces it, with another key."""
    await join(door.string(), file, tmp_path)
    before = file.read()
    await refusal(door.string(secret="wrong"), file, tmp_path)
    assert file.read() == before
    door.secrets.add("again")
    await join(door.string(secret="again"), file, tmp_path)
    assert file.read().key != before.key

    async def restored(request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        answer = door.answer(request)
        answer.kernel_id = "kernel-2"
        return answer

    door.instead = restored
    await join(door.string(secret="third"), file, tmp_path)
    assert file.read().kernel_id == "kernel-2", "with the authority that the host knows it is the same kernel"


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[FakeEnrolment]:
    """The door of another kernel."""
    (tmp_path / "other").mkdir()
    door = await FakeEnrolment(Authority(tmp_path / "other")).start()
    yield door
    await door.stop()


async def test_a_string_of_another_kernel_does_not_replace_the_identity(
    door: FakeEnrolment, other: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """Of other authorities, of the own one beside another, of those that the system knows: the secret is not said."""
    await join(door.string(), file, tmp_path)
    before = file.read()
    foreign = JoinString.decode(other.string())
    both = dataclasses.replace(
        foreign, authorities_pem=door.authority.file.read_text() + other.authority.file.read_text()
    )
    for string in (foreign, both, dataclasses.replace(foreign, authorities_pem="")):
        error = await refusal(string.encode(), file, tmp_path)
        assert "is for a kernel other than the one that this host has joined" in error.problem
        assert str(file.path) in error.fix
        assert error.exit_code == 78
    assert other.requests == []
    assert file.read() == before
    file.path.unlink()
    await join(other.string(), file, tmp_path)
    assert file.read().authorities != before.authorities


async def test_an_authority_that_is_new_to_the_host_counts_for_its_own_kernel_only(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """The old authority may have vouched for several kernels: the id decides. A restore may change it."""
    kept = KernelAuthority(tmp_path / "pki", names=("127.0.0.1",))
    door.serves = kept
    await door.stop()
    await door.start()
    await join(door.string(), file, tmp_path)
    before = file.read()

    async def another(request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        answer = door.answer(request)
        answer.kernel_id = "kernel-2"
        return answer

    door.instead = another
    kept.replace()
    await door.stop()
    await door.start()
    error = await refusal(door.string(secret="again"), file, tmp_path)
    assert "is for a kernel other than the one that this host has joined" in error.problem
    assert "the string is used up" in error.problem
    assert error.exit_code == 78
    assert file.read() == before
    file.write(structs.replace(before, authorities=kept.authorities_pem))
    await join(door.string(secret="again"), file, tmp_path)
    assert file.read().kernel_id == "kernel-2"


@pytest.mark.parametrize("renewed", [True, False], ids=["renewed-since", "knows-the-old-one-only"])
async def test_a_host_joins_again_after_the_authority_was_replaced(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path, renewed: bool
) -> None:
    """A string names the new authority only. The old one vouches for it, whether or not the host has heard of it."""
    kept = KernelAuthority(tmp_path / "pki", names=("127.0.0.1",))
    door.serves = kept
    await door.stop()
    await door.start()
    await join(door.string(), file, tmp_path)
    before = file.read()
    kept.replace()
    if renewed:
        file.write(structs.replace(before, authorities=kept.authorities_pem))
    await door.stop()
    await door.start()
    door.secrets.add("again")
    await join(door.string(secret="again"), file, tmp_path)
    assert file.read().authorities == kept.authorities_pem
    assert file.read().serial != before.serial


async def test_a_host_joins_again_through_a_door_of_a_given_certificate(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """The joining door may have a certificate of the operator's, whose authority vouches for no host."""
    (tmp_path / "operator").mkdir()
    operator = Authority(tmp_path / "operator")
    await door.stop()
    await door.start(by=operator)
    for secret in ("S3CRET", "again"):
        door.secrets.add(secret)
        string = JoinString.decode(door.string(secret=secret))
        string = dataclasses.replace(string, authorities_pem=operator.file.read_text())
        await join(string.encode(), file, tmp_path)
    assert file.read().authorities == door.authority.file.read_text()
    assert len(door.requests) == 2


async def test_the_string_must_be_for_this_host(door: FakeEnrolment, file: IdentityFile, tmp_path: Path) -> None:
    """The error names both names; the string is as good as before."""
    error = await refusal(door.string(name="teamb"), file, tmp_path)
    assert "for host 'teamb', and this host is called 'demo'" in error.problem
    assert "for user 'demo', not for a host" in (await refusal(door.string(kind="user"), file, tmp_path)).problem
    assert door.requests == []


async def test_what_is_no_join_string_is_told(door: FakeEnrolment, file: IdentityFile, tmp_path: Path) -> None:
    """Altered, cut short, empty, not there: one sentence each, and nothing is sent."""
    whole = door.string()
    for text in ("", "nft1.secret", whole[:-20], whole[:200] + "#" + whole[201:]):
        assert "join string" in (await refusal(text, file, tmp_path)).problem
    with pytest.raises(NotJoined, match="no such file"):
        read_join_string(str(tmp_path / "none"))
    with pytest.raises(NotJoined, match="is a directory"):
        read_join_string(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(NotJoined, match="holds no join string"):
        read_join_string(str(tmp_path / "binary"))
    assert door.requests == []


async def test_the_secret_is_not_said_to_another_server(
    authority: Authority, door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """A server of another authority hears nothing; nor does one in plaintext."""
    (tmp_path / "stranger").mkdir()
    stranger = await FakeEnrolment(authority).start(by=Authority(tmp_path / "stranger"))
    error = await refusal(stranger.string(), file, tmp_path)
    assert "is not the kernel that made this join string; nothing was sent to it" in error.problem
    assert error.exit_code == 78
    await stranger.stop()
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        writer.close()

    plain = await asyncio.start_server(listen, "127.0.0.1", 0)
    await refusal(door.string(port=plain.sockets[0].getsockname()[1]), file, tmp_path)
    plain.close()
    assert heard
    assert not any(b"S3CRET" in each for each in heard)
    assert (stranger.requests, door.requests) == ([], [])


async def test_a_clock_that_is_off_is_told(authority: Authority, file: IdentityFile, tmp_path: Path) -> None:
    """A machine that lives a day before or after the kernel is told to look at the clocks."""
    day = timedelta(days=1)
    for valid in ({"begins_in": day}, {"begins_in": -2 * day, "ends_in": -day}):
        door = await FakeEnrolment(authority).start(**valid)
        error = await refusal(door.string(), file, tmp_path)
        assert "clock" in error.fix
        await door.stop()


async def test_a_kernel_that_is_away_leaves_the_string_unused(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """The exit code is none of those after which our unit stays down, so systemd tries again; a lost answer says so."""
    text = door.string()
    await door.stop()
    error = await refusal(text, file, tmp_path)
    assert "no kernel answers" in error.problem
    assert "the string has not been used yet" in error.fix
    unit = (Path(nomaflow_cli.__file__).parent / "service/templates/host.service").read_text(encoding="utf-8")
    hopeless = unit.split("RestartPreventExitStatus=")[1].splitlines()[0].split()
    assert ("78" in hopeless, str(error.exit_code) in hopeless) == (True, False)
    await door.start(port=door.port)

    async def lose(request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        raise AssertionError

    door.instead = lose
    error = await refusal(text, file, tmp_path)
    assert "got lost" in error.problem
    door.instead = None
    await join(text, file, tmp_path)


async def test_a_name_that_is_unknown_here_leaves_the_string_unused(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """The next address of the string is tried; where there is none, the error names the reason."""
    string = JoinString.decode(door.string())
    nowhere = dataclasses.replace(string, at=("tls://nowhere.invalid:7435",))
    error = await refusal(nowhere.encode(), file, tmp_path)
    assert "its name is not known here" in error.problem
    assert "the string has not been used yet" in error.fix
    await join(dataclasses.replace(string, at=(*nowhere.at, *string.at)).encode(), file, tmp_path)


async def test_a_kernel_that_stands_by_is_asked_again_until_it_leads(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that starts while the lead changes joins; where nobody leads for longer, it says why it does not."""

    async def stand_by(_: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        if len(door.requests) == 2:
            door.instead = None
        await abort_with(context, grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
        raise AssertionError

    monkeypatch.setattr(enrolment, "_AGAIN_SECONDS", 0.01)
    string, elsewhere = JoinString.decode(door.string()), f"tls://127.0.0.1:{free_ports(1)}"
    both = dataclasses.replace(string, at=(elsewhere, *string.at)).encode()
    door.instead = stand_by
    await join(both, file, tmp_path)
    assert len(door.requests) == 3
    door.instead, door.requests = stand_by, []
    monkeypatch.setattr(enrolment, "FAILOVER_SECONDS", 0.0)
    error = await refusal(both, IdentityFile(tmp_path / "other"), tmp_path)
    assert (error.problem, "has not been used" in error.fix, error.exit_code) == ("not_leader", True, 70)


async def test_a_kernel_that_signs_something_else_is_not_believed(
    door: FakeEnrolment, file: IdentityFile, tmp_path: Path
) -> None:
    """A certificate for another name or another key is refused."""

    async def other_name(request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        answer = door.answer(request)
        answer.certificate_pem = door.authority.sign_host(request.csr_pem, "teamb")
        return answer

    async def nothing(request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        return pb.EnrolResponse()

    for instead in (other_name, nothing):
        door.instead = instead
        assert "certificate" in (await refusal(door.string(), file, tmp_path)).problem
    assert not file.exists


async def test_a_disk_that_takes_nothing_leaves_the_string_unused(door: FakeEnrolment, tmp_path: Path) -> None:
    """It is told before, so that the host joins once there is room."""
    project, string = tmp_path / "demo", tmp_path / "string"
    (project / ".nomaflow" / "host-demo" / "instance.json").mkdir(parents=True)
    string.write_text(door.string())
    flags = ("--project", str(project), "--join", str(string))
    code, told = await asyncio.to_thread(run_to_end, "nomaflow_host", *flags)
    assert (code, "state cannot be written" in told, door.requests) == (70, True, []), told


async def test_a_host_process_joins_and_attaches(authority: Authority, tmp_path: Path) -> None:
    """`--join FILE` the first time, from standard input too; afterwards it starts without."""
    project = tmp_path / "demo"
    project.mkdir()
    pair = authority.issue("hosts", "127.0.0.1")
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.cert.read_bytes())], authority.file.read_bytes(), require_client_auth=True
    )
    kernel, address = FakeGateway(tmp_path / "unused"), f"127.0.0.1:{free_ports(1)}"
    await kernel.start(address, credentials)
    door = await FakeEnrolment(authority, addresses=(f"tls://{address}",)).start()
    (tmp_path / "string").write_text(door.string())
    first = launch("nomaflow_host", project, "--join", str(tmp_path / "string"), log_file=tmp_path / "first.log")
    await kernel.session()
    assert await asyncio.to_thread(first.stop) == 0
    second = launch("nomaflow_host", project, log_file=tmp_path / "second.log")
    await kernel.session(2)
    assert await asyncio.to_thread(second.stop) == 0
    for flags, said in (
        (("--name", "other"), "is for host 'demo', and this one is called 'other'"),
        (("--join", str(tmp_path / "none")), "cannot be read"),
    ):
        code, told = await asyncio.to_thread(run_to_end, "nomaflow_host", "--project", str(project), *flags)
        assert said in told
        assert code in (2, 78)
    await kernel.kill()
    await door.stop()
