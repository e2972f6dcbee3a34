"""Marks on a store that no kernel may use: an incomplete copy, or a history that was moved elsewhere."""

from __future__ import annotations

import uuid
from enum import StrEnum

from sqlalchemy import Connection, case, select, update

from nomaflow_kernel.store.errors import StaleEpoch, StoreMoved, StoreUnfinished
from nomaflow_kernel.store.schema import kernel, pauses

_RECLAIMED = "the history was moved and has been taken back; look at what is QUEUED, then: nomaflow resume"


class Mark(StrEnum):
    """The kind of a mark."""

    NONE = ""
    COPYING = "copying"
    """The store is being filled, or was until the copy was killed."""
    MOVED = "moved"
    """The store's history continues in another store."""


def refuse_marked(connection: Connection) -> None:
    """Check that a store has no mark.

    :raises StoreMoved: if its history continues elsewhere
    :raises StoreUnfinished: if it is an incomplete copy
    """
    mark, other = connection.execute(select(kernel.c.mark, kernel.c.other_store)).one()
    if mark:
        raise (StoreMoved if mark == Mark.MOVED else StoreUnfinished)(other)


def set_mark(connection: Connection, mark: Mark, *, other: str = "", epoch: int) -> None:
    """Mark a store that this process holds, or remove its mark.

    :param other: the store that it is copied from, or was moved to
    :raises StaleEpoch: if another process holds it by now
    """
    marked = update(kernel).where(kernel.c.epoch == epoch).values(mark=mark.value, other_store=other)
    if connection.execute(marked).rowcount != 1:
        raise StaleEpoch(own=epoch, found=connection.execute(select(kernel.c.epoch)).scalar_one())


def reclaim(connection: Connection, *, now_us: int) -> None:
    """Take a moved history back, and pause it.

    It gets a new id, and its counters continue from the clock: the other store may have gone on meanwhile.
    """
    least = {"epoch": now_us // 1_000_000, "last_event_seq": now_us}
    raised = {name: case((kernel.c[name] < value, value), else_=kernel.c[name]) for name, value in least.items()}
    connection.execute(update(kernel).values(mark="", other_store="", store_id=uuid.uuid4().hex, **raised))
    connection.execute(pauses.delete().where(pauses.c.scope == "all"))
    connection.execute(pauses.insert().values(scope="all", name="", by="reclaim", why=_RECLAIMED, since_us=now_us))
