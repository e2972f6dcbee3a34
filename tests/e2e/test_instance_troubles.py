"""Instances on machines that something is wrong with: a project that cannot be written to, a full disk, a wrong clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_system import TeamSystem

from machine_parts import need
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

CODE = """
def one():
    return 1
"""
JOBS = """
[[jobs]]
id = "one"
steps = [{ callable = "work:one" }]
"""
DAY = 86_400
READ_ONLY = 'mount --bind "$PLACE" "$PLACE" && mount -o remount,bind,ro "$PLACE" && exec "$@"'
FULL = 'mount -t tmpfs -o size=64k none "$PLACE" && { dd if=/dev/zero of="$PLACE/rest"; exec "$@"; }'


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """A kernel, and a project that no host serves yet."""
    made = TeamSystem(root=tmp_path, forks_templates=True)
    made.start_kernel()
    made.project("team", {"jobs.toml": JOBS, "plugins/work.py": CODE, "nomaflow.toml": '[host]\nname = "team"\n'})
    yield made
    made.close()


def _host_where(system: TeamSystem, place: Path, mounts: str, *flags: str) -> Running:
    """Start a host in a mount namespace of its own, in which something was done to a folder."""
    need("unshare", namespaces=True)
    side = ("unshare", "--mount", "env", f"PLACE={place}", "sh", "-c", mounts, "sh")
    return system.launch_host("team", system.root / "team", "--kernel", system.kernel_address, *flags, side=side)


def _exit_code(host: Running) -> int:
    return int(host.process.wait(60))


def test_a_project_that_cannot_be_written_to_is_served(system: TeamSystem, tmp_path: Path) -> None:
    """An instance with a state directory elsewhere serves it; one without names that way out."""
    project = tmp_path / "team"
    without = _host_where(system, project, READ_ONLY)
    assert _exit_code(without) == 78
    assert "read-only file system" in without.log
    assert "fix: name a folder that can be written to: --state-dir DIR" in without.log
    _host_where(system, project, READ_ONLY, "--state-dir", str(tmp_path / "state"))
    eventually(lambda: system.instance("team"))
    run_id = system.start("one")
    eventually(lambda: system.run(run_id).state == "SUCCEEDED")
    assert not (project / ".nomaflow").exists()


def test_a_full_disk_is_told_before_anything_is_served(system: TeamSystem, tmp_path: Path) -> None:
    """The host ends and says where there is no room; the kernel has never seen it."""
    place = tmp_path / "scratch"
    place.mkdir()
    host = _host_where(system, place, FULL, "--state-dir", str(place / "state"))
    assert _exit_code(host) == 70
    assert f"the host's state cannot be written to '{place}/state': no space left on device" in host.log
    assert "Traceback" not in host.log
    assert system.host_view("team") is None


def _tomorrow() -> str:
    return time.strftime("%Y-%m-%dT", time.gmtime(time.time() + DAY))


def test_a_clock_that_is_a_day_ahead_is_told(
    system: TeamSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the machine's time would be past at once: the host ends and says what its clock shows."""
    (tmp_path / "shift").write_text(str(DAY))
    monkeypatch.setenv("CLOCK_SHIFT_FILE", str(tmp_path / "shift"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "shifted_clock"))
    ends_at = int(time.time()) + 600
    flags = ("--kernel", system.kernel_address, "--ends-at", str(ends_at))
    tomorrow = [_tomorrow()]
    host = system.launch_host("team", tmp_path / "team", *flags)
    assert _exit_code(host) == 2
    assert f"argument --ends-at: '{ends_at}' is in the past" in host.log
    tomorrow.append(_tomorrow())  # another one at midnight
    assert any(f"this machine's clock says {day}" in host.log for day in tomorrow)
