"""M5: measures the scheduler with real processes: loading 10,000 jobs from the store, and 1,000 fires in one second.

    python -m bench.scheduling [--jobs 10000] [--due 1000] [--max-async 200] [--rounds 5]

Prints one JSON object: the machine, and for each figure its rounds, median, least and most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.system import SqliteLook
from nomaflow.client import KernelClient

_ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
_CODE = '''"""A step that does nothing."""


async def nothing(**_):
    return 1
'''
_LAST_START = "SELECT max(a.started_at_us) FROM attempts a JOIN runs r USING (run_id) WHERE r.trigger_at_us = {}"
_PATIENCE = 120.0
_JOBS_PER_FILE = 2_000


def schedules(count: int) -> list[tuple[str, str]]:
    """Return schedules as teams have them: a fifth often, a fifth hourly, a third daily, the rest rarer."""
    chance = random.Random(5)
    made = []
    for _ in range(count):
        minute, hour = chance.randrange(60), chance.randrange(24)
        kind = chance.random()
        text = f"{minute} {hour} {1 + chance.randrange(28)} * *"
        if kind < 0.2:
            text = f"*/{chance.choice((5, 10, 15, 20))} {hour} * * *"
        elif kind < 0.4:
            text = f"{minute} * * * *"
        elif kind < 0.75:
            text = f"{minute} {hour} * * *"
        elif kind < 0.9:
            text = f"{minute} {hour} * * {chance.randrange(7)}"
        made.append((text, chance.choice(_ZONES)))
    return made


def write_jobs(project: Path, *, jobs: int, due: int, at: datetime) -> None:
    """Write jobs of which ``due`` fire at one instant, in as many files as their bound on size asks for."""
    together = f"{at.minute} {at.hour} {at.day} {at.month} * {at.second}"
    rows = [(together, "UTC")] * due + schedules(jobs - due)
    tables = [
        f'[[jobs]]\nid = "job-{number:05d}"\nschedule = "{expression}"\ntimezone = "{tz}"\n'
        f'[[jobs.steps]]\ntype = "python"\ncallable = "bench.noop:nothing"\n'
        for number, (expression, tz) in enumerate(rows)
    ]
    for number, start in enumerate(range(0, len(tables), _JOBS_PER_FILE)):
        folder = project / "plugins" / f"team{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jobs.toml").write_text("\n".join(tables[start : start + _JOBS_PER_FILE]))


class Processes:
    """A kernel and a host of one project, each with its log in a file."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.address_file = project / ".nomaflow" / "address"
        self.kernel: subprocess.Popen[bytes] | None = None
        self.host: subprocess.Popen[bytes] | None = None

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        with (self.project / f"{module}.log").open("ab") as log:
            command = [sys.executable, "-m", module, "--project", str(self.project)]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def start_kernel(self) -> float:
        """Start the kernel and return the seconds until it serves."""
        self.address_file.unlink(missing_ok=True)
        began = time.perf_counter()
        self.kernel = self._start("nomaflow_kernel")
        while not self.address_file.exists():
            if self.kernel.poll() is not None:
                raise SystemExit(f"the kernel ended: {(self.project / 'nomaflow_kernel.log').read_text()[-2000:]}")
            time.sleep(0.002)
        return time.perf_counter() - began

    def start_host(self) -> None:
        """Start the host."""
        self.host = self._start("nomaflow_host")

    def stop(self) -> None:
        """Stop both."""
        for process in (self.host, self.kernel):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)
        self.host = self.kernel = None

    def loading_seconds(self) -> float:
        """Return what the kernel's log says of its last load."""
        found = re.findall(r"loaded in ([0-9.]+) s", (self.project / "nomaflow_kernel.log").read_text())
        return float(found[-1]) if found else float("nan")

    def client(self) -> KernelClient:
        """Return a client of the kernel."""
        return KernelClient(self.address_file.read_text().strip())


async def until_known(client: KernelClient, jobs: int) -> None:
    """Wait until the host is attached and has brought its jobs."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            hosts = await client.list_hosts()
            if hosts and hosts[0].state == "ATTACHED" and hosts[0].job_count == jobs:
                return
            await asyncio.sleep(0.05)


async def fired(client: KernelClient, due: int, at: datetime, look: SqliteLook) -> dict[str, float]:
    """Wait for the runs of one instant and return how long after it they were dispatched, started and over."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            runs = [run async for run in client.list_runs() if run.trigger.at == at]
            if len(runs) >= due and all(run.terminal for run in runs):
                break
            await asyncio.sleep(0.5)
    assert len(runs) == due, len(runs)
    assert {run.state for run in runs} == {"SUCCEEDED"}, {run.state for run in runs}
    dispatched = sorted((run.started_at - at).total_seconds() for run in runs if run.started_at)
    over = max((run.finished_at - at).total_seconds() for run in runs if run.finished_at)
    instant = round(at.timestamp() * 1_000_000)
    started = look.rows(_LAST_START.format(instant))[0][0] - instant
    return {
        "first_dispatched": dispatched[0],
        "last_dispatched": dispatched[-1],
        "last_started": started / 1_000_000,
        "last_finished": over,
    }


async def measure_due(options: argparse.Namespace, project: Path, processes: Processes) -> dict[str, float]:
    """Have jobs fire in one second, once, on processes that are up."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=options.lead)
    write_jobs(project, jobs=options.jobs, due=options.due, at=at)
    async with processes.client() as client:
        await until_known(client, options.jobs)
        await client.reload_host("bench")
        late = (datetime.now(UTC) - at).total_seconds()
        if late > -1:
            raise SystemExit(f"the reload took until {late:.1f} s after the fire; raise --lead")
        return await fired(client, options.due, at, SqliteLook(project / ".nomaflow" / "kernel.db"))


def measure(options: argparse.Namespace, project: Path) -> dict[str, list[dict[str, float]]]:
    """Return the rounds of both figures."""
    far = datetime(2099, 1, 1, tzinfo=UTC)
    write_jobs(project, jobs=options.jobs, due=0, at=far)
    processes = Processes(project)
    loads: list[dict[str, float]] = []
    dues: list[dict[str, float]] = []
    try:
        processes.start_kernel()
        processes.start_host()
        asyncio.run(until_known_now(processes, options.jobs))
        dues += [asyncio.run(measure_due(options, project, processes)) for _ in range(options.due_rounds)]
        processes.stop()
        for _ in range(options.rounds):
            serving = processes.start_kernel()
            processes.stop()
            loads.append({"load": processes.loading_seconds(), "spawn_to_serving": serving})
    finally:
        processes.stop()
    return {"load": loads, "due": dues}


async def until_known_now(processes: Processes, jobs: int) -> None:
    """Wait for the jobs on a client of its own."""
    async with processes.client() as client:
        await until_known(client, jobs)


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return median, least and most of each number."""
    return {
        name: {
            "median": round(statistics.median(values), 3),
            "least": round(min(values), 3),
            "most": round(max(values), 3),
        }
        for name in (rounds[0] if rounds else ())
        for values in [[each[name] for each in rounds]]
    }


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--max-async", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--due-rounds", type=int, default=3)
    parser.add_argument("--lead", type=float, default=25.0, help="seconds for the reload before the fire")
    return parser.parse_args(arguments)


def rounds(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Make a project, measure with it, and remove it."""
    project = Path(tempfile.mkdtemp(prefix="nb-"))
    try:
        (project / "nomaflow.toml").write_text(f'[host]\nname = "bench"\nmax_async = {options.max_async}\n')
        code = project / "plugins" / "bench"
        code.mkdir(parents=True)
        (code / "__init__.py").write_text("")
        (code / "noop.py").write_text(_CODE)
        return measure(options, project)
    finally:
        shutil.rmtree(project)


def main() -> None:
    """Measure and print."""
    options = parsed()
    results = rounds(options)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
    print(json.dumps({"machine": machine, "options": vars(options), **{k: summary(v) for k, v in results.items()}}))


if __name__ == "__main__":
    main()
