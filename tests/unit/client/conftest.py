"""A fake kernel and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fake_kernel import FakeKernel
from nomaflow.client import KernelClient


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[FakeKernel]:
    """Serve a fake kernel."""
    fake = FakeKernel(tmp_path / "k.sock")
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(kernel: FakeKernel) -> AsyncIterator[KernelClient]:
    """Return a client of the fake kernel that is patient for ten seconds."""
    async with KernelClient(kernel.address, by="tester", connect_seconds=10, retry_seconds=10) as made:
        yield made
