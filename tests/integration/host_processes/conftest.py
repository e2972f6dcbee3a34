"""Hosts for the tests of this folder; each one's end is checked for leftovers."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import HOSTILE, Host, StartHost, is_alive, pids_below  # after the path is set


@pytest.fixture(params=["fork", "spawn"])
def spawn_only(request: pytest.FixtureRequest) -> bool:
    """Run a test with forked workers, and with fresh interpreters."""
    return request.param == "spawn"


@pytest.fixture
async def start_host() -> AsyncIterator[StartHost]:
    """Start hosts; at the end stop them and assert that no process and no descriptor is left."""
    hosts: list[Host] = []
    before = set(os.listdir("/proc/self/fd"))
    # The session's database server may be below this process already.
    others = set(pids_below(os.getpid()))

    async def start(root: Path = HOSTILE, *, load: bool = True, **settings: object) -> Host:
        host = Host(root, **settings)
        hosts.append(host)
        await host.supervisor.start()
        if load:
            outcome = await host.supervisor.load()
            assert outcome.accepted, (outcome.reasons, outcome.output_tail)
        return host

    yield start
    for host in hosts:
        reaper, _ = host.supervisor.reaper_identity
        below = pids_below(reaper) if reaper else []
        await host.supervisor.stop()
        await host.supervisor.stop()
        assert not is_alive(reaper) or reaper == 0
        assert [pid for pid in below if is_alive(pid)] == []
    assert set(os.listdir("/proc/self/fd")) <= before
    assert set(pids_below(os.getpid())) <= others


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file by which hostile code says that it runs."""
    return tmp_path / "marker"
