"""Fixtures of tests of the kernel's side of its hosts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel_rpc"))

from rpc_world import World, short_directory  # found by the line above


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Serve over a scripted engine and a real store."""
    with short_directory() as directory:
        made = await World(Path(directory)).start()
        yield made
        await made.close()
