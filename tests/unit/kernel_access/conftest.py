"""Fixtures of tests of access."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from credential_store import Kernel


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[Kernel]:
    """A kernel's credentials."""
    made = Kernel(tmp_path)
    async with AsyncExitStack() as stack:
        await made.start()
        stack.push_async_callback(made.stop)
        yield made
