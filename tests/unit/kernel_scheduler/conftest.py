"""A scheduler for each test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scheduler_rig import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A scheduler at 2026-09-21 14:13:20 UTC."""
    built = Bench(tmp_path / "kernel.db")
    await built.open()
    yield built
    await built.close()
