"""The doctor's findings about files and a kernel's answers."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from cli_command import Command
from nomaflow.client.values import (
    CatalogueView,
    FireView,
    HostView,
    InstanceView,
    JobView,
    KernelView,
    PauseView,
    RunView,
)
from nomaflow_api.byte_sizes import byte_size
from nomaflow_api.version import VERSION
from nomaflow_cli.doctor.findings import Finding, Level
from nomaflow_cli.doctor.machine import examine_machine
from nomaflow_cli.doctor.project_files import examine_project
from nomaflow_cli.doctor.store_files import examine_store
from nomaflow_cli.doctor.system import SystemView, examine_system
from nomaflow_cli.invocation import EXTRAS
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.sql_store import open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
INSTANCE = InstanceView(incarnation="i", state="ATTACHED", pid=7, machine="box", version=VERSION, generation=1)
HOST = HostView(name="team", state="ATTACHED", job_count=1, instances=(INSTANCE,))
WELL = SystemView(
    kernel=KernelView(version=VERSION, epoch=3, pid=9, store="sqlite", started_at=NOW - timedelta(hours=1)),
    hosts=[HOST],
    catalogue=CatalogueView(jobs=(JobView(job_id="j", next_fires=(FireView(at=NOW + timedelta(hours=1)),)),)),
    queued=[],
    running=[],
    read_seconds=0.01,
)
LATE = (FireView(at=NOW - timedelta(hours=1)),)


def run(state: str, host: str = "team") -> RunView:
    return RunView(run_id="run_1", job_id="j", state=state, host=host, queued_at=NOW - timedelta(minutes=9))


def bad(view: SystemView) -> dict[str, Level]:
    """Return what is not in order; each must say how to mend it."""
    found = [each for each in examine_system(view, now=NOW) if each.level is not Level.OK]
    assert all(each.fix for each in found)
    return {each.check: each.level for each in found}


def test_a_host_at_zero_is_in_order() -> None:
    """A launcher starts an instance of it when a step waits: the host is not away, and its runs are not stuck."""
    zero = structs.replace(HOST, instances=(), launched=True)
    assert bad(replace(WELL, hosts=[zero], queued=[run("QUEUED", zero.name)], running=[])) == {}


def test_a_system_in_order_has_nothing_to_mend() -> None:
    """Every line is fine, and none has a way out."""
    findings = list(examine_system(WELL, now=NOW))
    assert bad(WELL) == {}
    assert {each.area for each in findings} == {"kernel", "hosts", "runs"}


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"kernel": structs.replace(WELL.kernel, trouble="no room; make some")}, "kernel.health", Level.PROBLEM),
        ({"read_seconds": 3.0}, "kernel.slow", Level.WARNING),
        ({"kernel": structs.replace(WELL.kernel, version="9.9")}, "kernel.version", Level.WARNING),
        ({"hosts": []}, "hosts.none", Level.WARNING),
        ({"hosts": [structs.replace(HOST, instances=())]}, "hosts.absent", Level.PROBLEM),
        ({"hosts": [structs.replace(HOST, instances=(), job_count=0)]}, "hosts.absent", Level.WARNING),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, state="UNREACHABLE"),))]},
            "hosts.unreachable",
            Level.PROBLEM,
        ),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, state="LOADING", generation=0),))]},
            "hosts.loading",
            Level.WARNING,
        ),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, generation=0),))]},
            "hosts.no_code",
            Level.PROBLEM,
        ),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, code_newer=True),))]},
            "hosts.code",
            Level.WARNING,
        ),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, version="0"),))]},
            "hosts.version",
            Level.WARNING,
        ),
        (
            {
                "hosts": [
                    structs.replace(
                        HOST, manifest_digest="a", instances=(structs.replace(INSTANCE, manifest_digest="b"),)
                    )
                ]
            },
            "hosts.manifest",
            Level.WARNING,
        ),
        (
            {"hosts": [structs.replace(HOST, instances=(structs.replace(INSTANCE, spilled_bytes=1 << 30),))]},
            "hosts.spill",
            Level.WARNING,
        ),
        (
            {
                "hosts": [
                    structs.replace(HOST, instances=(structs.replace(INSTANCE, spilled_bytes=1 << 30, saturated=True),))
                ]
            },
            "hosts.saturated",
            Level.PROBLEM,
        ),
        ({"running": [run("RUNNING", "gone")]}, "runs.cut_off", Level.WARNING),
        ({"queued": [run("QUEUED", "gone")]}, "runs.no_host", Level.WARNING),
        ({"catalogue": CatalogueView(jobs=(JobView(job_id="j", valid=False),))}, "runs.jobs", Level.WARNING),
        ({"catalogue": CatalogueView(jobs=(JobView(job_id="j", kept=True),))}, "runs.kept", Level.PROBLEM),
        ({"catalogue": CatalogueView(jobs=(JobView(job_id="j", kept=True, held="no"),))}, "runs.held", Level.PROBLEM),
        ({"catalogue": CatalogueView(jobs=(JobView(job_id="j", pause=PauseView()),))}, "runs.paused", Level.WARNING),
        (
            {
                "catalogue": CatalogueView(
                    jobs=(JobView(job_id="j", next_fires=(FireView(at=NOW - timedelta(hours=1)),)),)
                )
            },
            "runs.late",
            Level.PROBLEM,
        ),
    ],
)
def test_what_is_wrong_with_a_system_is_named(change: dict[str, object], check: str, level: Level) -> None:
    """One thing wrong is one finding beside those in order."""
    assert bad(replace(WELL, **change))[check] is level  # type: ignore[arg-type]  # fields of the view


def _files(project: Path) -> dict[str, Finding]:
    return {each.check: each for each in examine_project(project)}


def test_files_that_others_may_read_are_named_with_the_command_that_mends_them(tmp_path: Path) -> None:
    """State, token, the socket's directory and a literal credential are named, a reference to a variable is not."""
    state = tmp_path / ".nomaflow"
    (state / "run").mkdir(parents=True)
    (state / "token").write_text("t")
    (tmp_path / "connectors.toml").write_text('[pools.main]\nurl = "postgresql://u:${PW}@h/d"\n')
    for path, mode in ((state, 0o700), (state / "run", 0o700), (state / "token", 0o600)):
        path.chmod(mode)
    (tmp_path / "connectors.toml").chmod(0o644)
    assert _files(tmp_path)["project.permissions"].level is Level.OK
    assert "project.credentials" not in _files(tmp_path)
    (tmp_path / "connectors.toml").write_text('[pools.main]\nurl = "postgresql://u:hunter2@h/d"\n')
    found = _files(tmp_path)["project.credentials"]
    assert found.level is Level.PROBLEM
    assert "hunter2" not in found.message + found.fix
    (state / "run").chmod(0o755)
    found = _files(tmp_path)["project.permissions"]
    assert (found.level, found.fix) == (Level.PROBLEM, f"chmod 700 {state / 'run'}")


@pytest.mark.parametrize(("name", "mode"), [("pki", 0o700), ("host-team", 0o700), ("identity.json", 0o600)])
def test_keys_and_reports_are_their_owners_alone(tmp_path: Path, name: str, mode: int) -> None:
    """A file or folder that others may read is named with the command that closes it."""
    path = tmp_path / ".nomaflow" / name
    path.parent.mkdir(mode=0o700)
    path.mkdir(mode) if mode == 0o700 else path.touch(mode)
    assert _files(tmp_path)["project.permissions"].level is Level.OK
    path.chmod(mode | 0o040)
    found = _files(tmp_path)["project.permissions"]
    assert (found.level, found.fix) == (Level.WARNING, f"chmod {mode:o} {path}")


@pytest.mark.parametrize(("days", "level"), [(25, Level.OK), (3, Level.WARNING), (-1, Level.PROBLEM)])
def test_the_end_of_a_host_s_certificate_is_told(tmp_path: Path, days: int, level: Level) -> None:
    """Good, late in its renewal, or over: then the commands to join again are named. Damage is the host's to tell."""
    file = tmp_path / ".nomaflow" / "identity.json"
    file.parent.mkdir(mode=0o700)
    expires_at = (datetime.now(UTC) + timedelta(days=days)).timestamp()
    facts = {"host": "teamb", "kernel_id": "k", "addresses": ["tls://kernel:7434"], "expires_at": int(expires_at)}
    file.write_text(json.dumps(facts))
    found = _files(tmp_path)["project.identity"]
    assert found.level is level
    assert "tls://kernel:7434" in found.message
    assert ("nomaflow token create --host teamb" in found.fix) is (level is not Level.OK)
    file.write_text("{}")
    assert "project.identity" not in _files(tmp_path)


def test_a_mistake_in_a_job_is_found_without_importing_code(tmp_path: Path) -> None:
    """The first error is quoted, and check has the rest."""
    (tmp_path / "jobs.toml").write_text('[[jobs]]\nid = "a b"\nsteps = []\n')
    found = _files(tmp_path)["project.files"]
    assert found.level is Level.PROBLEM
    assert found.fix.startswith("nomaflow check ")


def test_a_place_for_a_kernel_alone_is_in_order(tmp_path: Path) -> None:
    """Teams and their jobs are elsewhere; where code is, jobs.toml is missed by name. An error in its file is told."""
    (tmp_path / "nomaflow.toml").write_text('[kernel]\nlisten = "tls://127.0.0.1:99999"\n')
    found = _files(tmp_path)["project.files"]
    assert (found.level, "1 error; the first, in nomaflow.toml: the address" in found.message) == (Level.PROBLEM, True)
    (tmp_path / "nomaflow.toml").write_text("")
    assert _files(tmp_path)["project.files"].level is Level.OK
    (tmp_path / "plugins").mkdir()
    found = _files(tmp_path)["project.files"]
    assert (found.level, "jobs.toml" in found.message) == (Level.PROBLEM, True)


def test_the_machine_is_described(tmp_path: Path) -> None:
    """Python, /proc, disk and clock each have a line; `hosts` knows how a host limits its workers, a shell does not."""
    levels = {each.check: each.level for each in examine_machine(tmp_path)}
    assert levels.keys() >= {"machine.python", "machine.proc", "machine.disk", "machine.clock"}
    assert (levels["machine.proc"], levels["machine.clock"]) == (Level.OK, Level.OK)
    assert levels.keys().isdisjoint(f"machine.{name}" for name in EXTRAS)  # all of them are installed here
    assert not any("cgroup" in each.message for each in examine_machine(tmp_path))


@pytest.mark.parametrize(
    ("free", "level"), [(99 << 20, Level.PROBLEM), (1023 << 20, Level.WARNING), (1 << 30, Level.OK)]
)
def test_little_space_and_a_clock_of_long_ago_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    """Before history or schedules suffer from them."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr("nomaflow_cli.doctor.machine._LONG_AGO", datetime(9999, 1, 1, tzinfo=UTC))
    levels = {each.check: each.level for each in examine_machine(tmp_path)}
    assert (levels["machine.disk"], levels["machine.clock"]) == (level, Level.PROBLEM)


async def findings_of(command: Command) -> dict[str, dict[str, str]]:
    """Return what doctor says of the working directory, by check."""
    async with asyncio.timeout(30):
        done = await command("doctor", "-o", "json")
    assert done.err == ""
    return {each["check"]: each for each in json.loads(done.out)["findings"]}


async def test_a_history_that_is_none_is_told_from_one_that_is_not_there_yet(command: Command, tmp_path: Path) -> None:
    """An empty file is a first start that was cut short; a folder, or a file removed under a kernel, is a problem."""
    project = tmp_path / "cwd"
    (project / "jobs.toml").touch()
    history = project / ".nomaflow" / "kernel.db"
    history.parent.mkdir(mode=0o700)
    history.touch(mode=0o600)
    found = (await findings_of(command))["store.history"]
    assert (found["level"], "no history yet" in found["message"]) == ("ok", True)
    history.unlink()
    lock = FileLock(str(history))
    lock.acquire()
    found = (await findings_of(command))["store.history"]
    lock.release()
    assert (found["level"], f"removed under process {os.getpid()}" in found["message"]) == ("problem", True)
    lock = FileLock(str(history), work="restore")
    lock.acquire()
    found = (await findings_of(command))["store.lock"]
    lock.release()
    assert (found["level"], found["message"].startswith("a restore, process")) == ("warning", True)
    history.mkdir()
    found = (await findings_of(command))["store.history"]
    assert (found["level"], "not a file" in found["message"]) == ("problem", True)


async def test_the_size_of_a_history_counts_its_write_ahead_log(command: Command, tmp_path: Path) -> None:
    """A young history, and one that a read holds up, is in the log for the most part."""
    history = tmp_path / "cwd" / ".nomaflow" / "kernel.db"
    (tmp_path / "cwd" / "jobs.toml").touch()
    history.parent.mkdir(mode=0o700)
    store = open_store(f"sqlite:///{history}")
    await store.open()
    found = (await findings_of(command))["store.history"]
    size = byte_size(sum(file.stat().st_size for file in (history, history.with_name("kernel.db-wal"))))
    await store.close()
    assert f", {size}, schema " in found["message"]


async def test_a_state_folder_that_is_a_file_is_named(command: Command, tmp_path: Path) -> None:
    """The state folder is the only finding; the doctor draws no other conclusions."""
    project = tmp_path / "cwd"
    (project / "jobs.toml").touch()
    (project / ".nomaflow").write_text("mine")
    found = await findings_of(command)
    assert {check: each["level"] for check, each in found.items() if each["level"] == "problem"} == {
        "project.state": "problem",
        "store.history": "problem",
    }
    assert found["store.history"]["message"].endswith("is not a directory")


async def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(command: Command, tmp_path: Path) -> None:
    """The command reports the pipe and does not wait for a writer."""
    os.mkfifo(tmp_path / "cwd" / "jobs.toml")
    os.mkfifo(tmp_path / "cwd" / "connectors.toml")
    found = (await findings_of(command))["project.files"]
    assert (found["level"], "not a regular file" in found["message"]) == ("problem", True)


async def test_what_is_about_one_thing_stands_together(command: Command, tmp_path: Path) -> None:
    """Each heading is printed once, even that of the kernel, which has findings from two places."""
    (tmp_path / "cwd" / "nomaflow.toml").write_text('[kernel]\ntls_cert = "none.crt"\ntls_key = "none.key"\n')
    headings = [line for line in (await command("doctor")).out.splitlines() if line and line[0].isalpha()]
    assert headings == ["machine", "project", "store", "kernel"]


@pytest.mark.parametrize("joined", [False, True])
async def test_a_project_whose_kernel_is_elsewhere_needs_no_history(
    command: Command, tmp_path: Path, joined: bool
) -> None:
    """The doctor looks for no history here; no login at the kernel is a warning, a kernel that is silent a problem."""
    project = tmp_path / "cwd"
    (project / "jobs.toml").touch()
    address = "tls://127.0.0.1:7433" if joined else f"unix:{tmp_path}/none.sock"
    (project / "nomaflow.toml").write_text(f'[host]\nkernel = "{address}"\n')
    found = await findings_of(command)
    assert "store.history" not in found
    if joined:
        assert (found["kernel.login"]["level"], "nomaflow login" in found["kernel.login"]["fix"]) == ("warning", True)
    else:
        assert (found["kernel.answers"]["level"], address in found["kernel.answers"]["message"]) == ("problem", True)
        assert str(project) not in found["kernel.answers"]["fix"]


async def test_the_command_exits_1_for_a_problem_only(command: Command, tmp_path: Path) -> None:
    """A project without a kernel has warnings; a damaged history is a problem with the way to a backup."""
    project = tmp_path / "cwd"
    (project / "jobs.toml").touch()
    done = await command("doctor", "-o", "json")
    told = json.loads(done.out)
    assert (done.code, told["ok"], done.err) == (0, True, "")
    assert {each["check"]: each["level"] for each in told["findings"]}["kernel.answers"] == "warning"
    (project / ".nomaflow").mkdir(mode=0o700)
    (project / ".nomaflow" / "kernel.db").write_bytes(b"\xff" * 9000)
    done = await command("doctor")
    assert done.code == 1
    assert "✘ the history" in done.out
    assert "nomaflow restore BACKUP" in done.out
    assert "Traceback" not in done.out + done.err
    unreachable = await command("doctor", "--address", f"unix:{tmp_path}/none.sock", "-o", "json")
    assert (unreachable.code, json.loads(unreachable.out)["ok"]) == (1, False)


async def test_a_store_that_only_the_kernel_s_variables_name_is_not_looked_for_here(tmp_path: Path) -> None:
    """A moved file beside a kernel on PostgreSQL is no problem; without that kernel the way out is told."""
    url = f"sqlite:///{tmp_path / 'kernel.db'}"
    store = open_store(url)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(tmp_path / "kernel.db")) as history, history:
        history.execute("UPDATE kernel SET mark = 'moved'")
    serving = list(examine_store(tmp_path, store=url, deep=False, serves="postgresql"))
    assert [(each.check, each.level) for each in serving] == [("store.history", Level.OK)]
    moved = {each.check: each.fix for each in examine_store(tmp_path, store=url, deep=False, serves=None)}
    assert "[kernel] store" in moved["store.moved"]


async def test_the_disk_of_the_history_is_the_one_that_fills(tmp_path: Path) -> None:
    """A history on another disk than the project has a line about the room there."""
    disk = tmp_path.stat().st_dev
    other = next(path for path in ("/dev/shm", "/tmp", "/var/tmp") if Path(path).stat().st_dev != disk)
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        for folder, checks in ((tmp_path, False), (Path(elsewhere), True)):
            store = open_store(f"sqlite:///{folder / 'kernel.db'}")
            await store.open()
            await store.close()
            found = examine_store(tmp_path, store=f"sqlite:///{folder / 'kernel.db'}", deep=False, serves=None)
            told = {each.check: each.message for each in found}
            assert ("free on the history's disk" in told.get("store.disk", "")) is checks, told
