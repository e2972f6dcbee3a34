"""The demo is a promise: it runs, proves what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    """``make demo`` exits 0 with all its proofs, in plain text without a terminal, and leaves no process."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "plugins" / "demo" / "run_demo.py")],
        check=False,
        capture_output=True,
        text=True,
        timeout=270,
        env={**os.environ, "COLUMNS": "160", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    for proof in (
        r"✔ the step was running in pid \d+ before the kill, and went on there: one attempt",
        r"✔ its log has every line once: \d+ lines, batches 1 to 30",
        r"✘ monthly-summary  no invoices to aggregate for \d{4}-\d{2} apps_id=99",
        r"heartbeat +✔ SUCCEEDED +cron",
        r"purge +✔ SUCCEEDED +\S+ m?s +866 +tenant 10",
        r"✔ nothing is left running",
    ):
        assert re.search(proof, done.stdout), proof
    assert demo_processes(tmp_path) == []


def test_ctrl_c_ends_the_demo_at_once(tmp_path: Path) -> None:
    """Ctrl-C while the main job is followed: exit code 130, no complaint, no process and no directory left."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "plugins" / "demo" / "run_demo.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "batch 2 of 30" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=240)
    assert process.returncode == 130, rest
    assert "✘" not in rest
    assert "Traceback" not in rest
    assert "the kernel is gone" not in rest
    assert demo_processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def demo_processes(folder: Path) -> list[int]:
    """Return the processes of the demo below a folder; others may run another."""
    return [one.pid for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or [])]
