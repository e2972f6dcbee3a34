"""Fixtures of tests with a real kernel process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from access_world import AccessWorld, kernel_of_two_teams
from kernel_process import KernelProcess, ScriptedHost, all_detached, lasting_kernel

from real_system import Running
from waiting import eventually


@pytest.fixture
def project() -> Iterator[Path]:
    """Make an empty project whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="nk-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Running]:
    """Start a kernel that the tests of a module share."""
    with lasting_kernel() as kernel:
        yield kernel


@pytest.fixture
async def shared(lasting: Running) -> AsyncIterator[KernelProcess]:
    """Connect to the kernel that the tests of a module share."""
    kernel = KernelProcess(project=lasting.project, process=lasting)
    yield kernel
    await kernel.disconnect()
    await eventually(lambda: all_detached(lasting))


@pytest.fixture
async def process(project: Path) -> AsyncIterator[KernelProcess]:
    """Start a kernel process; nothing of it is left afterwards."""
    kernel = KernelProcess(project=project)
    try:
        yield await kernel.start()
    finally:
        await kernel.close()


@pytest.fixture
async def host() -> AsyncIterator[ScriptedHost]:
    """Make a host that is not attached yet."""
    scripted = ScriptedHost()
    yield scripted
    await scripted.leave()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Start the kernel of two teams that the tests of a module share."""
    with kernel_of_two_teams() as process:
        yield process


@pytest.fixture
async def world(running: Running) -> AsyncIterator[AccessWorld]:
    """Attach two teams."""
    async with AsyncExitStack() as stack:
        yield await AccessWorld(running=running).start(stack)
