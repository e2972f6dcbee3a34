"""Kernel and host tell their service manager how they are, while they work, hang, reload and stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from team_system import NOTING_STEPS, TeamSystem

from notify_socket import NotifySocket, Told
from processes import environ_of
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

FILES = {
    "plugins/work.py": NOTING_STEPS
    + "def environment(*, ledger, **_):\n    note(ledger, 'env', env=dict(os.environ))\n",
    "jobs.toml": '[[jobs]]\nid = "environment"\nsteps = [{ callable = "work:environment" }]\n',
}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    """Listen as systemd does."""
    listening = NotifySocket(tmp_path / "notify")
    yield listening
    listening.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """Prepare a system with one project; nothing of it may be left."""
    made = TeamSystem(root=tmp_path, forks_templates=True)
    made.project("team", FILES)
    try:
        yield made
    finally:
        made.close()


def watched(systemd: NotifySocket) -> dict[str, str]:
    """Return what systemd gives a process in its environment; WATCHDOG_PID comes with the exec, and may be missing."""
    return {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"}


def is_tick(told: Told) -> bool:
    """Return True if a message feeds the watchdog."""
    return told == {"WATCHDOG": "1"}


def freezes_and_recovers(pid: int, systemd: NotifySocket) -> None:
    """Stop a process for a while, and check that its ticks stop and come back."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    systemd.drain()
    assert systemd.quiet_for(1.0)
    os.kill(pid, signal.SIGCONT)
    systemd.wait_for(is_tick)


def test_the_kernel_tells_of_its_life(systemd: NotifySocket, system: TeamSystem) -> None:
    """The kernel is ready once it answers, feeds the watchdog, tells of a reload, and says that it stops."""
    system.start_kernel(environ=watched(systemd))
    ready = systemd.wait_for(lambda told: "READY" in told)
    assert ready == {"READY": "1", "STATUS": f"serving on {system.kernel_address}, epoch 1"}
    system.client().get_kernel()
    systemd.wait_for(is_tick)
    freezes_and_recovers(system.kernel.pid, systemd)
    os.kill(system.kernel.pid, signal.SIGHUP)
    systemd.wait_for(lambda told: "RELOADING" in told)
    systemd.wait_for(lambda told: "READY" in told)
    os.kill(system.kernel.pid, signal.SIGTERM)
    assert systemd.wait_for(lambda told: "STOPPING" in told)["STATUS"] == "stopping: got SIGTERM"
    assert system.kernel.process.wait(30) == 0


def test_a_host_tells_of_its_life(systemd: NotifySocket, system: TeamSystem) -> None:
    """A host is ready without a kernel, tells when it attaches and reloads, feeds the watchdog, and says that it stops."""
    system.start_kernel()
    system.kill("kernel")
    host = system.start_host("team", environ=watched(systemd), settings=["drain_seconds = 7"], serves=False)
    ready = systemd.wait_for(lambda told: "READY" in told)
    assert ready["STATUS"].endswith("; generation 1")
    systemd.wait_for(is_tick)
    system.start_kernel()
    systemd.wait_for(lambda told: told.get("STATUS", "").startswith("attached to the kernel at unix:"))
    freezes_and_recovers(host.pid, systemd)
    os.kill(host.pid, signal.SIGHUP)
    systemd.wait_for(lambda told: "RELOADING" in told)
    assert systemd.wait_for(lambda told: "READY" in told)["STATUS"].endswith("; generation 2")
    system.client()
    _inherits_nothing(system, host)
    host.stop()
    stopping = systemd.wait_for(lambda told: "STOPPING" in told)
    assert stopping == {"STOPPING": "1", "STATUS": "stopping", "EXTEND_TIMEOUT_USEC": "67000000"}


def _inherits_nothing(system: TeamSystem, host: Running) -> None:
    """Check that no process below a host, and no step, could speak to its service manager."""
    eventually(lambda: system.instance("team", pid=host.pid))
    ledger = system.ledger()
    assert system.end(system.start("environment", ledger)).state == "SUCCEEDED"
    # A worker that a step had may end by itself while it is looked at.
    seen = [ledger.entries("env")[0]["env"], *filter(None, map(environ_of, host.tree()))]
    assert len(seen) > 2
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & {name for environ in seen for name in environ}
