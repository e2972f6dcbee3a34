"""Doctor says what separates teams, what does not, what steps do not see, and who may do what."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from nomaflow.client.values import CertificateView, TokenView
from nomaflow_cli.doctor.access import examine_access
from nomaflow_cli.doctor.findings import Finding, Level
from nomaflow_cli.doctor.host_processes import RunningHost, hosts_here
from nomaflow_cli.doctor.isolation import examine_isolation
from real_system import eventually

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return findings by their names."""
    return {each.check: each for each in findings}


def host(project: Path | str, *, pid: int = 100, uid: int = 1000, code_uid: int | None = 1000) -> RunningHost:
    """Return a host."""
    return RunningHost(pid=pid, project=str(project), uid=uid, code_uid=code_uid)


def test_projects_whose_code_runs_as_one_user_are_named(tmp_path: Path) -> None:
    """A warning names the projects of a kernel's hosts that share a user; two hosts of one project are no reason."""
    shared = [host("/srv/a", pid=1), host("/srv/b", pid=2), host("/srv/c", pid=3, uid=1000, code_uid=1001)]
    found = by_check(examine_isolation(tmp_path, served=[1, 2, 3], hosts=shared))["isolation.shared"]
    assert found.level is Level.WARNING
    assert "/srv/a, /srv/b" in found.message
    assert "/srv/c" not in found.message
    assert "run_as" in found.fix
    apart = [host("/srv/a", pid=1), host("/srv/a", pid=2), host("/srv/b", pid=3, code_uid=1001)]
    assert "isolation.shared" not in by_check(examine_isolation(tmp_path, served=[1, 2, 3], hosts=apart))


def test_projects_of_others_are_left_out(tmp_path: Path) -> None:
    """Hosts that neither run this project nor serve its kernel are named only if they share a user with it."""
    others = [host("/srv/a", pid=1, uid=0, code_uid=0), host("/srv/b", pid=2, uid=0, code_uid=0)]
    assert by_check(examine_isolation(tmp_path, hosts=others)) == {}
    mine = host(tmp_path, pid=3)
    assert "isolation.shared" not in by_check(examine_isolation(tmp_path, hosts=[*others, mine]))
    as_root = host(tmp_path, pid=3, uid=0, code_uid=0)
    found = by_check(examine_isolation(tmp_path, hosts=[*others, as_root]))["isolation.shared"]
    assert found.message.startswith("the code of 3 projects runs as root: ")


@pytest.mark.parametrize(
    ("uid", "code_uid", "check", "level", "words"),
    [
        (0, 0, "isolation.root", Level.WARNING, "run as root"),
        (0, 1000, "isolation.user", Level.OK, "the host as another user"),
        (1000, 1000, "isolation.user", Level.OK, "run_as separates them"),
    ],
)
def test_the_user_of_steps_is_told(
    tmp_path: Path, uid: int, code_uid: int, check: str, level: Level, words: str
) -> None:
    """Steps that run as root are a warning; steps as another user than the host are in order."""
    found = by_check(examine_isolation(tmp_path, hosts=[host(tmp_path, uid=uid, code_uid=code_uid)]))[check]
    assert (found.level, words in found.message) == (level, True)


def test_what_a_host_withholds_is_listed(tmp_path: Path) -> None:
    """The names that a host has written down are shown, with the key that passes them on, without those of shells."""
    folder = tmp_path / ".nomaflow" / "host-team"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "withheld").write_bytes(b"APP_REGION\nD\xff\nGRPC_VERBOSITY\nPWD\nSHLVL\n_")
    found = by_check(examine_isolation(tmp_path, hosts=[]))["isolation.withheld"]
    assert found.message.startswith(
        "host 'team' withholds 2 variables of its environment from steps: APP_REGION, D\ufffd ("
    )
    assert "[host] pass_env" in found.message


@pytest.mark.parametrize("named", ["--project={}", "--project=.", ""])
def test_hosts_are_found_among_the_processes(tmp_path: Path, named: str) -> None:
    """A process that runs nomaflow_host on a project is found with its user and that of its code below it.

    Without an absolute path its project is where it runs, not where we do.
    """
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', "
    code += "'nomaflow_host.template']); time.sleep(60)"
    command = [sys.executable, "-c", code, "-m", "nomaflow_host", *named.format(tmp_path).split()]
    process = subprocess.Popen(command, start_new_session=True, cwd=tmp_path)
    try:

        def found() -> RunningHost | None:
            return next((each for each in hosts_here() if each.pid == process.pid and each.code_uid is not None), None)

        seen = eventually(found)
        assert seen == RunningHost(pid=process.pid, project=str(tmp_path), uid=os.getuid(), code_uid=os.getuid())
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_who_may_do_what_is_one_page() -> None:
    """The owner, each user, service and host has a line with its grants; what ends soon or is not used is a warning.

    The credentials of single instances share one line for each host.
    """
    day = timedelta(days=1)
    made = {"created_at": NOW - 70 * day, "expires_at": NOW + 20 * day, "last_used_at": NOW - day}
    tokens = [
        TokenView(token_id="t1", kind="user", name="alice", grants=("read *", "trigger job:x"), **made),  # type: ignore[arg-type]
        TokenView(token_id="t2", kind="service", name="ci", grants=("read *",), **{**made, "last_used_at": None}),  # type: ignore[arg-type]
        TokenView(token_id="t3", kind="user", name="bob", grants=("admin *",), **{**made, "expires_at": NOW + day}),  # type: ignore[arg-type]
        TokenView(token_id="t4", kind="host", name="teamb", joins=True, uses_left=1, **made),  # type: ignore[arg-type]
    ]
    alone = [structs.replace(tokens[3], token_id=f"i{number}", instance_seconds=60) for number in range(3)]
    certificates = [CertificateView(serial="ab", host="teama", expires_at=NOW + 9 * day)]
    certificates += [structs.replace(certificates[0], serial="cd", instance=True)]
    findings = list(examine_access([*tokens, *alone], certificates, now=NOW))
    found = by_check(findings)
    assert [each.message.partition(": ")[2] for each in findings if each.check == "access.instances"] == [
        "1 certificate, 0 unused join strings", "0 certificates, 3 unused join strings",
    ]  # fmt: skip
    assert len(findings) == len(tokens) + 4
    assert "everything" in found["access.owner"].message
    assert found["access.user"].message == (
        "user alice: read *, trigger job:x; until 2026-12-16, last used 1 d ago (token t1)"
    )
    assert (found["access.unused"].level, "ci" in found["access.unused"].message) == (Level.WARNING, True)
    assert (found["access.ending"].level, found["access.ending"].fix) == (Level.WARNING, "nomaflow token rotate t3")
    rotated = structs.replace(tokens[2], token_id="t5", expires_at=NOW + 20 * day)
    found = by_check(examine_access([*tokens, rotated], certificates, now=NOW))
    assert found["access.ending"].fix == "use t5 instead, which may do the same"  # not: rotate t3 once more
    assert "join string t4, 1 use left: becomes host teamb" in found["access.joining"].message
    assert found["access.host"].message.startswith("host teama: runs the steps of its own jobs; until 2026-12-05")
