"""Bringing a store's schema to the newest revision, and taking the store over."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text, update

from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.errors import StoreUnusable
from nomaflow_kernel.store.migrations import HEAD, REVISIONS, is_revision, usable_revision
from nomaflow_kernel.store.moved_marks import refuse_marked

_LOG = logging.getLogger(__name__)

_ADVISORY_LOCK = 0x6E6F6D61  # "noma": one migration at a time on a shared PostgreSQL


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the store's schema, or None for a fresh database.

    :raises StoreUnusable: if it is the revision of another program
    """
    tables = inspect(connection)
    if not tables.has_table(schema.revisions.name):
        return None
    found: str | None = connection.execute(select(schema.revisions.c.version_num)).scalars().first()
    # Other programs use Alembic, too, and some number their revisions as we do.
    if found is not None and not (is_revision(found) and tables.has_table(schema.kernel.name)):
        raise _foreign([schema.revisions.name])
    return found


def lock_migrations(connection: Connection) -> None:
    """Keep every other process on a PostgreSQL from taking the store until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def migrate(connection: Connection) -> None:
    """Make the schema, or run its missing revisions; the caller holds the transaction, and on PostgreSQL the lock.

    A later schema that can be used stays unchanged. See :func:`usable` for what is refused.
    """
    found = usable(connection)
    if found is None:
        _make_schema(connection)
    elif found not in REVISIONS:
        _LOG.warning(
            "the store has schema revision %s, of a later version; using only what revision %s has", found, HEAD
        )
    elif found != HEAD:
        _run_revisions(connection)


def usable(connection: Connection) -> str | None:
    """Check that a database can be used, without writing; return the revision of its schema, None for a fresh one.

    :raises StoreUnusable: if the stored revision is of a later major version, if this version cannot convert it, or if
        the tables are those of another program
    :raises StoreMoved: if the history continues elsewhere
    :raises StoreUnfinished: if it is an incomplete copy
    """
    found = stored_revision(connection)
    if found is None:
        own = {schema.revisions.name, *schema.metadata.tables}
        taken = sorted(own.intersection(inspect(connection).get_table_names()))
        if taken:
            raise _foreign(taken)
        return None
    if not usable_revision(found):
        if found < REVISIONS[0]:
            raise StoreUnusable(
                f"the history store has schema revision {found!r}, of a development version; this version knows "
                f"{REVISIONS[0]!r} and later; use the version that wrote it, "
                "or move the store away and start a new one",
                reason="SCHEMA_TOO_OLD",
            )
        raise StoreUnusable(
            f"the history store has schema revision {found!r}, this version knows up to {HEAD!r}; "
            "install the version that wrote it, or restore a backup",
            reason="SCHEMA_TOO_NEW",
        )
    refuse_marked(connection)
    return found


def _foreign(tables: Sequence[str]) -> StoreUnusable:
    return StoreUnusable(
        f"the history store has tables of another program: {', '.join(tables)}; give the kernel an empty database, "
        "or on PostgreSQL an empty schema: ALTER ROLE … SET search_path",
        reason="UNSUPPORTED_STORE",
    )


def _make_schema(connection: Connection) -> None:
    schema.create_tables(connection)
    connection.execute(schema.kernel.insert().values(id=1, store_id=uuid.uuid4().hex))
    connection.execute(schema.leadership.insert().values(id=1))
    schema.revisions.create(connection)
    connection.execute(schema.revisions.insert().values(version_num=HEAD))


def _run_revisions(connection: Connection) -> None:
    # Imported here: it takes a fifth of a second, which only a start on an old store should pay.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def take_over(connection: Connection, *, holder: str) -> StoreInfo:
    """Raise the epoch, so that no older kernel can write; return the store's facts."""
    kernel = schema.kernel
    connection.execute(update(kernel).values(epoch=kernel.c.epoch + 1, commits=kernel.c.commits + 1, holder=holder))
    facts = select(kernel.c.epoch, kernel.c.last_event_seq, kernel.c.store_id, kernel.c.pruned_through_seq)
    return StoreInfo(kind=connection.dialect.name, **connection.execute(facts).one()._asdict())
