"""Fixtures of tests of the kernel's gRPC side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rpc_world import World, short_directory


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Serve over a scripted engine and a real store."""
    with short_directory() as directory:
        made = await World(Path(directory)).start()
        yield made
        await made.close()
