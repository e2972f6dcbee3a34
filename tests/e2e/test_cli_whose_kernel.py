"""The kernel that a command asks if its project has none, and lists that are narrowed down to nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from project_system import ProjectSystem, open_system

from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from real_system import eventually, launch

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "tagged"
tags = ["nightly", "billing"]
steps = [{ callable = "team.code:count" }]
"""

NO_RUN = "run_01kyjwj0000000000000000000"


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel on a socket and on TCP, with a host of its own project."""
    for opened in open_system(tmp_path_factory.mktemp("central"), forks_templates=True):
        opened.write(JOBS)
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        opened.start_kernel("--address", "unix:,tls://127.0.0.1:0")
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def _project(folder: Path, *lines: str) -> ProjectSystem:
    folder.mkdir()
    (folder / "nomaflow.toml").write_text("[host]\n" + "\n".join(lines) + "\n")
    (folder / "jobs.toml").write_text("")
    return ProjectSystem(project=folder)


def _addresses(central: ProjectSystem) -> tuple[str, str]:
    """Return the socket and the hosts' door that the kernel listens on."""
    [line] = [line for line in central.log("kernel").splitlines() if "serving on" in line]
    said = line.partition("serving on ")[2]
    return said.partition(", ")[0], said.partition(" for hosts")[0].rpartition(" ")[2]


def test_a_command_asks_the_kernel_that_the_host_dials(central: ProjectSystem, tmp_path: Path) -> None:
    """A command asks the host's kernel if the project has no kernel or only a dead one's address; an option wins."""
    unix, _ = _addresses(central)
    team = _project(tmp_path / "t", f'kernel = "{unix}"')
    assert [job["job_id"] for job in team.ask("jobs")["jobs"]] == ["tagged"]
    (team.project / ".nomaflow").mkdir()
    (team.project / ".nomaflow" / "address").write_text(f"unix:{tmp_path}/gone.sock\n")
    assert [job["job_id"] for job in team.ask("jobs")["jobs"]] == ["tagged"]
    assert "elsewhere.sock" in team.cli("jobs", "--address", f"unix:{tmp_path}/elsewhere.sock", code=5).err
    assert "cannot be read" in _project(tmp_path / "b", "kernel = ").cli("jobs", code=2).err


def test_a_command_in_a_copied_project_asks_no_kernel(central: ProjectSystem, tmp_path: Path) -> None:
    """The address of the kernel that runs in the original came along."""
    copy = _project(tmp_path / "copy")
    (copy.project / ".nomaflow").mkdir()
    shutil.copy(central.project / ".nomaflow" / "address", copy.project / ".nomaflow")
    assert "there is no .nomaflow/address of its own" in " ".join(copy.cli("jobs", code=5).err.split())


def test_the_host_s_certificate_is_not_a_client_s(
    central: ProjectSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command in the project of a joined host uses the person's login at that kernel, and says so if there is none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    unix, hosts = _addresses(central)
    team = _project(tmp_path / "t", f'kernel = "{hosts}"', 'name = "t"')
    strings = {}
    with grpc.insecure_channel(unix) as channel:
        for kind, name in ((access.TOKEN_KIND_HOST, "t"), (access.TOKEN_KIND_USER, "ann")):
            request = access.CreateTokenRequest(
                kind=kind, name=name, joins=True, roles=[] if name == "t" else ["viewer"]
            )
            strings[name] = AccessServiceStub(channel).CreateToken(request, timeout=20).secret
            (tmp_path / name).with_suffix(".join").write_text(strings[name])
    host = launch("nomaflow_host", team.project, "--join", str(tmp_path / "t.join"), log_file=tmp_path / "t.log")
    try:
        eventually(lambda: "attached to the kernel" in host.log)
        error = team.cli("jobs", code=2).err
        assert "the host's certificate is for the host only" in " ".join(error.split())
        assert "nomaflow login FILE" in error
        team.cli("login", str(tmp_path / "ann.join"))
        assert [job["job_id"] for job in team.ask("jobs")["jobs"]] == ["tagged"]
        said = " ".join(team.cli("run", "tagged", code=2).err.split())
        assert "ann may not call TriggerRun, which needs the grant `trigger`" in said
    finally:
        host.stop()


@pytest.mark.parametrize(
    "command",
    [("jobs",), ("runs",), ("runs", "--count", "job"), ("schedule", "--live"), ("events",), ("events", "--follow")],
    ids=" ".join,
)
def test_a_name_that_does_not_exist_is_refused(central: ProjectSystem, command: tuple[str, ...]) -> None:
    """A filter that finds nothing because its host or tag does not exist is refused with the names there are."""
    told = central.cli(*command, "--host", "tema", code=2).err
    assert ("no host has the name 'tema'" in told, "did you mean 'team'?" in told) == (True, True), told
    assert re.search(r"the known hosts are .*team", central.cli(*command, "--host", "x", "-o", "json", code=2).err)
    if command[0] == "events":
        assert (
            "no job has the id 'taged'; did you mean 'tagged'?" in central.cli(*command, "--job", "taged", code=2).err
        )
        assert "no run has the id" in central.cli(*command, "--run", NO_RUN, code=2).err
    else:
        told = central.cli(*command, "--tag", "nihgtly", code=2).err
        assert ("no job has the tag 'nihgtly'" in told, "did you mean 'nightly'?" in told) == (True, True), told
        assert "the known tags are billing, nightly" in central.cli(*command, "--tag", "zzz", code=2).err


def test_names_that_exist_may_find_nothing(central: ProjectSystem) -> None:
    """Names of existing things are no mistake, nor is a job that went but has runs."""
    assert central.cli("runs", "tagged", "--host", "team", "--tag", "nightly").out == "no runs match\n"
    assert central.cli("events", "--job", "tagged", "--kind", "pause").err == "no events match\n"
    assert "no job has the id 'taged'" in central.cli("runs", "--not", "taged", code=2).err
    for option in ("--replays-of", "--parent"):
        assert "no run has the id" in central.cli("runs", option, NO_RUN, code=2).err


def test_a_caller_who_did_nothing_is_asked_about_only_if_a_similar_one_did(central: ProjectSystem) -> None:
    """Anybody may do something later, so a filter by a strange name is no error; a misspelt one is asked about."""
    central.cli("pause", "tagged", "--why", "for the audit")
    central.cli("resume", "tagged")
    for command in (("runs", "--by"), ("events", "--by"), ("audit", "--principal")):
        told = central.cli(*command, "ownr")
        assert re.search(r"no (runs|events|rows) match; did you mean 'owner'\?", told.out + told.err), told
        told = central.cli(*command, "somebody.else")
        assert re.search(r"no (runs|events|rows) match$", (told.out + told.err).strip()), told


def test_a_list_of_tokens_of_nobody_is_refused(central: ProjectSystem) -> None:
    """A name that no credential has is refused with a similar one; one whose token has ended is said to have no good one."""
    central.ask("token", "create", "--service", "robot", "--role", "viewer")
    told = " ".join(central.cli("token", "list", "--name", "robto", code=2).err.split())
    assert "no token or certificate has the name 'robto'" in told
    assert "did you mean 'robot'?" in told
    assert [one["name"] for one in central.ask("token", "list", "--name", "robot")["tokens"]] == ["robot"]
    central.cli("token", "revoke", "robot")
    assert central.cli("token", "list", "--name", "robot").out == "none of them is good now; --all shows all\n"


def test_a_grant_for_something_that_does_not_exist_is_warned_of(central: ProjectSystem) -> None:
    """It may come later, so the token is made; a misspelt one is seen before a program is refused in the night."""
    grants = ("--grant", "trigger job:taged", "--grant", "read host:team", "--grant", "read tag:zzz*")
    made = central.cli("token", "create", "--service", "night", *grants)
    told = " ".join(made.err.split())
    assert "a grant for job:taged gives nothing so far: no job has the id 'taged'; did you mean 'tagged'?" in told
    assert "host:team gives" not in told
    assert "tag:zzz* gives" not in told
    assert made.out.startswith("nft1.")


def test_a_log_of_a_try_that_did_not_happen(central: ProjectSystem) -> None:
    """The log of a step that exists may be empty; that of a try that never began is refused."""
    run_id = central.ask("run", "tagged", "--wait")["run_id"]
    told = central.cli("logs", run_id, "--try", "9", code=2).err
    assert ("has no try 9" in told, "its newest is try 1" in told) == (True, True), told
    assert "step 'count' of run" in central.cli("logs", run_id, "--step", "count", "--try", "2", code=2).err
    assert central.cli("logs", run_id, "--try", "1", "--level", "critical").err == "no line matches\n"
    central.cli("runs", "--not", "tagged")
