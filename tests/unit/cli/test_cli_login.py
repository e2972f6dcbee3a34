"""``nomaflow login`` and what commands then show to whom: always over TLS, only to the kernel of the login."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from certificate_authority import Authority
from cli_command import Command
from fake_enrolment import FakeEnrolment
from fake_kernel import FakeKernel
from nomaflow.client import Profile, ProfileFolder
from nomaflow_api.join_string import JoinString
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1 import kernel_service_pb2 as pb

TOKEN = "nft1.secret"
_WITHOUT_ROOM = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
runpy.run_module("nomaflow_cli", run_name="__main__")
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make the kernel's own authority."""
    return Authority(tmp_path)


@pytest.fixture
async def remote(authority: Authority, tmp_path: Path) -> AsyncIterator[FakeKernel]:
    """Serve clients on TCP."""
    pair = authority.issue("clients", "127.0.0.1")
    fake = FakeKernel(tmp_path / "unused")
    fake.replies |= {"ListJobs": pb.ListJobsResponse(), "ListHosts": pb.ListHostsResponse()}
    await fake.start(grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())]))
    yield fake
    await fake.stop()


@pytest.fixture
async def door(authority: Authority, remote: FakeKernel) -> AsyncIterator[FakeEnrolment]:
    """Open the joining door of that kernel."""
    started = await FakeEnrolment(authority, host="alice", addresses=(remote.address,)).start()
    yield started
    await started.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a user's configuration directory."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "nomaflow"


async def login(command: Command, door: FakeEnrolment, tmp_path: Path, *flags: str, code: int = 0) -> str:
    """Log in with a string in a file and return what was said."""
    (tmp_path / "string").write_text(door.string(kind="user"))
    done = await command("login", str(tmp_path / "string"), *flags)
    assert done.code == code, done
    return done.out + done.err


async def test_a_login_is_kept_for_the_user_alone(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path
) -> None:
    """0600 in a 0700 directory; commands outside any project use it; its token goes to that kernel only, over TLS."""
    said = await login(command, door, tmp_path)
    assert f"logged in to {remote.address} as alice" in said
    assert TOKEN not in said
    file = home / "default.json"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(home.stat().st_mode)) == (0o600, 0o700)
    for flags in ((), ("--profile", "default"), ("--address", remote.address)):
        assert (await command("jobs", *flags)).code == 0
        assert remote.metadata[-1]["authorization"] == f"Bearer {TOKEN}"
    local = FakeKernel(tmp_path / "l.sock")
    local.replies |= remote.replies
    await local.start()
    assert (await command("jobs", "--address", local.address, "--token", TOKEN)).code == 0
    assert "authorization" not in local.metadata[-1]
    await local.stop()


async def test_a_token_is_not_said_to_another_server(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path, authority: Authority
) -> None:
    """Whoever has taken the kernel's port hears nothing; the command says that it is not the kernel."""
    await login(command, door, tmp_path)
    await remote.stop()
    (tmp_path / "stranger").mkdir()
    pair = Authority(tmp_path / "stranger").issue("false", "127.0.0.1")
    false = FakeKernel(tmp_path / "unused")
    await false.start(grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())]))
    done = await command("jobs", "--profile", "default", "--address", false.address)
    assert done.code == 5
    assert "is not the kernel that this side trusts" in done.err
    assert false.metadata == []
    await false.stop()


@pytest.mark.parametrize("place", ["/dev/null", "/" + "x" * 300])
async def test_a_string_is_not_used_up_for_nothing(
    command: Command, door: FakeEnrolment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The kernel is not asked where no profile can be kept, so the string is as good as before."""
    monkeypatch.setenv("XDG_CONFIG_HOME", place)
    said = await login(command, door, tmp_path, code=1)
    assert "cannot be written" in said
    assert "; the join string was not used\n" in said
    assert not door.requests


async def test_no_proxy_of_the_environment_is_asked(
    command: Command, remote: FakeKernel, authority: Authority, tmp_path: Path
) -> None:
    """A login and a host go to the kernel themselves, and so does every command."""
    environ = {"NOMAFLOW_TOKEN": TOKEN, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = await command("jobs", "--address", remote.address, "--ca", str(authority.file), env=environ)
    assert done.code == 0, done


async def test_a_script_names_token_and_authority(
    command: Command, remote: FakeKernel, home: Path, tmp_path: Path, authority: Authority
) -> None:
    """`--token-file` or the variables, with `--ca`; without a token the command says where one comes from."""
    (tmp_path / "token").write_text("nft1.ci\n")
    address, ca = ("--address", remote.address), ("--ca", str(authority.file))
    assert (await command("jobs", *address, *ca, "--token-file", str(tmp_path / "token"))).code == 0
    environ = {"NOMAFLOW_TOKEN_FILE": str(tmp_path / "token"), "NOMAFLOW_CA": str(authority.file)}
    assert (await command("jobs", *address, env=environ)).code == 0
    assert {each["authorization"] for each in remote.metadata} == {"Bearer nft1.ci"}
    done = await command("jobs", *address, *ca)
    assert done.code == 2
    assert "nomaflow login FILE" in done.err
    assert "if the kernel of a login has moved there, add --profile NAME" in " ".join(done.err.split())
    assert "nomaflow token create --user NAME --role ROLE" in done.err


def facts(kernel_id: str) -> str:
    """Return the facts of a joined host, as its file has them."""
    return json.dumps(
        {"host": "team", "kernel_id": kernel_id, "addresses": ["tls://k:7434"], "expires_at": 2_000_000_000}
    )


async def test_a_project_s_host_leads_to_the_login_at_its_kernel(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path
) -> None:
    """The host's certificate is for the host only: a command uses the login at the same kernel, or asks for one."""
    project = tmp_path / "team"
    identity = project / ".nomaflow" / "identity.json"
    identity.parent.mkdir(parents=True)
    identity.write_text(facts("kernel-1"))
    done = await command("jobs", "--project", str(project))
    assert done.code == 2
    assert "the host's certificate is for the host only" in done.err
    await login(command, door, tmp_path)
    assert (await command("jobs", "--project", str(project))).code == 0
    identity.write_text(facts("another"))
    assert (await command("jobs", "--project", str(project))).code == 2


async def test_a_project_without_a_kernel_does_not_fall_back_to_a_login(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path
) -> None:
    """A command in a project never reaches another kernel by surprise."""
    await login(command, door, tmp_path)
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "jobs.toml").write_text("")
    done = await command("jobs", "--project", str(tmp_path / "team"))
    assert done.code == 5
    assert "no kernel runs in" in done.err


async def test_a_string_that_cannot_be_used_is_told(
    command: Command, door: FakeEnrolment, home: Path, tmp_path: Path
) -> None:
    """Used before, for a host, no string, not there: one sentence and the way out."""
    await login(command, door, tmp_path)
    used = await login(command, door, tmp_path, code=2)
    assert "it was used already" in used
    assert "another, on the kernel's machine: nomaflow token create --user alice --role ROLE; " in used
    (tmp_path / "string").write_text(door.string(kind="host"))
    done = await command("login", str(tmp_path / "string"))
    assert "nomaflow host DIR --join FILE" in done.err
    (tmp_path / "string").write_text("nft1.x")
    said = (await command("login", str(tmp_path / "string"))).err
    assert "is a token, which is ready for use, and no join string" in said
    assert "--token-file" in said
    (tmp_path / "string").write_text("x")
    assert "no join string" in (await command("login", str(tmp_path / "string"))).err
    assert "cannot be read" in (await command("login", str(tmp_path / "none"))).err
    assert (await command("login", "-", stdin=door.string(kind="user"))).code == 2


async def test_a_login_at_another_kernel_is_not_overwritten(
    command: Command, door: FakeEnrolment, home: Path, tmp_path: Path
) -> None:
    """The second needs a name of its own; `logout` removes one."""
    folder = ProfileFolder(home)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").file.read_text()
    profile = Profile(
        name="default", principal="bob", addresses=("tls://k:1",), authorities_pem=other, kernel_id="k2", token="t"
    )
    folder.write(profile)
    assert "is a login at another kernel" in await login(command, door, tmp_path, code=2)
    assert "'test'" in await login(command, door, tmp_path, "--profile", "test")
    assert folder.names() == ("default", "test")
    done = await command("logout")
    assert done.code == 0
    assert "`nomaflow token list --name bob`" in done.out  # that name may have tokens elsewhere, which stay
    assert folder.names() == ("test",)
    folder.path("bad").write_text("{")
    assert "`nomaflow token list`" in (await command("logout", "--profile", "bad")).out
    done = await command("logout")
    assert done.code == 2
    assert "there is test" in done.err


@pytest.mark.parametrize("known", ["system", "string"])
async def test_a_login_whose_authorities_only_the_system_knows_is_not_overwritten_either(
    command: Command, door: FakeEnrolment, home: Path, tmp_path: Path, known: str
) -> None:
    """No authorities differ from some, on either side: the secret is not said, and the profile stays."""
    own = "" if known == "system" else door.authority.file.read_text()
    profile = Profile(
        name="default", principal="bob", addresses=("tls://k:1",), authorities_pem=own, kernel_id="kernel-1", token="t"
    )
    folder = ProfileFolder(home)
    folder.write(profile)
    string = JoinString.decode(door.string(kind="user"))
    (tmp_path / "string").write_text(replace(string, authorities_pem="" if own else string.authorities_pem).encode())
    done = await command("login", str(tmp_path / "string"))
    assert done.code == 2
    assert "is a login at another kernel" in done.err
    assert "--profile NAME" in done.err
    assert "nomaflow logout" in done.err
    assert door.requests == []
    assert folder.read("default") == profile


async def test_a_login_is_not_overwritten_by_a_kernel_of_another_id(
    command: Command, door: FakeEnrolment, home: Path, tmp_path: Path
) -> None:
    """One authority may vouch for several kernels: the answer's id decides, before the profile is written."""
    folder, own = ProfileFolder(home), door.authority.file.read_text()
    profile = Profile(
        name="default", principal="bob", addresses=("tls://k:1",), authorities_pem=own, kernel_id="k2", token="t"
    )
    folder.write(profile)
    said = await login(command, door, tmp_path, code=2)
    assert "is a login at another kernel" in said
    assert "the join string is used up" in said
    assert "nomaflow logout" in said
    assert folder.read("default") == profile


async def test_a_second_login_at_the_same_kernel_replaces_the_first(
    command: Command, door: FakeEnrolment, home: Path, tmp_path: Path
) -> None:
    """If the kernel's authority was replaced meanwhile, the profile has the new one beside the old one."""
    folder = ProfileFolder(home)
    (tmp_path / "old").mkdir()
    both = f"{door.authority.file.read_text()}\n{Authority(tmp_path / 'old').file.read_text()}"
    profile = Profile(
        name="default", principal="bob", addresses=("tls://k:1",), authorities_pem=both, kernel_id="kernel-1", token="t"
    )
    folder.write(profile)
    await login(command, door, tmp_path)
    assert folder.read("default").principal == "alice"


async def test_a_join_string_in_place_of_a_token_is_told(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path
) -> None:
    """The command names the way to use the string and calls no kernel; it tells of a missing file, too."""
    (tmp_path / "string").write_text(door.string(kind="user"))
    done = await command("jobs", "--address", remote.address, "--token-file", str(tmp_path / "string"))
    assert done.code == 2
    assert "holds a join string, not a token" in done.err
    assert f"nomaflow login {tmp_path / 'string'}" in " ".join(done.err.split())
    assert remote.metadata == []
    done = await command("jobs", "--address", remote.address, "--token-file", str(tmp_path / "none"))
    assert "none': no such file or directory" in " ".join(done.err.split())


async def test_a_command_outside_any_project_says_why_no_login_serves(
    command: Command, door: FakeEnrolment, remote: FakeKernel, home: Path, tmp_path: Path
) -> None:
    """Without a login it names the command for one, with several the option; one open to others is not passed over."""
    done = await command("jobs")
    assert "no project here" in done.err
    assert "nomaflow login FILE" in " ".join(done.err.split())
    await login(command, door, tmp_path)
    (home / "default.json").chmod(0o644)
    for address in ((), ("--address", remote.address)):
        said = " ".join((await command("jobs", *address)).err.split())
        assert "is open to others (mode 644)" in said
        assert "chmod 600" in said
    (home / "default.json").chmod(0o600)
    (home / "second.json").write_bytes((home / "default.json").read_bytes())
    (home / "second.json").chmod(0o600)
    said = " ".join((await command("jobs")).err.split())
    assert "several logins: default, second" in said
    assert "--profile" in said


def test_a_profile_that_others_can_read_is_not_used(home: Path) -> None:
    """A profile is refused if others can read it, if it is damaged, or if its name leads elsewhere."""
    folder = ProfileFolder(home)
    profile = Profile(name="p", principal="a", addresses=("tls://k:1",), authorities_pem="", kernel_id="k", token="t")
    path = folder.write(profile)
    assert folder.read("p") == profile
    assert "token=" not in repr(profile)
    path.chmod(0o644)
    for name, content, said in (("p", None, "open to others"), ("q", "[]", "damaged"), ("../p", None, "not a profile")):
        if content is not None:
            folder.path(name).write_text(content)
            folder.path(name).chmod(0o600)
        with pytest.raises(Exception, match=said):
            folder.read(name)


async def test_exported_authorities_are_written_whole_or_not_at_all(
    kernel: FakeKernel, command: Command, tmp_path: Path
) -> None:
    """As on a full disk: programs go on with the file of before. A pipe is written to, and not replaced."""
    authority = access.Authority(authorities_pem="x" * 1_000_000)
    kernel.audit.replies["GetAuthority"] = access.GetAuthorityResponse(authority=authority)
    file, device = tmp_path / "ca.pem", tmp_path / "device"
    device.symlink_to(os.devnull)
    ask = ("pki", "export", "--address", kernel.address)
    assert (await command(*ask, str(device))).code == 0
    assert device.is_char_device()
    assert (await command(*ask, str(file))).code == 0
    assert file.stat().st_mode & 0o777 == 0o644
    file.write_text("old")
    without_room = [sys.executable, "-c", _WITHOUT_ROOM, *ask, str(file)]
    done = await asyncio.to_thread(
        subprocess.run, without_room, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, f"cannot write '{file}': file too large" in done.stderr) == (2, True), done.stderr
    assert file.read_text() == "old"
    assert sorted(tmp_path.glob(".ca.pem*")) == []
