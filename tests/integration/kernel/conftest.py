"""Fixtures of tests with a real kernel process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kernel_process import KernelProcess, ScriptedHost


@pytest.fixture
def project() -> Iterator[Path]:
    """Make an empty project whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="nk-"))
    yield path
    shutil.rmtree(path)


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
