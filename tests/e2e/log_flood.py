"""A step that logs far faster than a slow kernel can take it in: what it costs, and that nothing of it is lost.

``python tests/e2e/log_flood.py`` floods with 1 GB and prints the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault_stage import Caller, digest_of_log, ledger, resident, settled, start  # after the path is set
from project_system import ProjectSystem, open_system

from nomaflow.client import TriggerOrder
from real_system import eventually

__all__ = ["Figures", "flood", "prepare"]

MEMORY_BOUND = 64 << 20
"""What kernel and host may need over their baseline, bytes."""

SPILLED = 2 << 20
"""How much must lie in files before the kernel is let go on."""

LONGEST_FREEZE = 12.0
KERNEL_FLAGS = ("--heartbeat-seconds", "1", "--lease-seconds", "20")

JOBS = """
[[jobs]]
id = "quick"
overlap = "allow"
  [[jobs.steps]]
  callable = "team.code:quick"
  op_kwargs = { ledger = "@HERE@/quick" }

[[jobs]]
id = "flood"
  [[jobs.steps]]
  callable = "team.code:flood"
  op_kwargs = { ledger = "@HERE@/ledger", megabytes = 1 }
"""


@dataclass(kw_only=True)
class Figures:
    """Measurements during a flood of log lines; bytes and seconds."""

    megabytes: int
    lines: int = 0
    seconds: float = 0.0
    kernel_growth: int = 0
    host_growth: int = 0
    spilled: int = 0
    control_p99: float = 0.0
    control_worst: float = 0.0
    control_calls: int = 0
    whole: bool = False


@dataclass(kw_only=True)
class Watch:
    """Samples memory and spill files, and holds the kernel up, until it is stopped.

    ``thawed`` is set when the long freeze at the beginning is over.
    """

    system: ProjectSystem
    stop: threading.Event = field(default_factory=threading.Event)
    thawed: threading.Event = field(default_factory=threading.Event)
    kernel: int = 0
    host: int = 0
    spilled: int = 0

    def sample(self) -> None:
        """Keep the highest figures."""
        kernel, host = (self.system.parts[part].pid for part in ("kernel", "host"))
        while not self.stop.wait(0.02):
            self.kernel, self.host = max(self.kernel, resident(kernel)), max(self.host, resident(host))
            self.spilled = max(self.spilled, spill_of(self.system))

    def hold_up(self) -> None:
        """Freeze the kernel until the host has had to spill, and from then on half of the time."""
        pid, chance = self.system.parts["kernel"].pid, random.Random(1)
        begins = len(ledger(self.system.project / "ledger", "start")) + 1
        try:
            eventually(lambda: len(ledger(self.system.project / "ledger", "start")) >= begins or self.stop.is_set())
            os.kill(pid, signal.SIGSTOP)
            until = time.monotonic() + LONGEST_FREEZE
            eventually(lambda: self.spilled > SPILLED or self.stop.is_set() or time.monotonic() > until)
            os.kill(pid, signal.SIGCONT)
            self.thawed.set()
            while not self.stop.wait(chance.uniform(0.02, 0.08)):
                os.kill(pid, signal.SIGSTOP)
                self.stop.wait(chance.uniform(0.02, 0.08))
                os.kill(pid, signal.SIGCONT)
        finally:
            os.kill(pid, signal.SIGCONT)
            self.thawed.set()


def spill_of(system: ProjectSystem) -> int:
    """Return how much lies in the host's spill files, bytes."""
    total = 0
    for file in (system.project / ".nomaflow").rglob("*.events"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def prepare(system: ProjectSystem) -> None:
    """Write the project, start kernel and host, and let each do all of it once: what that takes stays theirs."""
    system.kernel_flags = KERNEL_FLAGS
    start(system, jobs=JOBS)
    with system.client() as client:
        warm = client.trigger(TriggerOrder(job_id="flood", op_kwargs={"flood": {"megabytes": 16}}))
    settled(system, warm.run_id)
    digest_of_log(system, warm.run_id)


def flood(system: ProjectSystem, *, megabytes: int) -> Figures:
    """Make a step log that much while the kernel is frozen, use the kernel meanwhile, then read everything again."""
    figures = Figures(megabytes=megabytes)
    watch = Watch(system=system)
    base = {part: resident(system.parts[part].pid) for part in ("kernel", "host")}
    threads = [threading.Thread(target=work) for work in (watch.sample, watch.hold_up)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    with system.client() as client:
        run_id = client.trigger(TriggerOrder(job_id="flood", op_kwargs={"flood": {"megabytes": megabytes}})).run_id
    try:
        waits = control_calls(system, run_id, watch.thawed)
    finally:
        figures.seconds = time.monotonic() - begun
        watch.stop.set()
        for thread in threads:
            thread.join()
    figures.kernel_growth, figures.host_growth = watch.kernel - base["kernel"], watch.host - base["host"]
    figures.spilled = watch.spilled
    figures.control_calls, figures.control_worst = len(waits), waits[-1]
    figures.control_p99 = waits[int(len(waits) * 0.99)]
    run = system.run(run_id)
    count, digest = digest_of_log(system, run_id)
    figures.lines = count
    figures.whole = (run.state, run.rows_affected, run.steps[0].last.extras["digest"]) == ("SUCCEEDED", count, digest)
    return figures


def control_calls(system: ProjectSystem, run_id: str, thawed: threading.Event) -> list[float]:
    """Use the kernel as others do, from the end of the long freeze until a run is over; return the times, longest last."""
    caller, waits = Caller(system), [0.0]
    thawed.wait()
    while not (run := system.run(run_id)).terminal:
        begun = time.monotonic()
        answer = caller.trigger("quick")
        assert isinstance(answer, str)
        waits.append(time.monotonic() - begun)
        time.sleep(0.02)
    assert run.state == "SUCCEEDED", run
    caller.close()
    return sorted(waits)


def main() -> int:
    """Flood once, print what was seen, and say whether the bounds held."""
    parser = argparse.ArgumentParser(description="Flood a slow kernel with log lines and print what it cost.")
    parser.add_argument("--megabytes", type=int, default=1024, help="how much the step logs (default 1024)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="noma-flood-"))
    opened: Iterator[ProjectSystem] = open_system(folder)
    try:
        system = next(opened)
        prepare(system)
        figures = flood(system, megabytes=options.megabytes)
        print(json.dumps(asdict(figures), indent=2))
    finally:
        opened.close()  # type: ignore[attr-defined]  # it is a generator
        shutil.rmtree(folder)
    bounded = max(figures.kernel_growth, figures.host_growth) <= MEMORY_BOUND
    return 0 if figures.whole and bounded and figures.control_p99 < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
