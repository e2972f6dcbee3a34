"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from postgres_server import PostgresServer

# The same examples everywhere: what is green on one machine is green on the next, however slow that is. Search for new
# ones with `pytest --hypothesis-profile=explore`.
settings.register_profile("suite", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL server for the session; stop and remove it at the end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
