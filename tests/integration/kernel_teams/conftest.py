"""Fixtures of tests about teams that share one kernel."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from teams_kernel import TeamsKernel


@pytest.fixture
async def teams() -> AsyncIterator[TeamsKernel]:
    """Start a kernel for teams."""
    with tempfile.TemporaryDirectory(prefix="nt-") as directory:
        kernel = await TeamsKernel(Path(directory)).start()
        yield kernel
        await kernel.stop()
