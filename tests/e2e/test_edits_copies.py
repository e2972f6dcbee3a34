"""Two copies of one host whose job files differ: nothing stops without being named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = pytest.mark.e2e

JOB = """
[[jobs]]
id = "{id}"
schedule = "* * * * * *"
overlap = "allow"
steps = [{{ callable = "team.code:count" }}]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """A kernel and a host whose jobs a and b fire each second."""
    for opened in open_system(tmp_path / "first", forks_templates=True):
        opened.write(JOB.format(id="a") + JOB.format(id="b"))
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        opened.start_kernel()
        opened.start_host()
        yield opened


def _of_copies(system: ProjectSystem) -> list[dict[str, Any]]:
    return [each for each in system.ask("doctor", code=None)["findings"] if each["check"] == "hosts.copies"]


def test_jobs_that_another_copy_took_away_are_named(system: ProjectSystem, tmp_path: Path) -> None:
    """A second checkout without b takes it off the schedule: doctor and hosts name b and the copy that brings it.

    They say nothing once the copies agree.
    """
    second = tmp_path / "second"
    shutil.copytree(system.project, second, ignore=shutil.ignore_patterns(".nomaflow", "*.log", "__pycache__"))
    (second / "jobs.toml").write_text(JOB.format(id="a"))
    system.until_fired("b")
    assert _of_copies(system) == []
    system.launch_host("copy", second, "--kernel", system.kernel_address)
    eventually(lambda: system.jobs()["b"].removed and any(host.problems for host in system.api.list_hosts()))
    [found] = _of_copies(system)
    assert found["level"] == "problem"
    assert found["message"].endswith("brings jobs that do not fire, since another copy has none of them: b")
    assert f"pid {system.parts['host'].pid} " in found["message"]
    assert str(system.project) in found["message"]
    assert "nomaflow reload team" in found["fix"]
    assert "another copy has none of them: b" in " ".join(system.cli("hosts").out.split())
    shutil.copy(second / "jobs.toml", system.project)
    system.cli("reload")
    eventually(lambda: not any(host.problems for host in system.api.list_hosts()))
    assert _of_copies(system) == []


def test_an_old_copy_that_starts_late_takes_nothing_and_is_named(system: ProjectSystem, tmp_path: Path) -> None:
    """A job that only a copy of a lower version brings does not fire, and is named."""
    old = tmp_path / "old"
    shutil.copytree(system.project, old, ignore=shutil.ignore_patterns(".nomaflow", "*.log", "__pycache__"))
    for folder, version in ((system.project, 2), (old, 1)):
        (folder / "nomaflow.toml").write_text(f'[host]\nname = "team"\nversion = {version}\n')
    system.cli("reload")
    (old / "jobs.toml").write_text(JOB.format(id="a") + JOB.format(id="only_here"))
    system.launch_host("copy", old, "--kernel", system.kernel_address)
    eventually(lambda: any(host.problems for host in system.api.list_hosts()))
    [found] = _of_copies(system)
    assert found["message"].endswith("since another copy has none of them: only_here")
    assert f"pid {system.parts['copy'].pid} " in found["message"]
    system.until_fired("a", "b")
