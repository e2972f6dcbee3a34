"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from postgres_server import PostgresServer

pytest_plugins = ["machine_parts", "red_tests"]

# The same examples everywhere: what is green on one machine is green on the next, however slow that is. Search for new
# ones with `pytest --hypothesis-profile=explore`.
settings.register_profile("suite", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("suite")


_LONG_FIRST = ("torture", "e2e", "integration", "contract")
"""Folders of long tests, which begin first, so that no process is left alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first; the order is kept apart from that."""

    def place(item: pytest.Item) -> int:
        folders = item.path.parts
        return next((rank for rank, name in enumerate(_LONG_FIRST) if name in folders), len(_LONG_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL server for the session; stop and remove it at the end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
