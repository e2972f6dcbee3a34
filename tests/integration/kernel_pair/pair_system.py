"""Kernel processes in pairs, each on one PostgreSQL database, a host, and a ledger that the steps write themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from nomaflow.client import KernelClient
from postgres_server import SUPERUSER, PostgresServer

__all__ = ["Pair", "eventually"]

PATIENCE = 30.0
CLOCKS = ("--heartbeat-seconds", "0.5", "--lease-seconds", "2", "--lost-after-seconds", "20")
DATABASES = {"a": "pair", "b": "pair", "c": "other", "d": "other"}
SHORT_LEAD = ("--leader-ttl-seconds", "6")
JOBS = """
[[jobs]]
id = "held"
overlap = "allow"
steps = [{ type = "python", name = "hold", callable = "team.code:hold" }]

[[jobs]]
id = "quick"
overlap = "allow"
steps = [{ type = "python", name = "hold", callable = "team.code:hold" }]
"""
CODE = '''"""A step that notes in a ledger when it starts and ends, and ends when it is let go."""

import asyncio
import os
from pathlib import Path


def note(ledger, *words):
    with open(ledger, "ab", buffering=0) as file:
        file.write(" ".join(map(str, words)).encode() + b"\\n")


async def hold(*, ctx, ledger: str, gate: str = ""):
    note(ledger, "start", ctx.attempt_key, os.getpid())
    while gate and not Path(gate).exists():
        ctx.log.info("held")
        await asyncio.sleep(0.05)
    note(ledger, "end", ctx.attempt_key, os.getpid())
    return 1
'''


def eventually(question: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return the first true answer to a question."""
    until = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return answer


class Pair:
    """Kernels "a" and "b", each with a directory of its own, tokens and a database that they share, and a host.

    Kernels "c" and "d" share another database, and lead for as long as a kernel does by itself.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="np-"))
        self.server = PostgresServer()
        self.server.start()
        for name in set(DATABASES.values()):
            asyncio.run(self.sql(f"CREATE DATABASE {name}", database="postgres"))
        self.ledger = self.folder / "ledger"
        self.ledger.touch()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in DATABASES:
            (self.folder / name).mkdir()
        plugins = self.folder / "team" / "plugins" / "team"
        plugins.mkdir(parents=True)
        (plugins / "__init__.py").touch()
        (plugins / "code.py").write_text(CODE)
        (self.folder / "team" / "jobs.toml").write_text(JOBS)
        self._addresses: dict[str, str] = {}
        self.frozen_at = 0.0

    def start_kernel(self, name: str, *flags: str) -> None:
        """Start a kernel and wait until it listens, leading or not; it comes back where it was."""
        file = self.folder / name / ".nomaflow" / "address"
        file.unlink(missing_ok=True)
        tokens = ("--token-file", str(self.folder / "token"), "--host-token-file", str(self.folder / "host-token"))
        listen = self._addresses.get(name, "127.0.0.1:0")
        store = self.server.url(DATABASES[name])
        lead = SHORT_LEAD if name in ("a", "b") else ()
        self._start(
            name, "nomaflow_kernel", "--project", str(self.folder / name), "--address", listen, "--store", store,
            *tokens, *CLOCKS, *lead, *flags,
        )  # fmt: skip
        eventually(lambda: file.exists() or self.processes[name].poll() is not None)
        assert self.processes[name].poll() is None, self.log(name)
        self._addresses[name] = file.read_text().strip()

    def start_host(self, *kernels: str) -> None:
        """Start the host with the addresses of some kernels, and wait until it is attached."""
        addresses = ",".join(self.address(name) for name in kernels)
        self._start(
            "host", "nomaflow_host", "--project", str(self.folder / "team"), "--kernel", addresses,
            "--token-file", str(self.folder / "host-token"),
        )  # fmt: skip
        self.await_host(1)

    def await_host(self, times: int) -> None:
        """Wait until the host has attached so many times."""
        eventually(lambda: self.log("host").count("attached to the kernel") >= times)

    def _start(self, name: str, module: str, *flags: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([sys.executable, "-m", module, *flags], stdout=log, stderr=log)

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def terms(self, name: str) -> int:
        """Return how often a kernel has begun to lead."""
        return self.log(name).count("serving on")

    def led_since(self, name: str) -> float:
        """Return the time of day at which a kernel began to lead, as it says."""
        line = next(line for line in self.log(name).splitlines() if "serving on" in line)
        return datetime.fromisoformat(" ".join(line.split()[:2])).timestamp()

    def leader(self) -> str:
        """Return the name of the kernel that leads."""
        holder = asyncio.run(self.sql("SELECT holder FROM leadership"))[0]["holder"]
        pid = int(holder.rpartition(":")[2])
        return next(name for name in ("a", "b") if name in self.processes and self.processes[name].pid == pid)

    def address(self, name: str) -> str:
        """Return where a kernel listens."""
        return self._addresses[name]

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a process a signal."""
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """Kill a process the hard way."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        """Ask a process to stop and return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE)

    def client(self, *names: str, **options: Any) -> KernelClient:
        """Return a client that knows some of the kernels."""
        token = (self.folder / "token").read_text().strip()
        return KernelClient([self.address(name) for name in names or ("a", "b")], token=token, **options)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command elsewhere, knowing the token."""
        return subprocess.run(
            [sys.executable, "-m", "nomaflow_cli", *arguments, "--token-file", str(self.folder / "token")],
            cwd=self.folder, capture_output=True, text=True, timeout=60, check=False, env={**os.environ},
        )  # fmt: skip

    def entries(self, run_id: str = "") -> list[tuple[str, str, int]]:
        """Return what the steps of a run, or all, have noted: what, attempt key, pid."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(what, key, int(pid)) for what, key, pid in lines if key.startswith(run_id)]

    async def sql(self, statement: str, *, database: str = "pair") -> list[Any]:
        """Execute a statement past the kernels."""
        connection = await asyncpg.connect(host=str(self.server.folder), user=SUPERUSER, database=database)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    def close(self) -> None:
        """Stop everything and leave nothing behind."""
        for name in ("host", *DATABASES):
            process = self.processes.pop(name, None)
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.server.stop()
        shutil.rmtree(self.folder)
