"""``nomaflow up`` is asked to stop once, then again: what may finish does, what does not is stopped, nothing is left."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from stopping_system import NOTING_STEPS, Ledger, alive, eventually

from nomaflow.client import ProjectAddress, SyncKernelClient, TriggerOrder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CODE = (
    NOTING_STEPS
    + """
async def may_finish(*, ledger, **_):
    note(ledger, "may_finish")
    while not Path(ledger + ".go").exists():
        await asyncio.sleep(0.01)
    note(ledger, "finished")

def deaf(*, ledger, **_):
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"])
    note(ledger, "child", pid=child.pid)
    note(ledger, "deaf")
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass
"""
)
JOBS = """
[[jobs]]
id = "may_finish"
steps = [{ callable = "work:may_finish" }]

[[jobs]]
id = "deaf"
cancel_grace_seconds = 0.2
steps = [{ callable = "work:deaf" }]
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a project; nothing of it may be left."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "work.py").write_text(CODE)
    (tmp_path / "jobs.toml").write_text(JOBS)
    (tmp_path / "nomaflow.toml").write_text('[host]\nname = "team"\ndrain_seconds = 60\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "nomaflow.cli", "up", str(tmp_path), "-o", "json"], stdout=subprocess.PIPE, text=True
    )
    below: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "ready"
        below = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        process.kill()
        process.communicate()
        for each in below:
            if each.is_running():
                each.kill()


def stored(project: Path) -> dict[str, tuple[str, str]]:
    """Return state and reason of the run of each job, from the file."""
    with closing(sqlite3.connect(project / ".nomaflow" / "kernel.db")) as store:
        return {row[0]: (row[1], row[2]) for row in store.execute("SELECT job_id, state, reason_code FROM runs")}


def test_one_signal_drains_and_a_second_one_is_faster(up: subprocess.Popen[str], tmp_path: Path) -> None:
    """A step that ends in time has succeeded; a deaf one is stopped with its children long before the deadline."""
    ledger = Ledger(file=tmp_path / "ledger")
    with closing(SyncKernelClient(ProjectAddress(project=tmp_path))) as client:
        for job in ("may_finish", "deaf"):
            client.trigger(TriggerOrder(job_id=job, params={"ledger": str(ledger.file)}))
        pids = [ledger.pid(what) for what in ("may_finish", "deaf", "child")]
        below = {each.pid for each in psutil.Process(up.pid).children(recursive=True)} | set(pids)
        up.send_signal(signal.SIGTERM)
        lines = _lines_until(up, type="stopping")
        assert not lines[-1]["hurried"]
        assert client.get_kernel().pid in below, "the kernel takes what the host still reports"
        Path(f"{ledger.file}.go").touch()
        ledger.wait_for("finished")
        eventually(lambda: any(run.state == "SUCCEEDED" for run in client.list_runs(job_id="may_finish")))
        assert up.poll() is None
        assert all(alive(pid) for pid in pids[1:]), "it may go on until the deadline"
    began = time.monotonic()
    up.send_signal(signal.SIGTERM)
    assert up.wait(40) == 0
    assert time.monotonic() - began < 30
    eventually(lambda: not any(alive(pid) for pid in below), seconds=5)
    assert stored(tmp_path) == {"may_finish": ("SUCCEEDED", ""), "deaf": ("FAILED", "host_draining")}


def _lines_until(process: subprocess.Popen[str], **wanted: Any) -> list[dict[str, Any]]:
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if all(lines[-1].get(key) == value for key, value in wanted.items()):
            return lines
    raise AssertionError(f"up has ended: {lines[-3:]}")
