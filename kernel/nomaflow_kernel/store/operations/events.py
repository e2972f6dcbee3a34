"""Reading events."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select

from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.store.rows import EVENTS
from nomaflow_kernel.store.schema import events

__all__ = ["events_after"]


def events_after(
    connection: Connection, seq: int, *, limit: int, run_id: str = "", kinds: Sequence[str] = ()
) -> list[EventRecord]:
    """Return events with a greater sequence, in order; a kind also matches those that extend it after a dot."""
    query = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
    if run_id:
        query = query.where(events.c.run_id == run_id)
    if kinds:
        wanted = [kind.rstrip(".") for kind in kinds]
        query = query.where(
            or_(
                events.c.kind.in_(wanted),
                *(events.c.kind.startswith(kind + ".", autoescape=True) for kind in wanted),
            )
        )
    return [EVENTS.record(row) for row in connection.execute(query)]
