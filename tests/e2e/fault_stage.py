"""Shared helpers for tests of faults: steps with their own ledger, raw calls, limits and clocks of other processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from project_system import ProjectSystem

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_api.v1.reason_statuses import read_details
from real_system import eventually

__all__ = [
    "CODE",
    "Caller",
    "Refusal",
    "digest_of_log",
    "file_limit",
    "held_lock",
    "ledger",
    "resident",
    "settled",
    "start",
]

CODE = '''"""Steps that write down by themselves when they begin and end: no word of the product is in it."""

import asyncio
import base64
import hashlib
import json
import logging
import os
import time
from pathlib import Path

_log = logging.getLogger(__name__)


def _note(ledger, ctx, what):
    line = json.dumps({"key": ctx.attempt_key, "pid": os.getpid(), "what": what, "at": time.monotonic()}) + "\\n"
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


async def quick(*, ctx, ledger: str):
    _note(ledger, ctx, "start")
    _note(ledger, ctx, "end")
    return 1


def speak(*, ctx, ledger: str, release: str, lines: int = 1000):
    """Log, wait for a file, log again; return the digest of every line."""
    digest = hashlib.sha256()
    def say(text):
        _log.info("%s", text)
        digest.update(text.encode() + b"\\n")
    _note(ledger, ctx, "start")
    for number in range(lines):
        say(f"before {number}")
    _note(ledger, ctx, "waits")
    while not Path(release).exists():
        time.sleep(0.02)
    for number in range(lines):
        say(f"after {number}")
    _note(ledger, ctx, "end")
    return {"rows_affected": 2 * lines, "digest": digest.hexdigest()}


def flood(*, ctx, ledger: str, megabytes: int, line_bytes: int = 400):
    """Log text that cannot be packed, as fast as it goes."""
    digest, lines, left = hashlib.sha256(), 0, megabytes << 20
    _note(ledger, ctx, "start")
    while left > 0:
        text = base64.b64encode(os.urandom(line_bytes * 3 // 4)).decode()
        _log.info("%s", text)
        digest.update(text.encode() + b"\\n")
        lines += 1
        left -= len(text)
    _note(ledger, ctx, "end")
    return {"rows_affected": lines, "digest": digest.hexdigest()}
'''


def ledger(file: Path, what: str = "") -> list[dict[str, Any]]:
    """Return what steps have noted, of one kind or of all."""
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [entry for entry in found if what in ("", entry["what"])]


def digest_of_log(system: ProjectSystem, run_id: str) -> tuple[int, str]:
    """Return how many lines of a run its step logged, and their digest; fail if a number is missing or there twice."""
    digest, count = hashlib.sha256(), 0
    with system.client() as client:
        for number, line in enumerate(client.read_logs(run_id), start=1):
            assert line.seq == number
            if line.logger == "team.code":
                digest.update(line.message.encode() + b"\n")
                count += 1
    return count, digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A failed call: gRPC's code, our reason, and the time after which the kernel expects a retry."""

    code: grpc.StatusCode
    reason: str
    retry_seconds: float | None


class Caller:
    """Calls a kernel once, without the client's own retries."""

    def __init__(self, system: ProjectSystem) -> None:
        address = (system.project / ".nomaflow" / "address").read_text().strip()
        self._channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        self.stub: Any = KernelServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def trigger(self, job_id: str, request_id: str = "", *, seconds: float = 20.0) -> str | Refusal:
        """Return the id of a new run, or how the call was refused."""
        request = kernel.TriggerRunRequest(job_id=job_id, request_id=request_id)
        try:
            return str(self.stub.TriggerRun(request, timeout=seconds).run_id)
        except grpc.RpcError as error:
            return _refusal(error)

    @property
    def serving(self) -> bool:
        """Return True if the kernel reports SERVING."""
        answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _refusal(error: Any) -> Refusal:
    told = read_details(error.trailing_metadata())
    return Refusal(code=error.code(), reason=told.reason, retry_seconds=told.retry_seconds)


@contextlib.contextmanager
def file_limit(pid: int, size: int) -> Iterator[None]:
    """Limit the size of a process's files, so that its writes fail as on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def held_lock(system: ProjectSystem) -> Iterator[None]:
    """Hold the store's write lock from this process."""
    connection = sqlite3.connect(system.project / ".nomaflow" / "kernel.db", timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def resident(pid: int) -> int:
    """Return the resident memory of a process, bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def start(system: ProjectSystem, *flags: str, jobs: str, code: str = CODE) -> None:
    """Write a project, start kernel and host on it, and wait until every job is known; ``@HERE@`` is the folder."""
    system.write(jobs.replace("@HERE@", str(system.project)), code=code)
    (system.project / "nomaflow.toml").write_text('[host]\nname = "team"\ndrain_seconds = 0.2\n')
    system.start_kernel(*flags)
    system.start_host()
    wanted = jobs.count("[[jobs]]")
    eventually(lambda: len(system.jobs()) == wanted)


def settled(system: ProjectSystem, run_id: str) -> Any:
    """Wait until a run is terminal and return it."""
    return eventually(lambda: run if (run := system.run(run_id)).terminal else None)
