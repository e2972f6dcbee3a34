"""Tokens as people and programs handle them: ``nomaflow token``, and the clients of Python."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from cli_command import run_command
from doors import Doors, create_token, doors_of
from nomaflow.client import (
    InvalidRequest,
    KernelClient,
    KernelPlace,
    NotFound,
    PermissionDenied,
    Refused,
    SyncKernelClient,
    Unauthenticated,
)
from nomaflow.client.enrolment import JoinRefused, enrol
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from real_system import Running
from waiting import eventually


@pytest.fixture
def doors(running: Running) -> Doors:
    """Return its doors."""
    return doors_of(running)


def test_the_secret_is_alone_on_standard_output(running: Running, doors: Doors) -> None:
    """`nomaflow token create … > FILE` writes a token that works; what it is for is told beside it, without it."""

    def token(*arguments: str) -> tuple[int, str, str]:
        done = run_command("token", *arguments, "--project", str(running.project), folder=running.project)
        return done.code, done.out, done.err

    code, out, err = token("create", "--service", "ci", "--role", "viewer", "--grant", "trigger job:nightly")
    assert (code, out.count("\n")) == (0, 1), err
    assert "service ci" in err
    assert "read *; trigger job:nightly" in err
    assert out.strip() not in err
    listed = json.loads(token("list", "-o", "json")[1])
    assert [(one["name"], one["kind"]) for one in listed["tokens"]] == [("ci", "service")]
    assert out.strip() not in json.dumps(listed)
    with client(doors, out.strip()) as kernel:
        assert kernel.list_jobs().jobs == ()
    rotated = token("rotate", "ci", "--overlap", "1h", "-o", "json")
    with client(doors, out.strip()) as old, client(doors, json.loads(rotated[1])["secret"]) as new:
        assert old.list_jobs() == new.list_jobs()
    code, out, _ = token("revoke", "ci")
    assert (code, out.count("tok_")) == (0, 2)
    assert "none" in token("list")[1]
    assert token("list", "--all")[1].count("revoked") == 2
    assert token("revoke", "ci")[1:] == ("'ci' had been withdrawn before\n", "")
    assert token("revoke", "nobody")[0] == 2


def test_a_join_string_is_for_a_host_or_a_user(running: Running) -> None:
    """It holds the door, the authority and a secret; what nobody could use is refused before it is made."""

    def created(*arguments: str) -> str:
        done = run_command("token", "create", *arguments, "--project", str(running.project), folder=running.project)
        return done.out if done.code == 0 else done.err

    host = JoinString.decode(created("--host", "teamb", "--uses", "3", "--for", "2h"))
    assert (host.kind, host.name, len(host.at)) == ("host", "teamb", 1)
    assert "BEGIN CERTIFICATE" in host.authorities_pem
    user = JoinString.decode(created("--user", "alice", "--role", "operator job:reports.*"))
    assert (user.kind, user.name) == ("user", "alice")
    assert user.secret != host.secret
    for arguments, said in (
        (("--user", "al"), "nothing to do"),
        (("--user", "al", "--host", "h"), "one of --user"),
        (("--host", "h", "--role", "viewer"), "no roles"),
        (("--service", "owner", "--role", "viewer"), "reserved"),
        (("--service", "al", "--role", "vewer"), "expected one of admin"),
        (("--service", "al", "--role", "viewer", "--for", "never"), "time span"),
    ):
        assert said in created(*arguments), arguments


def client(doors: Doors, token: str) -> SyncKernelClient:
    """Return a client of the clients' door."""
    return SyncKernelClient(f"tls://{doors.clients}", token=token, ca=doors.authorities)


async def test_python_makes_and_withdraws_tokens(doors: Doors) -> None:
    """The asynchronous client does what the command does; what a caller may not do is PermissionDenied."""
    async with KernelClient(doors.owner) as owner:
        issued = await owner.create_token("robot", kind="service", roles=["nightwatch"], lifetime=timedelta(days=3))
        assert issued.secret not in repr(issued)
        assert issued.token.grants == ("read *", "cancel job:b.*")
        assert (issued.token.state, issued.token.created_by) == ("good", "owner")
        assert issued.token.expires_at is not None
        assert issued.token.created_at is not None
        assert issued.token.expires_at - issued.token.created_at == timedelta(days=3)
        async with KernelClient(
            f"tls://{doors.clients}", token=issued.secret, ca=doors.authorities, retry_seconds=0
        ) as robot:
            assert (await robot.list_jobs()).jobs == ()
            with pytest.raises(PermissionDenied):
                await robot.list_tokens()
            with pytest.raises(PermissionDenied):
                await robot.pause()
            assert [one.name for one in await owner.list_tokens("robot")] == ["robot"]
            ended = await owner.revoke("robot")
            assert ended.token_ids == (issued.token.token_id,)
            assert not await owner.revoke("robot")
            with pytest.raises(Unauthenticated):
                await robot.list_jobs()
        assert await owner.list_tokens("robot") == []
        assert [one.state for one in await owner.list_tokens("robot", include_ended=True)] == ["revoked"]
        assert await owner.list_certificates(include_ended=True) == []
        with pytest.raises(NotFound):
            await owner.rotate_token("nobody")


async def test_a_service_takes_the_token_that_replaces_the_one_in_its_file(tmp_path: Path, doors: Doors) -> None:
    """An operator replaces one that is about to expire, and the kubelet writes it: neither starts the service again."""
    file, ca = tmp_path / "token", tmp_path / "ca.pem"
    ca.write_bytes(doors.authorities)
    async with KernelClient(doors.owner) as owner:
        file.write_text((await owner.create_token("starter", kind="service", roles=["viewer"])).secret)
        place = KernelPlace.of(tmp_path, {}, kernel=f"tls://{doors.clients}", token_file=file.name, kernel_ca=ca.name)
        async with KernelClient(place.source, ca=place.ca) as service:
            assert (await service.list_jobs()).jobs == ()
            rotated = await owner.rotate_token("starter")
            with pytest.raises(Unauthenticated):
                await service.list_jobs()
            file.write_text(rotated.secret)
            assert (await service.list_jobs()).jobs == ()


async def test_a_stream_goes_on_with_the_token_that_replaces_its_own(tmp_path: Path, doors: Doors) -> None:
    """The end of an overlap is not the end of a watch: the file has had the new token for a while."""
    file, ca = tmp_path / "token", tmp_path / "ca.pem"
    ca.write_bytes(doors.authorities)
    async with KernelClient(doors.owner) as owner:

        async def refused() -> bool:
            return [row async for row in owner.read_audit(principal="watcher", refused=True)] != []

        file.write_text((await owner.create_token("watcher", kind="service", roles=["viewer"])).secret)
        place = KernelPlace.of(tmp_path, {}, kernel=f"tls://{doors.clients}", token_file=file.name, kernel_ca=ca.name)
        async with KernelClient(place.source, ca=place.ca) as service:
            events = service.watch_events(from_start=True)
            assert (await anext(events)).seq
            file.write_text((await owner.rotate_token("watcher", overlap=timedelta(seconds=1))).secret)
            await eventually(refused)
            await owner.pause(why="seen after the overlap")
            await owner.resume()
            async for event in events:
                if event.kind == "pause.cleared":
                    break


async def test_a_repeat_of_a_lost_answer_is_the_same_token(doors: Doors) -> None:
    """Each of the three calls that make a secret takes a request id; without one, the client makes one for each."""
    async with KernelClient(doors.owner) as owner:
        for make in (
            partial(owner.create_token, "twice", kind="service", roles=["viewer"]),
            partial(owner.invite_instance, "teamb"),
            partial(owner.rotate_token, "twice"),
        ):
            first, again = await make(request_id="r1"), await make(request_id="r1")
            assert first.token.token_id == again.token.token_id
            assert first.secret != again.secret
        two = [(await owner.create_token("two", kind="service", roles=["viewer"])).token.token_id for _ in range(2)]
        made = [(await owner.rotate_token(each, request_id="r2")).token.token_id for each in two]
        assert [each.token_id for each in await owner.list_tokens("two")] == made
        others = [(await owner.invite_instance("teamb")).token.token_id for _ in range(2)]
        assert len(set(others)) == 2
        with pytest.raises(Refused, match="request_id has made token tok_") as caught:
            await owner.create_token("thrice", kind="service", roles=["viewer"], request_id="r1")
        assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
        with pytest.raises(InvalidRequest, match="request_id is 'é', expected at most 128 printable ASCII"):
            await owner.invite_instance("teamb", request_id="é")


async def test_a_repeated_replacement_is_one_authority(doors: Doors) -> None:
    """The client makes a request id for each, so that the call which it repeats is one."""
    async with KernelClient(doors.owner) as owner:
        made = [await owner.renew_authority(replace=True, request_id=each) for each in ("r1", "r1", "", "")]
        assert [each.authorities_pem.count("BEGIN CERTIFICATE") for each in made] == [2, 2, 3, 4]


async def test_a_join_string_that_leads_to_the_clients_door_says_so(doors: Doors) -> None:
    """As behind a proxy that mixes up two ports; the string is as good as before."""
    made = await create_token(doors, kind=access.TOKEN_KIND_USER, name="eve", roles=["viewer"], joins=True)
    string = JoinString.decode(made)
    with pytest.raises(JoinRefused, match="takes no join strings: it is not the kernel's door for joining") as caught:
        await enrol(replace(string, at=(doors.clients,)))
    assert "[kernel] listen_join" in caught.value.fix
    assert (await enrol(string)).name == "eve"
