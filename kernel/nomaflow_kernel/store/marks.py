"""Marks on a store that no kernel may use: an incomplete copy, or a history that was moved elsewhere.

The mark is a word before the schema's revision: every version refuses an unknown revision, so versions that do not know
marks refuse too. The holder column names the other store.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, inspect, text

from nomaflow_kernel.store.errors import StaleEpoch, StoreMoved, StoreUnfinished

__all__ = ["Mark", "clear_mark", "mark_of", "reclaim", "refuse_marked", "set_mark"]

_RECLAIMED = "the history was moved and has been taken back; look at what is QUEUED, then: nomaflow resume"


class Mark(StrEnum):
    """The kind of a mark."""

    COPYING = "copying"
    """The store is being filled, or was until the copy was killed."""
    MOVED = "moved"
    """The store's history continues in another store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedRevision:
    """A revision with a mark before it."""

    mark: Mark
    revision: str


def mark_of(revision: str) -> MarkedRevision | None:
    """Return the mark of a stored revision, or None."""
    word, dash, rest = revision.partition("-")
    return MarkedRevision(mark=Mark(word), revision=rest) if dash and word in set(Mark) else None


def refuse_marked(connection: Connection, revision: str) -> None:
    """Check that a store has no mark.

    :raises StoreMoved: if its history continues elsewhere
    :raises StoreUnfinished: if it is an incomplete copy
    """
    found = mark_of(revision)
    if found is None:
        return
    other = connection.execute(text("SELECT holder FROM kernel WHERE id = 1")).scalar_one()
    raise (StoreMoved if found.mark is Mark.MOVED else StoreUnfinished)(other)


def set_mark(connection: Connection, mark: Mark, *, other: str, epoch: int) -> None:
    """Mark a store that this process holds.

    :param other: the store that it is copied from, or was moved to
    :raises StaleEpoch: if another process holds it by now
    """
    _hold(connection, holder=other, epoch=epoch)
    connection.execute(
        text("UPDATE alembic_version SET version_num = :mark || version_num WHERE version_num NOT LIKE '%-%'"),
        {"mark": f"{mark.value}-"},
    )


def clear_mark(connection: Connection, *, epoch: int) -> None:
    """Remove the mark of a store, so that a kernel may use it.

    :raises StaleEpoch: if another process holds it by now
    """
    _hold(connection, holder="", epoch=epoch)
    _unmark(connection)


def reclaim(connection: Connection, *, now_us: int) -> None:
    """Take a moved history back, and pause it.

    Counters continue from the clock: the other store may have gone on meanwhile.
    """
    values = {"epoch": now_us // 1_000_000, "seq": now_us}
    connection.execute(
        text(
            "UPDATE kernel SET holder = '', epoch = CASE WHEN epoch < :epoch THEN :epoch ELSE epoch END,"
            " last_event_seq = CASE WHEN last_event_seq < :seq THEN :seq ELSE last_event_seq END WHERE id = 1"
        ),
        values,
    )
    _rename(connection)
    connection.execute(text("DELETE FROM pauses WHERE scope = 'all'"))
    connection.execute(
        text("INSERT INTO pauses (scope, name, \"by\", why, since_us) VALUES ('all', '', 'reclaim', :why, :now)"),
        {"why": _RECLAIMED, "now": now_us},
    )
    _unmark(connection)


def _rename(connection: Connection) -> None:
    """Give the history a new id, to tell it from its copy; an older schema gets its first id when it is migrated."""
    if inspect(connection).has_table("identity"):
        connection.execute(text("UPDATE identity SET store_id = :store_id"), {"store_id": uuid.uuid4().hex})


def _unmark(connection: Connection) -> None:
    (found,) = connection.execute(text("SELECT version_num FROM alembic_version")).one()
    marked = mark_of(found)
    if marked is not None:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": marked.revision})


def _hold(connection: Connection, *, holder: str, epoch: int) -> None:
    done = connection.execute(
        text("UPDATE kernel SET holder = :holder WHERE id = 1 AND epoch = :epoch"), {"holder": holder, "epoch": epoch}
    )
    if done.rowcount != 1:
        found = connection.execute(text("SELECT epoch FROM kernel WHERE id = 1")).scalar_one()
        raise StaleEpoch(own=epoch, found=found)
