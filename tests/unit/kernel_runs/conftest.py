"""The rig for tests of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """An engine on a new store."""
    built = Rig(tmp_path / "kernel.db")
    await built.open()
    yield built
    await built.close()
