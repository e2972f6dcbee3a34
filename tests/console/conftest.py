"""Fixtures of the console's tests: one running system for a module, and a client that has logged in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from console_system import ConsoleSystem, running_console


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A kernel, a host and a console on the demo's project."""
    with running_console(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture
def browser_client(console: ConsoleSystem) -> Iterator[httpx.Client]:
    """A client with a session of its own."""
    with console.logged_in() as client:
        yield client
