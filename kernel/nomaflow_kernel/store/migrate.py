"""Bringing a store's schema to the head, and taking the store over."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from nomaflow_kernel.store.errors import SchemaTooNew
from nomaflow_kernel.store.migrations import HEAD, REVISIONS

__all__ = ["migrate", "stored_revision", "take_over"]

_ADVISORY_LOCK = 0x6E6F6D61  # "noma": one migration at a time on a shared PostgreSQL


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the store's schema, or None for a fresh database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def migrate(connection: Connection) -> None:
    """Run the missing revisions; the caller holds the transaction.

    :raises SchemaTooNew: where the stored revision is not one of ours; nothing was written
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    found = stored_revision(connection)
    if found == HEAD:
        return
    if found is not None and found not in REVISIONS:
        raise SchemaTooNew(found=found, newest_known=HEAD)
    _run_revisions(connection)


def _run_revisions(connection: Connection) -> None:
    # Imported here: it takes a fifth of a second, which only a start on an old or fresh store should pay.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def take_over(connection: Connection, *, holder: str) -> tuple[int, int]:
    """Raise the epoch, so that no older kernel can write; return it and the newest event's number."""
    connection.execute(
        text("UPDATE kernel SET epoch = epoch + 1, commits = commits + 1, holder = :holder WHERE id = 1"),
        {"holder": holder},
    )
    row = connection.execute(text("SELECT epoch, last_event_seq FROM kernel WHERE id = 1")).one()
    return row.epoch, row.last_event_seq
