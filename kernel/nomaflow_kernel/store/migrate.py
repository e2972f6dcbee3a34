"""Migrating a store's schema to the newest revision, and taking the store over."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, inspect, text

from nomaflow_kernel.store.errors import SchemaTooNew
from nomaflow_kernel.store.marks import refuse_marked
from nomaflow_kernel.store.migrations import HEAD, REVISIONS

__all__ = [
    "Taken",
    "lock_migrations",
    "lock_schema",
    "migrate",
    "stored_revision",
    "take_over",
    "usable_revision",
]

_LOG = logging.getLogger(__name__)

_LEASED_SINCE = "0002"
_ADVISORY_LOCK = 0x6E6F6D61  # "noma": one migration at a time on a shared PostgreSQL


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the store's schema, or None for a fresh database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def usable_revision(revision: str) -> bool:
    """Return whether this version can use a schema of that revision, once its own revisions have run.

    A revision's first digit is the major version it belongs to. Within one, revisions only add what older statements
    need not know, so a later one of the same major version can be used as it is: an upgrade can be rolled back.
    """
    if revision in REVISIONS:
        return True
    numbered = len(revision) == len(HEAD) and revision.isascii() and revision.isdigit()
    return numbered and revision[0] == HEAD[0] and revision > HEAD


def lock_schema(connection: Connection) -> bool:
    """Keep every other kernel on a PostgreSQL from migrating until the transaction ends.

    :return: whether the schema exists, and with it the lease of a leader
    :raises SchemaTooNew: if the stored revision is of a later major version
    :raises StoreMoved: if the history continues elsewhere
    :raises StoreUnfinished: if it is an incomplete copy
    """
    lock_migrations(connection)
    return (_usable(connection) or "") >= _LEASED_SINCE


def lock_migrations(connection: Connection) -> None:
    """Keep every other process on a PostgreSQL from taking the store until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _usable(connection: Connection) -> str | None:
    found = stored_revision(connection)
    if found is not None:
        refuse_marked(connection, found)
    if found is not None and not usable_revision(found):
        raise SchemaTooNew(found=found, newest_known=HEAD)
    return found


def migrate(connection: Connection) -> None:
    """Run the missing revisions; the caller holds the transaction, and on PostgreSQL the lock.

    A later schema that can be used stays unchanged.

    :raises SchemaTooNew: if the stored revision is of a later major version; nothing was written
    """
    found = _usable(connection)
    if found == HEAD:
        return
    if found is not None and found not in REVISIONS:
        _LOG.warning(
            "the store has schema revision %s, of a later version; working on it with what %s knows", found, HEAD
        )
        return
    _run_revisions(connection)


def _run_revisions(connection: Connection) -> None:
    # Imported here: it takes a fifth of a second, which only a start on an old or new store should pay.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


class Taken(NamedTuple):
    """Facts that a store tells the kernel that takes it over; see ``StoreInfo``."""

    epoch: int
    last_event_seq: int
    store_id: str
    pruned_through_seq: int


def take_over(connection: Connection, *, holder: str) -> Taken:
    """Raise the epoch, so that no older kernel can write; return the store's facts."""
    connection.execute(
        text("UPDATE kernel SET epoch = epoch + 1, commits = commits + 1, holder = :holder WHERE id = 1"),
        {"holder": holder},
    )
    columns = "kernel.epoch, kernel.last_event_seq, identity.store_id, identity.pruned_through_seq"
    query = f"SELECT {columns} FROM kernel, identity WHERE kernel.id = 1 AND identity.id = 1"  # noqa: S608 - constants
    return Taken(*connection.execute(text(query)).one())
