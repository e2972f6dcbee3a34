"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL server for the session; stop and remove it at the end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
