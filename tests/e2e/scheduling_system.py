"""A project under a real kernel and real hosts, started, killed and asked as a person does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from nomaflow.client import ProjectAddress, SyncKernelClient

__all__ = ["Answer", "System", "eventually", "open_system"]

PATIENCE = 30.0
CODE = '''"""Steps that do as they are told."""

import asyncio
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


class Flaky(ConnectionError):
    """Raised as often as asked."""


async def count(*, ctx, rows: int = 1, day: str = "", **_):
    _log.debug("counting")
    return {"rows_affected": rows, "day": day, "level": ctx.log_level, "params": dict(ctx.params),
            "chain": [job for job, _ in ctx.parent_chain], "before": ctx.prev_rows_affected}


async def strict(*, rows: int = 1):
    return rows


async def wait_for(*, file: str, **_):
    """Return once a file is there."""
    while not Path(file).exists():
        await asyncio.sleep(0.01)
    return {"seen": True}


async def fail(*, ctx, times: int = 99, error: str = "Flaky"):
    if ctx.attempt <= times:
        raise {"Flaky": Flaky, "Value": ValueError}[error](f"try {ctx.attempt}")
    return ctx.attempt


async def sleep(*, seconds: float = 60.0):
    await asyncio.sleep(seconds)


async def home(*, where: str):
    return {"where": where}


async def die():
    os._exit(7)
'''


def eventually(question: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return the first true answer to a question."""
    until = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return answer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object it printed."""
        return json.loads(self.out)


@dataclass(kw_only=True)
class System:
    """Processes of one project. ``restart`` of a part is a stop, or a kill, and a start."""

    project: Path
    kernel_flags: Sequence[str] = ("--heartbeat-seconds", "0.5", "--lease-seconds", "2", "--lost-after-seconds", "10")
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def write(self, jobs: str, *, code: str = CODE) -> None:
        """Write the project's jobs and its one module."""
        folder = self.project / "plugins" / "team"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "code.py").write_text(code)
        (self.project / "jobs.toml").write_text(jobs)

    def _start(self, part: str, module: str, *flags: str) -> None:
        with (self.project / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(
                [sys.executable, "-m", module, *flags], stdout=log, stderr=log, env={**os.environ, "HOME_OF_TEST": "/h"}
            )

    def start_kernel(self, *flags: str) -> None:
        """Start the kernel and wait until it serves."""
        address = self.project / ".nomaflow" / "address"
        address.unlink(missing_ok=True)
        self._start("kernel", "nomaflow_kernel", "--project", str(self.project), *self.kernel_flags, *flags)
        eventually(lambda: address.exists() or self.processes["kernel"].poll() is not None)
        assert self.processes["kernel"].poll() is None, self.log("kernel")

    def start_host(self, *flags: str, project: Path | None = None, name: str = "host") -> None:
        """Start a host and wait until it is attached."""
        self._start(name, "nomaflow_host", "--project", str(project or self.project), *flags)
        pid = self.processes[name].pid
        eventually(lambda: self._has_loaded(pid) or self._dead(name))
        assert not self._dead(name), self.log(name)

    def _has_loaded(self, pid: int) -> bool:
        """Return whether a host is attached and past its first load: until then the kernel knows only its jobs of before."""
        instances = [instance for host in self.hosts() for instance in host["instances"]]
        return any(each["pid"] == pid and each["state"] != "LOADING" for each in instances)

    def _dead(self, part: str) -> bool:
        return self.processes[part].poll() is not None

    def log(self, part: str) -> str:
        """Return what a part has written."""
        return (self.project / f"{part}.log").read_text("utf-8", "replace")

    def kill(self, part: str) -> None:
        """Kill a part the hard way."""
        process = self.processes.pop(part)
        process.kill()
        process.wait()

    def stop(self, part: str) -> None:
        """Ask a part to stop, and wait for it."""
        process = self.processes.pop(part)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, self.log(part)

    def cli(self, *arguments: str, code: int | None = 0, stdin: str = "") -> Answer:
        """Run the command in the project's folder; ``code`` None takes any exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "nomaflow_cli", *arguments],
            cwd=self.project, input=stdin, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return Answer(code=done.returncode, out=done.stdout, err=done.stderr)

    def ask(self, *arguments: str, code: int | None = 0) -> Any:
        """Run the command with ``-o json`` and return its object."""
        return self.cli(*arguments, "-o", "json", code=code).json

    def client(self) -> SyncKernelClient:
        """Return a client of the kernel."""
        return SyncKernelClient(ProjectAddress(project=self.project), by="tester")

    def hosts(self) -> list[dict[str, Any]]:
        """Return the hosts as the client shows them."""
        with self.client() as client:
            return [host.to_json() for host in client.list_hosts()]

    def jobs(self) -> dict[str, Any]:
        """Return the jobs by id, removed ones included."""
        with self.client() as client:
            return {job.job_id: job for job in client.list_jobs(include_removed=True).jobs}

    def runs(self, job_id: str) -> list[Any]:
        """Return the runs of a job, oldest first."""
        with self.client() as client:
            return list(client.list_runs(job_id=job_id))[::-1]

    def run(self, run_id: str) -> Any:
        """Return a run."""
        with self.client() as client:
            return client.get_run(run_id)

    def until(self, run_id: str, *states: str) -> Any:
        """Wait until a run is in one of the states, and return it."""
        return eventually(lambda: run if (run := self.run(run_id)).state in states else None)


def open_system(folder: Path, *, kind: type[System] = System) -> Iterator[System]:
    """Yield a system without processes; stop what the test has started, and leave nothing behind."""
    folder.mkdir(exist_ok=True)
    system = kind(project=folder)
    try:
        yield system
    finally:
        for part in sorted(system.processes, reverse=True):
            process = system.processes[part]
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    here = str(folder)
    eventually(lambda: not [p for p in psutil.process_iter(["cmdline"]) if here in (p.info["cmdline"] or [])])
