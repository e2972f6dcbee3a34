"""Alerts of hosts with several instances, and of hosts that do not come back after the kernel was away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_system import AlertsSystem, open_alerts

from real_system import eventually

JOBS = """
[[jobs]]
id = "broken"
schedule = "0 0 1 1 *"
steps = [{ callable = "team.code:fail" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project whose kernel, host and alerts run; a host that is away is told after three seconds."""
    with open_alerts(tmp_path) as system:
        system.settings("host_detached_minutes = 0.05")
        system.write(JOBS)
        system.start_kernel()
        system.start_host()
        system.start_alerts()
        yield system


def test_a_silent_instance_does_not_hide_what_fails_on_the_others(system: AlertsSystem, tmp_path: Path) -> None:
    """One of two machines is gone for good: its silence is told, and so is what fails on the other one."""
    silent = system.start_host("--state-dir", str(tmp_path / "second"), name="second")
    os.kill(silent.pid, signal.SIGSTOP)
    eventually(lambda: "host team is unreachable" in system.web.subjects())
    system.kill("second")
    system.ask("run", "broken", "--wait", code=1)
    eventually(lambda: "broken failed" in system.web.subjects())
    texts = [post.json["text"] for post in system.web.taken()]
    assert any("host team is unreachable: other instances serve its jobs, after" in each for each in texts)


def test_a_host_that_does_not_come_back_to_a_kernel_is_told(system: AlertsSystem) -> None:
    """It ended while the kernel was away, so that no kernel saw it leave."""
    system.kill("kernel")
    system.kill("host")
    system.start_kernel()
    eventually(lambda: "host team is not attached" in system.web.subjects())
