"""A kernel and its hosts as real processes with their default settings, and a look into their store from outside."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from nomaflow.client import KernelClient

__all__ = ["CODE", "JOBS", "PATIENCE", "Look", "SqliteLook", "System", "eventually", "job"]

PATIENCE = 120.0

CODE = '''"""Steps that do nothing, or log."""

import logging

log = logging.getLogger("work")
LINE = "line %06d " + "x" * 68


async def nothing():
    return 1


def nothing_sync():
    return 1


def write(count):
    for number in range(count):
        log.info(LINE, number)
    return count


def fail():
    raise LookupError("there are no rows")
'''


def job(job_id: str, function: str, *, steps: int = 1, more: str = "") -> str:
    """Return the text of a job whose steps all call one function; runs may overlap."""
    step = f'[[jobs.steps]]\ntype = "python"\ncallable = "work.steps:{function}"\n{more}'
    return f'[[jobs]]\nid = "{job_id}"\noverlap = "allow"\n' + step * steps


JOBS = "\n".join(
    [
        job("one", "nothing"),
        job("sync", "nothing_sync"),
        job("chain", "nothing", steps=200),
        job("log", "write", more="op_kwargs = { count = 100000 }\n"),
    ]
)


class Look(Protocol):
    """A look at the rows of a store that no process of ours takes part in."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class SqliteLook:
    """A connection of its own to an SQLite store."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        return self._connection.execute(statement).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresLook:
    """A connection of its own to a PostgreSQL store."""

    def __init__(self, url: str) -> None:
        import psycopg  # an extra of the product

        self._connection = psycopg.connect(url.replace("+asyncpg", ""), autocommit=True)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        return [tuple(row) for row in self._connection.execute(statement.encode()).fetchall()]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def eventually(question: Callable[[], Any], *, seconds: float = PATIENCE, pause: float = 0.005) -> Any:
    """Return the first true answer to a question.

    :raises TimeoutError: where there is none in time
    """
    until = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > until:
            raise TimeoutError(f"still not so after {seconds:.0f} s: {question}")
        time.sleep(pause)
    return answer


class System:
    """One kernel, and hosts that serve the same code under different names.

    :param store: URL of the store; empty for SQLite in the kernel's folder
    :param settings: lines for ``[host]`` of every host
    """

    def __init__(self, *, store: str = "", settings: Sequence[str] = (), jobs: str = JOBS) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="noma-bench-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._store = store
        self._settings = settings
        self._jobs = jobs
        (self.root / "kernel").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def database(self) -> Path:
        """The SQLite store's file."""
        return self.root / "kernel" / ".nomaflow" / "kernel.db"

    def start_kernel(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the kernel and wait until it serves.

        :param options: of its command line
        """
        address = self.root / "kernel" / ".nomaflow" / "address"
        address.unlink(missing_ok=True)
        more = ("--store", self._store) if self._store else ()
        process = self._spawn("kernel", "nomaflow_kernel", "--project", str(self.root / "kernel"), *more, *options)
        eventually(lambda: address.exists() or self._ended(process, "kernel"))
        return process

    def start_host(self, name: str = "bench", *, jobs: str | None = None, state: str = "") -> subprocess.Popen[bytes]:
        """Start a host; see :meth:`until_attached`.

        :param state: the name of a state directory for one of several instances
        """
        project = self.root / name
        code = project / "plugins" / "work"
        code.mkdir(parents=True, exist_ok=True)
        (code / "__init__.py").write_text("")
        (code / "steps.py").write_text(CODE)
        (project / "jobs.toml").write_text(self._jobs if jobs is None else jobs)
        (project / "nomaflow.toml").write_text("\n".join(["[host]", f'name = "{name}"', *self._settings, ""]))
        more = ("--state-dir", str(self.root / state)) if state else ()
        return self._spawn(state or name, "nomaflow_host", "--project", str(project), "--kernel", self.address, *more)

    def start(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start another process of the product, which ends with the system."""
        return self._spawn(name, module, *arguments)

    @property
    def address(self) -> str:
        """The kernel's address."""
        return (self.root / "kernel" / ".nomaflow" / "address").read_text().strip()

    def client(self) -> KernelClient:
        """Return a client of the kernel."""
        return KernelClient(self.address, by="bench")

    async def until_attached(self, client: KernelClient, hosts: int = 1, instances: int = 0) -> None:
        """Wait until so many hosts are attached and have brought their jobs, with so many instances in all."""
        async with asyncio.timeout(PATIENCE):
            while True:
                known = [one for one in await client.list_hosts() if one.state == "ATTACHED" and one.manifest_digest]
                serving = sum(each.state == "ATTACHED" for one in known for each in one.instances)
                if len(known) >= hosts and serving >= instances:
                    return
                await asyncio.sleep(0.02)

    @contextmanager
    def look(self) -> Iterator[Look]:
        """Look into the store."""
        made: Look = PostgresLook(self._store) if self._store else SqliteLook(self.database)
        try:
            yield made
        finally:
            made.close()

    def stop(self, name: str) -> None:
        """End one process: asked first, killed where it does not listen."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End everything and remove it."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name in list(self.processes):
            self.stop(name)
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(self.root)

    def _spawn(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def _ended(self, process: subprocess.Popen[bytes], name: str) -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended: {(self.root / f'{name}.log').read_text()[-2000:]}")
        return False
