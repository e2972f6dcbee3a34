"""A real kernel and real hosts on projects of hostile callables; the operating system is asked what still runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nomaflow.client import ProjectAddress, SyncKernelClient, TriggerOrder
from nomaflow.client.values import HostView, InstanceView, RunView, Triggered
from nomaflow.client.values.runs import AttemptView
from processes import is_alive as alive
from processes import pids_below

__all__ = ["HOSTILE", "NOTING_STEPS", "HostProcess", "Ledger", "System", "alive", "eventually", "reason_of"]

HOSTILE = Path(__file__).parent / "hostile"
PATIENCE = 30.0
T = TypeVar("T")

NOTING_STEPS = """
import asyncio, json, os, subprocess, time
from pathlib import Path

def note(ledger, what, **more):
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, json.dumps({"what": what, "pid": os.getpid(), **more}).encode() + b"\\n")
    os.close(fd)

"""
"""How the plugin of a test's own project begins, where its steps write a ledger."""


def eventually(question: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """Return the first true answer to a question."""
    until = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < until, f"still not so: {question}"
        time.sleep(0.01)
    return answer


def reason_of(of: RunView | AttemptView) -> str:
    """Return the code of the reason of a run or an attempt, empty for none."""
    return of.reason.code if of.reason else ""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The entries that steps write about themselves, one JSON object a line, by O_APPEND; the product writes none."""

    file: Path

    def entries(self, what: str = "") -> list[dict[str, Any]]:
        """Return the entries of a kind, in the order in which they were written."""
        if not self.file.exists():
            return []
        found = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [entry for entry in found if what in ("", entry["what"])]

    def wait_for(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are as many entries of a kind, and return them."""
        eventually(lambda: len(self.entries(what)) >= count)
        return self.entries(what)

    def pid(self, what: str = "start") -> int:
        """Wait for an entry of a kind and return its process id."""
        return int(self.wait_for(what)[0]["pid"])


@dataclass(kw_only=True)
class HostProcess:
    """One host process on its project."""

    name: str
    project: Path
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """The process's output so far."""
        return self.log_file.read_text("utf-8", "replace")

    def tree(self) -> set[int]:
        """Return the processes below it."""
        return set(pids_below(self.pid))

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """End it, and check that nothing of it is left."""
        if self.process.poll() is None:
            below = self.tree()
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signum)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()  # where it has not ended; nothing of a failed test may be left
                self.process.wait()
            eventually(lambda: not any(alive(pid) for pid in below), seconds=3)


@dataclass(kw_only=True)
class System:
    """A kernel, its hosts, and a client of it.

    :param root: everything is below it; the kernel's own project is in ``kernel``
    """

    root: Path
    kernel: subprocess.Popen[bytes] | None = None
    hosts: dict[str, HostProcess] = field(default_factory=dict)
    clients: list[SyncKernelClient] = field(default_factory=list)
    _number: int = 0

    @property
    def kernel_project(self) -> Path:
        """The kernel's folder."""
        return self.root / "kernel"

    def start_kernel(self, *, environ: Mapping[str, str] | None = None) -> None:
        """Start the kernel and wait until it answers."""
        self.kernel_project.mkdir(exist_ok=True)
        address = self.kernel_project / ".nomaflow" / "address"
        address.unlink(missing_ok=True)
        flags = ("--heartbeat-seconds", "0.3", "--lease-seconds", "3")
        with (self.root / "kernel.log").open("ab") as log:
            self.kernel = subprocess.Popen(
                [sys.executable, "-m", "nomaflow_kernel", "--project", str(self.kernel_project), *flags],
                stderr=log,
                env={**os.environ, **(environ or {})},
            )
        eventually(address.exists)

    def kill_kernel(self) -> None:
        """Kill the kernel the hard way."""
        assert self.kernel is not None
        self.kernel.kill()
        self.kernel.wait()

    def client(self, by: str = "ann") -> SyncKernelClient:
        """Return a new client."""
        made = SyncKernelClient(ProjectAddress(project=self.kernel_project), by=by)
        self.clients.append(made)
        return made

    def project(self, name: str, files: Mapping[str, str] | None = None) -> Path:
        """Make a host's project: a copy of the hostile one, or of *files* given."""
        folder = self.root / name
        if files is None:
            shutil.copytree(HOSTILE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    def start_host(
        self,
        name: str,
        *flags: str,
        python: str = sys.executable,
        environ: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        side: Sequence[str] = (),
        serves: bool = True,
        dials: bool = True,
    ) -> HostProcess:
        """Start a host on the project of its name, and wait until the kernel knows its jobs.

        :param serves: False where it cannot load its code, and is not waited for
        :param side: command that starts another, in another network say
        :param dials: False where its settings say which kernel
        :param settings: more lines for its ``[host]``
        """
        project = self.root / name
        defaults = [] if any(line.startswith("drain_seconds") for line in settings) else ["drain_seconds = 2"]
        lines = ["[host]", *defaults, *settings]
        (project / "nomaflow.toml").write_text("\n".join([*lines, ""]))
        address = (self.kernel_project / ".nomaflow" / "address").read_text().strip()
        command = [*side, python, "-P", "-m", "nomaflow_host", "--project", str(project), "--name", name]
        log_file = self.root / f"{name}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [*command, *(["--kernel", address] if dials else []), *flags],
                stderr=log,
                env={**os.environ, **(environ or {})},
            )
        self.hosts[name] = HostProcess(name=name, project=project, process=process, log_file=log_file)
        if serves:
            eventually(lambda: self.instance(name, pid=process.pid))
        return self.hosts[name]

    def instance(self, name: str, *, pid: int = 0) -> InstanceView | None:
        """Return the attached instance of a host that serves a generation, or None if there is none yet."""
        view = self.host_view(name)
        for one in view.instances if view else ():
            if one.state == "ATTACHED" and one.generation and pid in (0, one.pid):
                return one if view is not None and view.manifest_digest else None
        return None

    def host_view(self, name: str) -> HostView | None:
        """Return what the kernel knows of a host."""
        if not self.clients:
            self.client()
        return next((one for one in self.clients[0].list_hosts() if one.name == name), None)

    def ledger(self) -> Ledger:
        """Return a ledger of its own for one run."""
        self._number += 1
        return Ledger(file=self.root / f"ledger-{self._number}")

    def start(self, job: str, ledger: Ledger | None = None, by: str = "", /, **params: Any) -> str:
        """Trigger a job and return the run's id."""
        given = {**({"ledger": str(ledger.file)} if ledger else {}), **params}
        triggered: Triggered = self.clients[0].trigger(TriggerOrder(job_id=job, params=given, by=by))
        return triggered.run_id

    def end(self, run_id: str) -> RunView:
        """Wait until a run is over."""
        return self.clients[0].wait(run_id)

    def run(self, run_id: str) -> RunView:
        """Return the current run."""
        return self.clients[0].get_run(run_id)

    def log(self, run_id: str) -> str:
        """Return a run's log as text."""
        return "\n".join(line.message for line in self.clients[0].read_logs(run_id))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against the kernel."""
        return subprocess.run(
            [sys.executable, "-m", "nomaflow_cli", *arguments],
            check=False,
            cwd=self.kernel_project,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "160"},
        )

    def close(self) -> None:
        """Stop everything, whatever fails meanwhile; nothing may be left."""
        with contextlib.ExitStack() as stack:
            if self.kernel is not None:
                stack.callback(self.kernel.wait)
                stack.callback(self.kernel.kill)
            for client in self.clients:
                stack.callback(client.close)
            for host in self.hosts.values():
                stack.callback(host.stop)
