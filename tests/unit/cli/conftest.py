"""A fake kernel, and the command line run against it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli_command import Command, command_in
from fake_kernel import FakeKernel


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of the person who runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("NOMAFLOW_") or name in ("COLUMNS", "FORCE_COLOR")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[FakeKernel]:
    """Serve a fake kernel."""
    fake = FakeKernel(tmp_path / "k.sock")
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that runs the command in a process of its own, in an empty directory."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return command_in(folder)
