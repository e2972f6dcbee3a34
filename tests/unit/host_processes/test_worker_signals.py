"""The handlers of a worker's process, after a step that has changed them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CODE = """
import faulthandler, os, signal, sys, types
from nomaflow_host.worker.signals import INTERRUPT, install_signals

page = types.SimpleNamespace(blocker=None)
restore = install_signals(page=page, dump_fd=2, interrupt=lambda: print("asked", flush=True))
{meddle}
restore()
os.kill(os.getpid(), INTERRUPT)
os.kill(os.getpid(), signal.SIGTERM)
print("survived")
"""


@pytest.mark.parametrize(
    "meddle",
    [
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "signal.signal(INTERRUPT, signal.SIG_IGN)",
        "faulthandler.register(signal.SIGTERM, file=sys.stderr)",
        "faulthandler.register(INTERRUPT, file=sys.stderr)",
    ],
)
def test_the_stop_ladder_works_on_whatever_a_step_has_left(meddle: str) -> None:
    """The handlers that ask and end are restored for the next step, even if C code replaced them unseen."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(meddle=meddle)], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "asked\n"), done.stderr
