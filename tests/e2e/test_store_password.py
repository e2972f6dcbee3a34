"""The password of a store given by flag does not stay in the list of processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from processes import command_of, pids_below
from real_system import PATIENCE, eventually

pytestmark = pytest.mark.e2e

SECRET = "s3cret-of-the-store"


@pytest.mark.parametrize("command", ["-m nomaflow_kernel --project .", "-m nomaflow_cli kernel", "-m nomaflow_cli up"])
def test_the_list_of_processes_has_no_password(tmp_path: Path, command: str) -> None:
    """Kernel and up run on with the given store, without its password on a command line, and say how to give it."""
    (tmp_path / "jobs.toml").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as store, (tmp_path / "said").open("wb") as said:
        store.settimeout(PATIENCE)
        url = f"postgresql+asyncpg://nomaflow:{SECRET}@127.0.0.1:{store.getsockname()[1]}/history"
        words = [sys.executable, "-P", *command.split(), "--store", url]
        process = subprocess.Popen(words, cwd=tmp_path, stdout=said, stderr=said)
        try:
            asked, _ = store.accept()  # nobody answers, so that whoever asks is there still
            with asked:
                lines = [command_of(pid) for pid in (process.pid, *pids_below(process.pid))]
                assert any("nomaflow" in line for line in lines)
                assert not any(SECRET in line for line in lines)
            store.close()

            def told() -> str:
                logs = (tmp_path / "said", tmp_path / ".nomaflow" / "kernel.log")
                return "".join(log.read_text() for log in logs if log.exists())

            eventually(lambda: "NOMAFLOW_KERNEL_STORE" in told())
            eventually(lambda: "127.0.0.1" in told().partition("NOMAFLOW_KERNEL_STORE")[2])
            assert SECRET not in told()
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
            process.wait(30)
