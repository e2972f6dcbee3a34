"""Processes of tests are asked to end a second time, since a host lets its steps go on for as long as a test waits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from real_system import PATIENCE, Running
from waiting import eventually

DRAINS = """
import signal, threading
asked, hurried = threading.Event(), threading.Event()
def stop(*_):
    (hurried if asked.is_set() else asked).set()
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
asked.wait()
hurried.wait(600)
print("hurried" if hurried.is_set() else "drained", flush=True)
"""


async def test_a_process_that_lets_its_work_go_on_is_hurried(tmp_path: Path) -> None:
    """It ends long before the patience of a test, by itself and without an error."""
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", DRAINS], stdout=log)
    part = Running(project=tmp_path, process=process, log_file=log_file)
    await eventually(lambda: "ready" in part.log)
    began = time.monotonic()
    assert part.stop(again_after=2) == 0
    assert "hurried" in part.log
    assert time.monotonic() - began < PATIENCE / 2
