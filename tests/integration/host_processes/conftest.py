"""Hosts for the tests of this folder; each one's end is checked for leftovers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from harness import HOSTILE, Host, StartHost, pids_below  # after the path is set

from forked_templates import ReaperParent
from nomaflow_host.supervisor import reaper_link
from processes import open_files, still_alive


@pytest.fixture(scope="session")
def reaper_parent() -> Iterator[ReaperParent]:
    """Start a process that forks reapers."""
    parent = ReaperParent()
    yield parent
    parent.close()


@contextmanager
def _started_by(starter: object) -> Iterator[None]:
    used = vars(reaper_link)
    before, used["subprocess"] = used["subprocess"], starter
    yield
    used["subprocess"] = before


@pytest.fixture(scope="module", autouse=True)
def _forked_reapers(reaper_parent: ReaperParent) -> Iterator[None]:
    """Fork the reapers of hosts, which then start in a third of the time."""
    with _started_by(reaper_parent):
        yield


@pytest.fixture
def fresh_reapers() -> Iterator[None]:
    """Start reapers as the product does, in a test of their life or of what processes inherit."""
    with _started_by(subprocess):
        yield


@pytest.fixture(params=["fork", "spawn"])
def spawn_only(request: pytest.FixtureRequest) -> bool:
    """Run a test with forked workers, and with fresh interpreters."""
    return request.param == "spawn"


@asynccontextmanager
async def hosts_to_start() -> AsyncIterator[StartHost]:
    """Give a function that starts hosts; at the end stop them and assert that no process and no descriptor is left."""
    hosts: list[Host] = []
    before = set(open_files())
    others = pids_below(os.getpid())

    async def start(root: Path = HOSTILE, *, load: bool = True, **settings: object) -> Host:
        host = Host(root, **settings)
        hosts.append(host)
        await host.supervisor.start()
        if load:
            outcome = await host.supervisor.load()
            assert outcome.accepted, (outcome.reasons, outcome.output_tail)
        return host

    left: list[int] = []
    try:
        yield start
    finally:
        async with AsyncExitStack() as stack:
            for host in hosts:
                reaper = host.supervisor.reaper_identity.pid
                left += [reaper, *(pids_below(reaper) if reaper else [])]
                stack.push_async_callback(host.supervisor.stop)
                stack.push_async_callback(host.supervisor.stop)
    assert still_alive(left, seconds=10) == []
    assert set(open_files()) <= before
    # What the session shares, as its database server, starts processes at will.
    known = {*others, *(pid for other in others for pid in pids_below(other))}
    assert still_alive(set(pids_below(os.getpid())) - known, seconds=10) == []


@pytest.fixture
async def start_host() -> AsyncIterator[StartHost]:
    """Start hosts of a test's own."""
    async with hosts_to_start() as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host_of_module(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    """Start a host, with the module's ``HOST_SETTINGS``, for the tests of a module that leave it as they find it.

    One whose step costs others their worker has a host of its own: no code that was in it shares a worker again.
    """
    async with hosts_to_start() as start:
        yield await start(**getattr(request.module, "HOST_SETTINGS", {}))


@pytest_asyncio.fixture(loop_scope="module")
async def host(host_of_module: Host) -> AsyncIterator[Host]:
    """Give the host of the module; whatever a test leaves running in it ends with the test."""
    yield host_of_module
    await host_of_module.end_what_runs()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file by which hostile code says that it runs."""
    return tmp_path / "marker"
