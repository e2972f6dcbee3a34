"""Fixtures of the console's tests: one running system for a module, and a client that has logged in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from console_system import DEMO, ConsoleSystem, running_console


@pytest.fixture(scope="module")
def console(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A kernel, a host and a console on the project that the module names as ``PROJECT``, else on the demo's."""
    project = getattr(request.module, "PROJECT", DEMO)
    with running_console(tmp_path_factory.mktemp("console"), project=project) as made:
        yield made


@pytest.fixture(scope="module")
def failed_run(console: ConsoleSystem) -> str:
    """The id of a run whose second step failed twice, on the project of the run's page."""
    api = console.system.api
    run = api.wait(api.trigger("month-end").run_id)
    assert run.state == "FAILED"
    return run.run_id


@pytest.fixture
def client(console: ConsoleSystem) -> Iterator[httpx.Client]:
    """A client with a session of its own."""
    with console.logged_in() as client:
        yield client
