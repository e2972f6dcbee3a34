"""The data of PostgreSQL servers that the suite keeps, to copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

import postgres_server

pytestmark = pytest.mark.postgres


def test_a_server_is_made_where_nothing_may_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone of another user."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(postgres_server, "_KEPT", tmp_path / "file" / "postgres")
    server = postgres_server.PostgresServer()
    try:
        assert (server.folder / "data" / "PG_VERSION").exists()
    finally:
        server.stop()
