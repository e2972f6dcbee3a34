"""Kernel processes in pairs, each on one PostgreSQL database, a host, and a ledger that the steps write themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from cli_command import Answer, run_command
from forked_templates import FORK_TEMPLATES
from nomaflow.client import KernelClient
from postgres_server import SUPERUSER, PostgresServer
from real_system import Running, eventually, launch, launch_kernel

__all__ = ["Pair"]

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

[[jobs]]
id = "tick"
overlap = "allow"
schedule = "* * * * * */2"
steps = [{ type = "python", name = "tick", callable = "team.code:tick" }]
"""
CODE = '''"""A step that notes in a ledger when it starts and ends, and ends when it is let go."""

import asyncio
import contextlib
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


async def tick():
    return None
'''


class Pair:
    """Kernels "a" and "b", each with a directory and a Unix socket of its own, a database that they share, and a host.

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
        self.processes: dict[str, Running] = {}
        for name in DATABASES:
            (self.folder / name).mkdir()
        plugins = self.folder / "team" / "plugins" / "team"
        plugins.mkdir(parents=True)
        (plugins / "__init__.py").touch()
        (plugins / "code.py").write_text(CODE)
        (self.folder / "team" / "jobs.toml").write_text(JOBS)
        self.frozen_at = 0.0

    def start_kernel(self, name: str, *flags: str) -> None:
        """Start a kernel and wait until it listens, leading or not; it comes back where it was."""
        store = self.server.url(DATABASES[name])
        lead = SHORT_LEAD if name in ("a", "b") else ()
        self.processes[name] = launch_kernel(
            self.folder / name, "--store", store, *CLOCKS, *lead, *flags,
            log_file=self.folder / f"{name}.log",
        )  # fmt: skip

    def run_host(self, *flags: str) -> None:
        """Start the host."""
        self.processes["host"] = launch(
            "nomaflow_host", self.folder / "team", *flags,
            log_file=self.folder / "host.log", environ={FORK_TEMPLATES: "1"},
        )  # fmt: skip

    def start_host(self, *kernels: str) -> None:
        """Start the host with the addresses of some kernels, and wait until it is attached and its jobs are known."""
        self.run_host("--kernel", ",".join(self.address(name) for name in kernels))
        self.await_host(1)
        eventually(lambda: "introduced manifest" in self.log("host"))

    def await_host(self, times: int) -> None:
        """Wait until the host has attached so many times."""
        eventually(lambda: self.log("host").count("attached to the kernel") >= times)

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
        return f"unix:{self.folder}/{name}/.nomaflow/run/kernel.sock"

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a process a signal."""
        os.kill(self.processes[name].pid, number)

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL."""
        self.processes.pop(name).kill()

    def stop(self, name: str) -> int:
        """Ask a process to stop and return its exit code."""
        return self.processes.pop(name).stop()

    def client(self, *names: str, **options: Any) -> KernelClient:
        """Return a client that knows some of the kernels."""
        return KernelClient([self.address(name) for name in names or ("a", "b")], **options)

    def cli(self, *arguments: str) -> Answer:
        """Run the command elsewhere."""
        return run_command(*arguments, folder=self.folder)

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
        with contextlib.ExitStack() as stack:
            for name, process in self.processes.items():
                stack.callback(process.stop if name == "host" else process.kill)
        self.server.stop()
        shutil.rmtree(self.folder)
