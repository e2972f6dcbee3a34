"""Several instances of one host: from one folder, and from folders that hold the same code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from team_system import TeamSystem

from real_system import Running, eventually, run_to_end

pytestmark = pytest.mark.e2e

CODE = """
import os, time
from pathlib import Path

def together(*, meet, of, **_):
    (Path(meet) / str(os.getppid())).touch()
    while len(list(Path(meet).iterdir())) < of:
        time.sleep(0.01)
    return {"pid": os.getppid()}

def pid(**_):
    return {"pid": os.getppid()}
"""
JOBS = """
[[jobs]]
id = "together"
overlap = "allow"
steps = [{ callable = "work:together" }]

[[jobs]]
id = "picky"
steps = [{ callable = "work:pid", resources = { cpu = 2, gpus = 1, labels = { zone = "eu" } } }]
"""
BUSY = 75


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel and one host with one instance."""
    made = TeamSystem(root=tmp_path, forks_templates=True)
    made.start_kernel()
    made.project("team", {"jobs.toml": JOBS, "plugins/work.py": CODE})
    made.start_host("team", settings=["max_sync = 1", "shared_workers = 1", "capacity = { cpu = 1, gpus = 0 }"])
    yield made
    made.close()


def _attached(system: TeamSystem) -> set[int]:
    view = system.host_view("team")
    return {one.pid for one in view.instances if one.state == "ATTACHED" and one.generation} if view else set()


def _one_more(system: TeamSystem, name: str, project: Path, *flags: str) -> Running:
    return system.launch_host(name, project, "--name", "team", "--kernel", system.kernel_address, *flags)


def test_instances_share_a_folder_if_each_has_a_state_directory(system: TeamSystem, tmp_path: Path) -> None:
    """The second is turned away, and told the way out; with a folder of its own it serves beside the first."""
    project = tmp_path / "team"
    second = _one_more(system, "second", project)
    assert second.process.wait(30) == BUSY
    assert "for one more instance of this host, a --state-dir" in second.log
    state = tmp_path / "scratch" / "second"
    third = _one_more(system, "third", project, "--state-dir", str(state))
    eventually(lambda: third.pid in _attached(system))
    assert (state / "instance.json").exists()
    assert state.stat().st_mode & 0o777 == 0o700
    meet = tmp_path / "meet"
    meet.mkdir()
    runs = [system.start("together", meet=str(meet), of=2) for _ in range(2)]
    assert {system.end(run).state for run in runs} == {"SUCCEEDED"}
    assert len({attempt.incarnation for run in runs for attempt in system.run(run).steps[0].attempts}) == 2


def test_a_given_state_directory_must_be_private(system: TeamSystem, tmp_path: Path) -> None:
    """The rights of a folder that somebody named are not changed: it may be everybody's."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    second = _one_more(system, "second", tmp_path / "team", "--state-dir", str(shared))
    assert second.process.wait(30) == 78
    assert f"chmod 700 {shared}" in second.log
    assert shared.stat().st_mode & 0o777 == 0o755


def test_an_idle_instance_ends_and_leaves_no_trace(system: TeamSystem, tmp_path: Path) -> None:
    """It serves, has nothing to do for long enough, and ends with 0; the kernel forgets it, and the other serves on."""
    meet = tmp_path / "meet"
    meet.mkdir()
    runs = [system.start("together", meet=str(meet), of=2) for _ in range(2)]  # it has work from its first moment on
    flags = ("--state-dir", str(tmp_path / "second"), "--idle-exit-seconds", "3")
    second = _one_more(system, "second", tmp_path / "team", *flags)
    assert {system.end(run).state for run in runs} == {"SUCCEEDED"}
    assert len({attempt.incarnation for run in runs for attempt in system.run(run).steps[0].attempts}) == 2
    assert second.process.wait(30) == 0
    assert "idle for 3 s" in second.log
    eventually(
        lambda: (view := system.host_view("team")) and [one.pid for one in view.instances] == [system.parts["team"].pid]
    )


def test_the_same_code_in_other_folders_changes_nothing(system: TeamSystem, tmp_path: Path) -> None:
    """The catalogue is introduced once, and a run waits for no instance in particular."""
    known = system.host_view("team")
    copies = []
    for number in range(3):
        copies.append(tmp_path / f"node{number}" / "app")
        shutil.copytree(tmp_path / "team", copies[-1], ignore=shutil.ignore_patterns(".nomaflow"))
    started = [_one_more(system, f"node{number}", copy) for number, copy in enumerate(copies)]
    eventually(lambda: {each.pid for each in started} <= _attached(system))
    view = system.host_view("team")
    assert known is not None
    assert view is not None
    assert (view.manifest_digest, view.introduced_at) == (known.manifest_digest, known.introduced_at)
    assert {one.manifest_digest for one in view.instances} == {known.manifest_digest}
    for copy in copies:
        assert f"in {copy}," in system.log("kernel")


def test_a_long_load_does_not_count_as_idle(system: TeamSystem, tmp_path: Path) -> None:
    """An instance whose code takes longer to load than it may be idle serves first, and ends afterwards."""
    slow = tmp_path / "slow"
    shutil.copytree(tmp_path / "team", slow, ignore=shutil.ignore_patterns(".nomaflow"))
    slow.joinpath("plugins", "work.py").write_text(f"import time\ntime.sleep(3)\n{CODE}", "utf-8")
    second = _one_more(system, "second", slow, "--idle-exit-seconds", "1")
    assert second.process.wait(60) == 0
    assert "generation 1 serves" in second.log
    assert second.log.index("generation 1 serves") < second.log.index("idle for 1 s")


def test_a_step_waits_for_the_instance_that_it_needs(system: TeamSystem, tmp_path: Path) -> None:
    """It says what is missing, is in the demand, and runs on the first instance that has all of it."""
    run_id = system.start("picky")
    view = system.run(run_id)
    assert (view.state, view.reason and view.reason.code) == ("QUEUED", "no_fitting_instance")
    assert view.reason is not None
    assert "lacks label zone = 'eu', cpu = 2 (it has 1), gpus = 1 (it has 0)" in view.reason.message
    (wanted,) = system.api.list_wanted()
    assert (wanted.host, wanted.attempts) == ("team", 1)
    assert wanted.needs.to_json() == {"cpu": 2.0, "memory_mb": 0, "gpus": 1, "labels": {"zone": "eu"}}
    flags = ("--state-dir", str(tmp_path / "second"), "--labels", "zone=eu", "--capacity", "cpu=2.5,gpus=1")
    second = _one_more(system, "second", tmp_path / "team", *flags)
    assert system.end(run_id).state == "SUCCEEDED"
    host = system.host_view("team")
    assert host is not None
    (there,) = [one for one in host.instances if one.pid == second.pid]
    assert system.run(run_id).steps[0].attempts[0].incarnation == there.incarnation
    assert there.has is not None
    assert (there.has.cpu, there.has.gpus, dict(there.has.labels)) == (2.5, 1, {"zone": "eu"})
    assert there.has.memory_mb > 100
    assert system.api.list_wanted() == []


def test_an_instance_drains_before_the_time_of_its_machine_ends(system: TeamSystem, tmp_path: Path) -> None:
    """It ends with 0 a minute before, and the kernel knew when that would be."""
    flags = ("--state-dir", str(tmp_path / "second"), "--ends-at", "+80")
    second = _one_more(system, "second", tmp_path / "team", *flags)
    eventually(lambda: second.pid in _attached(system))
    host = system.host_view("team")
    assert host is not None
    (there,) = [one for one in host.instances if one.pid == second.pid]
    assert there.ends_at is not None
    assert 0 < (there.ends_at - datetime.now(UTC)).total_seconds() < 81
    assert second.process.wait(60) == 0
    assert "the time of this machine ends in 60 s" in second.log


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--ends-at", "tomorrow"), "'tomorrow' is not a moment; expected +SECONDS"),
        (("--ends-at", "2020-01-01T00:00:00Z"), "is in the past"),
        (("--labels", "zone"), "'zone' has no value"),
        (("--labels", "Zone=eu"), "'Zone' = 'eu' is not a label"),
        (("--capacity", "gpu=1"), "unknown 'gpu'; expected cpu, memory_mb, gpus"),
        (("--capacity", "cpu=lots"), "cpu is 'lots'; expected a number from 0 to 65,536"),
    ],
)
def test_a_flag_that_cannot_be_read_is_refused_by_name(tmp_path: Path, flags: tuple[str, str], problem: str) -> None:
    """The command ends before it has done anything, with what was expected."""
    code, told = run_to_end("nomaflow_host", "--project", str(tmp_path), *flags)
    assert (code, f"argument {flags[0]}: " in told, problem in told) == (2, True, True), told
