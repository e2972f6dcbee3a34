"""Edits of a project under ``--watch``: each is answered at once, and none takes a job away by accident."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from team_system import TeamSystem

from cli_command import run_command
from real_system import eventually, launch_up

pytestmark = pytest.mark.e2e

CODE = "def work(**_):\n    return 1\n"
JOBS = '[[jobs]]\nid = "other"\nsteps = [{ callable = "team:work" }]\n'
NIGHTLY = '[[jobs]]\nid = "nightly"\nschedule = "0 2 * * *"\nsteps = [{ callable = "team:work" }]\n'
FILES = {"jobs.toml": JOBS, "plugins/team.py": CODE, "plugins/x/jobs.toml": NIGHTLY}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel, and a host that watches its project."""
    made = TeamSystem(root=tmp_path, forks_templates=True)
    made.start_kernel()
    made.project("team", FILES)
    made.start_host("team", "--watch")
    yield made
    made.close()


def _loads(system: TeamSystem) -> list[dict[str, Any]]:
    """Return what the kernel was told of loads since the host attached, oldest first."""
    found = []
    last = system.api.get_kernel().last_event_seq
    for event in system.api.watch_events(from_start=True):
        if event.kind in ("host.reloaded", "host.reload_refused"):
            found.append({"kind": event.kind, **event.data})
        if event.seq >= last:
            break
    return found


def _newest(system: TeamSystem) -> dict[str, Any]:
    return (_loads(system) or [{"kind": ""}])[-1]


def test_a_file_that_is_replaced_removes_nothing(system: TeamSystem) -> None:
    """Editors and git delete and create: a plugin's job file may be gone for two seconds; then its jobs are removed."""
    file = system.root / "team" / "plugins" / "x" / "jobs.toml"
    file.unlink()
    (system.root / "team" / "plugins" / "team.py").write_text(CODE + "\n\n")
    time.sleep(0.5)  # the edit itself: it takes an editor that long to write the file anew
    file.write_text(NIGHTLY.replace("0 2", "0 3"))
    eventually(lambda: system.api.get_job("nightly").schedule == "0 3 * * *")
    loads = eventually(lambda: _loads(system))  # they are told after the manifest
    # One that saw the file half written is refused, and names no jobs.
    assert not any(each.get("removed_job_ids") for each in loads)
    file.unlink()
    eventually(lambda: _newest(system).get("removed_job_ids") == ["nightly"])


def test_files_behind_links_are_watched(system: TeamSystem, tmp_path: Path) -> None:
    """A folder replaced by a link is loaded from there, a save behind the link too; a link to nowhere is refused."""
    folder = system.root / "team" / "plugins" / "x"
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "jobs.toml").write_text(NIGHTLY.replace("0 2", "0 4"))
    folder.symlink_to(elsewhere)
    eventually(lambda: system.api.get_job("nightly").schedule == "0 4 * * *")
    (elsewhere / "jobs.toml").write_text(NIGHTLY.replace("0 2", "0 5"))
    eventually(lambda: system.api.get_job("nightly").schedule == "0 5 * * *")
    elsewhere.rename(tmp_path / "moved")
    eventually(lambda: _newest(system)["kind"] == "host.reload_refused")
    assert _newest(system)["problems"][0]["file"] == "plugins/x/jobs.toml"
    (tmp_path / "moved").rename(elsewhere)
    eventually(lambda: _newest(system)["kind"] == "host.reloaded")
    assert system.api.get_job("nightly").schedule == "0 5 * * *"


def test_a_name_that_is_no_text_ends_no_watch(system: TeamSystem) -> None:
    """The host tells of it once and loads what is saved beside it; it does so too once the name is gone."""
    project = system.root / "team"
    folder = os.fsencode(project / "plugins") + b"/caf\xe9"
    os.mkdir(folder)
    Path(os.fsdecode(folder), "rapport.txt").touch()
    for times in ("0 3", "0 4"):
        (project / "plugins/x/jobs.toml").write_text(NIGHTLY.replace("0 2", times))
        eventually(lambda: system.api.get_job("nightly").schedule == f"{times} * * *")  # noqa: B023  # asked at once
    shutil.rmtree(folder)
    (project / "plugins/x/jobs.toml").write_text(NIGHTLY.replace("0 2", "0 5"))
    eventually(lambda: system.api.get_job("nightly").schedule == "0 5 * * *")
    assert system.parts["team"].log.count("watching the project failed") == 1


@contextlib.contextmanager
def _up(project: Path, *flags: str) -> Iterator[Callable[[], str]]:
    """Run ``up`` on a project; yields what it has printed so far."""
    screen = project.parent / "screen"
    up = launch_up(project, "--no-console", "--name", "team", *flags, log_file=screen, environ={"COLUMNS": "100"})
    try:
        eventually(lambda: "Ctrl-C" in up.log)
        yield lambda: up.log
    finally:
        up.stop(signal.SIGINT)


def test_up_prints_what_is_wrong_and_when_it_is_mended(tmp_path: Path) -> None:
    """A save that breaks code or jobs is printed with file, line, source and sentence; a good one says that it serves."""
    project = tmp_path / "team"
    for path, text in FILES.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    with _up(project, "--watch") as printed:
        (project / "plugins/team.py").write_text("\ndef work(:\n    return 1\n")
        eventually(lambda: "refused the load: the last good code stays in use" in printed())
        eventually(lambda: "SyntaxError" in printed())
        assert "plugins/team.py:2" in printed()
        assert "def work(:" in printed()
        (project / "plugins/team.py").write_text(CODE)
        eventually(lambda: "reloaded: 2 jobs, 1 callable" in printed())
        (project / "jobs.toml").write_text(JOBS + "timout_seconds = 5\n")
        eventually(lambda: "jobs.toml:4" in printed())
        assert "timout_seconds = 5" in printed()
        eventually(lambda: "did you mean 'timeout_seconds'?" in printed())
        (project / "jobs.toml").write_text(JOBS + 'host = "taem"\n')
        eventually(lambda: "✘ job 'other' is disabled: no host 'taem' accepts jobs of host 'team'" in printed())
        assert "in jobs.toml:4 › jobs[0].host" in printed()
        (project / "plugins/unused.py").write_text("import no_such_library\n")
        (project / "nomaflow.toml").write_text("[host]\nmax_async = 6\n")
        (project / "jobs.toml").write_text(JOBS + "install_step = 3\n")
        eventually(lambda: "! job other: the key comes from the original and has no effect" in printed())
        eventually(lambda: "! the module 'unused' cannot be imported" in printed())
        eventually(lambda: "! the change takes effect once the host is restarted" in printed())
        assert "in plugins/unused.py:1" in printed()
        assert "the module 'unused' cannot be imported" in run_command("reload", folder=project).out
        (project / "connectors.toml").write_text('[pools.x]\nurll = "sqlite:///x"\n')
        eventually(lambda: "the key 'url' is required and missing" in printed())
        (project / "connectors.toml").unlink()
        for number in range(20):  # a burst of saves: the last one is what counts
            (project / "jobs.toml").write_text(JOBS + f'description = "{number}"\n')
        eventually(lambda: printed().count("reloaded: 2 jobs") >= 2)
        eventually(lambda: '"19"' in run_command("job", "other", "-o", "json", folder=project).out)
