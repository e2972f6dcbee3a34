"""Wall clocks that jump by an hour: nothing fires twice, no timer is early or late, no duration is negative."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_stage import CODE, ledger, settled
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = pytest.mark.e2e

HOUR = 3600
JOBS = """
[[jobs]]
id = "latest"
schedule = "* * * * * *"
overlap = "allow"
misfire_window_seconds = 7200
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ticks" }

[[jobs]]
id = "strict"
schedule = "* * * * * *"
overlap = "allow"
misfire = "skip"
misfire_window_seconds = 7200
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ticks" }

[[jobs]]
id = "hourly"
schedule = "@HOURLY@"
misfire_window_seconds = 7200
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ticks" }

[[jobs]]
id = "patient"
overlap = "allow"
timeout_seconds = 600
  [[jobs.steps]]
  callable = "team.code:speak"
  timeout_seconds = 600
  op_kwargs = { ledger = "@HERE@/patient", release = "@HERE@/release", lines = 10 }

[[jobs]]
id = "again"
  [jobs.retry]
  attempts = 2
  base_seconds = 3
  [[jobs.steps]]
  callable = "team.code:stumble"
  op_kwargs = { ledger = "@HERE@/again" }
"""
STUMBLE = """

def stumble(*, ctx, ledger: str):
    _note(ledger, ctx, "start")
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
"""


class Clocks:
    """The wall clocks of kernel and host, each set by writing a file."""

    def __init__(self, folder: Path) -> None:
        self.kernel, self.host = folder / "kernel-clock", folder / "host-clock"
        for file in (self.kernel, self.host):
            self.set(file, 0)

    def set(self, file: Path, seconds: int) -> None:
        """Set a clock that far ahead, in one step, so that no process reads half of it."""
        written = file.with_suffix(".new")
        written.write_text(str(seconds))
        os.replace(written, file)


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    """Clocks that are right."""
    return Clocks(tmp_path)


@pytest.fixture
def system(tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectSystem]:
    """A kernel and a host that look at those clocks."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "shifted_clock"))
    for opened in open_system(tmp_path, forks_templates=True):
        # A fire in the middle of the hour that comes: it is jumped over, and comes again.
        minute = (time.gmtime().tm_min + 30) % 60
        opened.write(
            JOBS.replace("@HERE@", str(tmp_path)).replace("@HOURLY@", f"{minute} * * * *"), code=CODE + STUMBLE
        )
        settings = '[host]\nname = "team"\ndrain_seconds = 0.2\npass_env = ["CLOCK_SHIFT_FILE"]\n'
        (tmp_path / "nomaflow.toml").write_text(settings)
        monkeypatch.setenv("CLOCK_SHIFT_FILE", str(clocks.kernel))
        opened.start_kernel()
        monkeypatch.setenv("CLOCK_SHIFT_FILE", str(clocks.host))
        opened.start_host()
        eventually(lambda: "patient" in opened.jobs())  # noqa: B023  # asked at once
        yield opened


def trigger(system: ProjectSystem, job_id: str) -> str:
    """Start a run and return its id."""
    with system.client() as client:
        return str(client.trigger(job_id).run_id)


def fired(system: ProjectSystem, job_id: str) -> Counter[Any]:
    """Return how often each instant of a schedule has run."""
    return Counter(run.trigger.at for run in system.runs(job_id) if run.fold is None)


def check_durations(system: ProjectSystem) -> None:
    """Check that everything ends after it begins, and begins after it was requested."""
    for job_id in ("latest", "strict", "hourly", "patient", "again"):
        for run in system.runs(job_id):
            if run.fold is not None:
                continue
            run = system.run(run.run_id)
            attempts = [attempt for step in run.steps for attempt in step.attempts]
            inner = [at for attempt in attempts for at in (attempt.started_at, attempt.finished_at)]
            # The last fires may still wait for the host that was stopped.
            times = [at for at in (run.queued_at, run.started_at, *inner, run.finished_at) if at is not None]
            assert times == sorted(times), run


def test_clocks_that_jump_by_an_hour(system: ProjectSystem, clocks: Clocks) -> None:
    """The host's clock, then the kernel's forward and back: steps, retries, sessions and fires are as they should be."""
    patient = trigger(system, "patient")
    eventually(lambda: ledger(system.project / "patient", "waits"))
    eventually(lambda: len(fired(system, "strict")) >= 2)
    clocks.set(clocks.host, HOUR)
    again = trigger(system, "again")
    eventually(lambda: ledger(system.project / "again", "start"))
    clocks.set(clocks.kernel, HOUR)
    for job_id in ("latest", "strict"):
        [missed] = eventually(lambda: [run for run in system.runs(job_id) if run.state == "MISSED"])  # noqa: B023  # asked at once
        assert missed.reason.code == "clock_jumped"
        assert HOUR - 60 < missed.fold.count <= HOUR
        ahead = missed.fold.last
        eventually(lambda: max(fired(system, job_id)) > ahead)  # noqa: B023  # asked at once
    [once] = eventually(lambda: list(fired(system, "hourly").elements()))
    assert missed.fold.first < once < ahead, "misfire = 'latest' runs the fire that was jumped over"
    assert settled(system, again).state == "SUCCEEDED"
    first, second = ledger(system.project / "again", "start")
    assert 2 < second["at"] - first["at"] < 20, "the back-off is not cut short, nor an hour long"
    clocks.set(clocks.kernel, 0)
    clocks.set(clocks.host, -HOUR)
    eventually(lambda: "set back" in system.log("kernel"))
    known = fired(system, "strict")
    eventually(lambda: (fired(system, "strict") - known).total() >= 2)
    assert max(fired(system, "strict") - known) < once, "fires go on in the time that has come back"
    late = trigger(system, "patient")
    eventually(lambda: len(ledger(system.project / "patient", "waits")) == 2)
    clocks.set(clocks.kernel, HOUR)
    eventually(lambda: system.log("kernel").count("set forward") == 2)
    known = fired(system, "strict")
    eventually(lambda: (fired(system, "strict") - known).total() >= 2)
    (system.project / "release").touch()
    for run_id in (patient, late):
        assert settled(system, run_id).state == "SUCCEEDED"
    assert len(ledger(system.project / "patient", "start")) == 2
    assert fired(system, "hourly") == {once: 1}
    for job_id in ("latest", "strict"):
        assert set(fired(system, job_id).values()) <= {1}, "nothing fires twice"
    log = system.log("kernel")
    assert "unreachable" not in log
    assert "detached" not in log
    assert [host["state"] for host in system.hosts()] == ["ATTACHED"]
    system.stop("host")
    check_durations(system)
