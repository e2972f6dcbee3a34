"""A disk that is slow, and a machine that loses power: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from fault_stage import Caller, digest_of_log, ledger, settled, start
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "quick"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/ledger" }

[[jobs]]
id = "speak"
  [[jobs.steps]]
  callable = "team.code:speak"
  op_kwargs = { ledger = "@HERE@/spoken", release = "@HERE@/release" }
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectSystem]:
    """A kernel that needs half a second for each commit, and a host.

    Its lease is shorter than all those commits together, and longer than a busy machine holds a process up.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("COMMIT_SECONDS", "0.5")
    for opened in open_system(tmp_path, forks_templates=True):
        opened.kernel_module = "slow_kernel"
        start(opened, "--lease-seconds", "6", jobs=JOBS)
        yield opened


def commits_of(system: ProjectSystem) -> int:
    """Return how many transactions the store counts."""
    connection = sqlite3.connect(system.project / ".nomaflow" / "kernel.db")
    try:
        return int(connection.execute("SELECT commits FROM kernel").fetchone()[0])
    finally:
        connection.close()


def test_a_slow_disk_slows_writing_alone(slow: ProjectSystem) -> None:
    """Sixty simultaneous triggers share a few commits, reads are not delayed, and no host counts as silent."""
    caller = Caller(slow)
    spoken = caller.trigger("speak")
    assert isinstance(spoken, str)
    eventually(lambda: ledger(slow.project / "spoken", "waits"))
    before = commits_of(slow)
    with ThreadPoolExecutor(60) as pool:
        answers = [pool.submit(caller.trigger, "quick", f"key-{number}") for number in range(60)]
        waits = []
        while not all(answer.done() for answer in answers):
            begun = time.monotonic()
            assert caller.serving
            slow.runs("quick")
            waits.append(time.monotonic() - begun)
            time.sleep(0.02)
    assert commits_of(slow) - before < 40
    assert sorted(waits)[len(waits) // 2] < 3
    run_ids = [answer.result() for answer in answers]
    assert sorted(run.run_id for run in slow.runs("quick")) == sorted(map(str, run_ids))
    (slow.project / "release").touch()
    for run_id in (spoken, *run_ids):
        run = settled(slow, str(run_id))
        assert (run.state, run.steps[0].last.attempt) == ("SUCCEEDED", 1)
    assert digest_of_log(slow, spoken) == (2000, settled(slow, spoken).steps[0].last.extras["digest"])
    assert len(ledger(slow.project / "ledger", "start")) == 60
    log = slow.log("kernel")
    assert "detached" not in log
    caller.close()


@dataclass(kw_only=True)
class Triggering:
    """Triggers from several threads until it is stopped; ``kept`` has every run that was acknowledged."""

    system: ProjectSystem
    threads: int = 3
    kept: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._running = [threading.Thread(target=self._trigger) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()

    def _trigger(self) -> None:
        caller = Caller(self.system)
        while not self._stop.is_set():
            answer = caller.trigger("quick")
            assert isinstance(answer, str)
            self.kept.append(answer)
        caller.close()

    def stop(self) -> None:
        """Stop, and wait for the end."""
        self._stop.set()
        for thread in self._running:
            thread.join()


def lose_power(system: ProjectSystem, target: Path, chance: random.Random, kept: list[str]) -> list[str]:
    """Copy the store's files as they are at one instant, rubbish where the last writes went; return what must be there.

    What the log of the store grew by since the acknowledgements were counted may be on the disk, or not, or in part.
    """
    state, pid = system.project / ".nomaflow", system.parts["kernel"].pid
    promised = list(kept)
    wal = state / "kernel.db-wal"
    sure = wal.stat().st_size
    time.sleep(chance.uniform(0, 0.02))
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        (target / ".nomaflow").mkdir(parents=True, mode=0o700)
        for name in ("kernel.db", "kernel.db-wal"):
            shutil.copy(state / name, target / ".nomaflow" / name)
    finally:
        os.kill(pid, signal.SIGCONT)
    with (target / ".nomaflow" / "kernel.db-wal").open("r+b") as log:
        torn = log.seek(0, os.SEEK_END)
        log.seek(sure + chance.randint(0, max(torn - sure, 0)))
        log.write(chance.randbytes(chance.randint(0, 9000)))
    return promised


def check_copy(copy: Path, promised: list[str]) -> None:
    """The copy is whole, holds every run that was promised, and its events have no gap."""
    connection = sqlite3.connect(copy / ".nomaflow" / "kernel.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {run_id for (run_id,) in connection.execute("SELECT run_id FROM runs")}
        seqs = [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY seq")]
    finally:
        connection.close()
    assert found >= set(promised)
    assert seqs == list(range(1, len(seqs) + 1))


def test_what_was_acknowledged_survives_the_loss_of_power(tmp_path: Path) -> None:
    """The files have every acknowledged run at any instant, and a kernel that starts on them continues."""
    chance = random.Random(20261124)
    for system in open_system(tmp_path / "first", forks_templates=True):
        start(system, jobs=JOBS)
        triggering = Triggering(system=system)
        triggering.start()
        try:
            promises = []
            for number in range(8):
                wanted = len(triggering.kept) + chance.randint(1, 80)
                eventually(lambda: len(triggering.kept) >= wanted)  # noqa: B023  # asked at once
                promises.append(lose_power(system, tmp_path / f"copy{number}", chance, triggering.kept))
        finally:
            triggering.stop()
        for number, promised in enumerate(promises[:-1]):
            check_copy(tmp_path / f"copy{number}", promised)
        go_on_from(tmp_path / "copy7", promises[-1])


def go_on_from(copy: Path, promised: list[str]) -> None:
    """Start a kernel and a host on a copy: it has what was promised, and takes new work."""
    for system in open_system(copy, forks_templates=True):
        start(system, jobs=JOBS)
        assert {run.run_id for run in system.runs("quick")} >= set(promised)
        (copy / "release").touch()
        with system.client() as client:
            assert settled(system, client.trigger("speak").run_id).state == "SUCCEEDED"
        system.stop("host")
        system.stop("kernel")
        check_copy(copy, promised)
