"""The password of a store given by flag does not stay in the list of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import command_of, pids_below
from real_system import eventually

pytestmark = pytest.mark.e2e

SECRET = "s3cret-of-the-store"
URL = f"postgresql+asyncpg://nomaflow:{SECRET}@127.0.0.1:1/history"


@pytest.mark.parametrize("command", ["-m nomaflow_kernel --project .", "-m nomaflow_cli kernel", "-m nomaflow_cli up"])
def test_the_list_of_processes_has_no_password(tmp_path: Path, command: str) -> None:
    """Kernel and up run on with the given store, without its password on a command line, and say how to give it."""
    (tmp_path / "jobs.toml").write_text("")
    words = [sys.executable, "-P", *command.split(), "--store", URL]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(words, cwd=tmp_path, stdout=said, stderr=said)
    try:

        def told() -> str:
            logs = (tmp_path / "said", tmp_path / ".nomaflow" / "kernel.log")
            return "".join(log.read_text() for log in logs if log.exists())

        eventually(lambda: "NOMAFLOW_KERNEL_STORE" in told())
        eventually(lambda: "127.0.0.1" in told().partition("NOMAFLOW_KERNEL_STORE")[2] or process.poll() is not None)
        if process.poll() is None:
            lines = [command_of(pid) for pid in (process.pid, *pids_below(process.pid))]
            assert any("nomaflow" in line for line in lines)
            assert not any(SECRET in line for line in lines)
        assert SECRET not in told()
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
