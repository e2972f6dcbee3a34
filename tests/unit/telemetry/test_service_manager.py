"""Messages of a process to systemd, on a real datagram socket."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomaflow_telemetry.service_manager import ServiceManager
from notify_socket import NotifySocket


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    """Listen as systemd does, on a path and on an abstract name."""
    name = tmp_path / "notify" if request.param == "path" else f"@nomaflow-test-{os.getpid()}"
    listening = NotifySocket(name)
    yield listening
    listening.close()


async def test_a_life_is_told_in_order(systemd: NotifySocket) -> None:
    """Ready, a reload with its time, and the stop with how long it may take arrive as systemd reads them."""
    manager = ServiceManager(address=systemd.address)
    before = time.monotonic_ns() // 1000
    manager.ready("serving")
    manager.reloading()
    manager.ready("serving\nagain")
    manager.stopping("got SIGTERM", within_seconds=1.5)
    systemd.drain()
    began = int(systemd.told[1].pop("MONOTONIC_USEC"))
    assert before <= began <= time.monotonic_ns() // 1000
    assert systemd.told == [
        {"READY": "1", "STATUS": "serving"},
        {"RELOADING": "1", "STATUS": "reloading"},
        {"READY": "1", "STATUS": "serving again"},
        {"STOPPING": "1", "STATUS": "got SIGTERM", "EXTEND_TIMEOUT_USEC": "1500000"},
    ]


async def test_the_watchdog_is_fed_by_the_loop_alone(systemd: NotifySocket) -> None:
    """Ticks come while the event loop turns, none before the process is ready and none while the loop stands still."""
    manager = ServiceManager(address=systemd.address, watchdog_seconds=0.1)
    await asyncio.sleep(0)
    manager.state("starting")
    manager.ready("serving")
    for _ in range(3):
        await asyncio.to_thread(systemd.wait_for, lambda told: "WATCHDOG" in told)
    assert [sorted(told) for told in systemd.told[:3]] == [["STATUS"], ["READY", "STATUS"], ["WATCHDOG"]]
    systemd.drain()
    assert systemd.quiet_for(0.5), "this blocks the loop"


def test_the_variables_are_taken_out_of_the_environment(systemd: NotifySocket) -> None:
    """Children inherit no variable with which they could speak for this process or use its watchdog."""
    mine = {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    manager = ServiceManager.of(mine)
    assert mine == {"HOME": "/"}
    assert manager._address


async def test_the_watchdog_of_another_process_is_not_ours(systemd: NotifySocket) -> None:
    """A WATCHDOG_PID of another process means that no tick is sent."""
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getppid())}
    ServiceManager.of(environ).ready("serving")
    await asyncio.to_thread(systemd.wait_for, lambda told: "READY" in told)
    assert await asyncio.to_thread(systemd.quiet_for, 0.3)


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "1000"}])
async def test_without_a_service_manager_nothing_happens(environ: dict[str, str]) -> None:
    """A process that systemd did not start sends no notice and feeds no watchdog."""
    manager = ServiceManager.of(environ)
    manager.ready("serving")
    manager.stopping("done")
    assert not manager._address


async def test_a_service_manager_that_is_away_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing socket, or an address of another kind, is a line in the log and nothing worse."""
    manager = ServiceManager(address=str(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING):
        manager.ready("serving")
        manager.state("still serving")
        assert not ServiceManager(address="vsock:2:1")._address
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the service manager cannot be told READY STATUS",
        "NOTIFY_SOCKET is 'vsock",
    ]
