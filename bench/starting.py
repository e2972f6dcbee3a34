"""M9: from the command to the first step, and the time of two short commands."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.system import eventually
from nomaflow.client import ClientError, ProjectAddress, SyncKernelClient

__all__ = ["command_seconds", "project", "up", "up_seconds", "wait_until_up"]

_CODE = """import time
from pathlib import Path


async def mark(file):
    Path(file + ".part").write_text(str(time.monotonic()))
    Path(file + ".part").rename(file)
"""
_JOB = """[[jobs]]
id = "mark"
[[jobs.steps]]
type = "python"
callable = "work.steps:mark"
op_kwargs = {{ file = "{}" }}
"""
_NOMAFLOW = str(Path(sys.executable).with_name("nomaflow"))


@contextmanager
def project() -> Iterator[Path]:
    """Make a project of one job, and remove it afterwards."""
    root = Path(tempfile.mkdtemp(prefix="noma-up-"))
    try:
        code = root / "plugins" / "work"
        code.mkdir(parents=True)
        (code / "__init__.py").write_text("")
        (code / "steps.py").write_text(_CODE)
        (root / "jobs.toml").write_text(_JOB.format(root / "mark"))
        yield root
    finally:
        shutil.rmtree(root)


@contextmanager
def up(root: Path) -> Iterator[None]:
    """Run ``nomaflow up`` on a project."""
    with (root / "up.log").open("ab") as log:
        process = subprocess.Popen([_NOMAFLOW, "up", str(root)], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def up_seconds(root: Path) -> float:
    """Return the seconds from ``nomaflow up`` to the first line of a step that is triggered as soon as it can be."""
    mark = root / "mark"
    mark.unlink(missing_ok=True)
    address = root / ".nomaflow" / "address"
    address.unlink(missing_ok=True)
    began = time.monotonic()
    with up(root):
        eventually(address.exists)
        with SyncKernelClient(ProjectAddress(project=root)) as client:
            eventually(lambda: _accepted(client))
            eventually(mark.exists)
        return float(mark.read_text()) - began


def wait_until_up(root: Path) -> None:
    """Wait until the kernel of a project that is being started has its job."""
    eventually((root / ".nomaflow" / "address").exists)
    with SyncKernelClient(ProjectAddress(project=root)) as client:
        eventually(lambda: any(one.job_id == "mark" for one in client.list_jobs().jobs))


def command_seconds(root: Path, *arguments: str) -> float:
    """Return the seconds of one command line in a project's folder."""
    began = time.perf_counter()
    subprocess.run([_NOMAFLOW, *arguments], cwd=root, check=True, capture_output=True)
    return time.perf_counter() - began


def _accepted(client: SyncKernelClient) -> bool:
    try:
        client.trigger("mark")
    except ClientError:
        return False
    return True
