"""Reading events: after a sequence in order, or before one, newest first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextClause, literal, or_, select, text

from nomaflow_api.bounds import PAGE_BYTES
from nomaflow_kernel.history.lookups import ALL_EVENTS, EventFilter, EventPage
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.store.operations.conditions import begins_with, equal, is_by, within
from nomaflow_kernel.store.rows import EVENTS
from nomaflow_kernel.store.schema import events

_LOOKED_AT = 20_000
"""The most events that one page looks at, unless fewer are asked for."""
_SLACK_US = 60_000_000
"""Time by which the clock may have gone back between two events."""
_IS_ACT = text("events.\"by\" <> ''")
"""Literal, as in the partial index: SQLite uses it only for exactly the same condition."""
_LONG = {"reason_message": literal("").label("reason_message"), "data": literal("{}").label("data")}
_HEADS = [_LONG.get(column.name, column) for column in events.c]


def events_after(connection: Connection, seq: int, *, limit: int, filter: EventFilter = ALL_EVENTS) -> EventPage:
    """Return events with a greater sequence, in order; only kinds, run, job and host of the filter count.

    A kind also matches those that extend it after a dot.
    """
    kept = [events.c.seq > seq, *equal((events.c.run_id, filter.run_id)), *_shared(filter)]
    return _page(connection, select(events).where(*kept).order_by(events.c.seq), limit=limit)


def events_of(connection: Connection, seqs: Collection[int], *, limit: int) -> EventPage:
    """Return events by their numbers, newest first."""
    query = select(events).where(events.c.seq.in_(seqs)).order_by(events.c.seq.desc())
    return _page(connection, query, limit=limit)


def events_before(
    connection: Connection, seq: int, *, filter: EventFilter, limit: int, looks_at: int = 0, heads: bool = False
) -> EventPage:
    """Return events with a lower sequence (0: from the newest), newest first.

    A filter without an index looks at a bounded number of events: the page may be short and not be the last one.

    :param looks_at: that number; 0 for the usual one
    :param heads: whether to leave the reasons' texts and the data unread: they may be large
    """
    walk: list[ColumnElement[bool] | TextClause] = [*equal((events.c.run_id, filter.run_id))]
    if seq:
        walk.append(events.c.seq < seq)
    if filter.until_us is not None:
        walk.append(events.c.seq < _first_seq_at(connection, filter.until_us + _SLACK_US))
    if filter.since_us is not None:
        walk.append(events.c.seq >= _first_seq_at(connection, filter.since_us - _SLACK_US))
    newest_first = [events.c.seq.desc()]
    if filter.acts or filter.by:
        walk.append(_IS_ACT)
        newest_first.append(events.c.by.desc())  # the order of the index of acts, which no other index has
    checked, floor = [*_shared(filter), *([is_by(events.c.by, filter.by)] if filter.by else ())], None
    if checked:
        end = select(events.c.seq).where(*walk).order_by(*newest_first).limit(1).offset((looks_at or _LOOKED_AT) - 1)
        floor = connection.execute(end).scalar_one_or_none()
    if floor is not None:
        walk.append(events.c.seq >= floor)
    happened = within(events.c.at_us, filter.since_us, filter.until_us)  # which their numbers nearly determine
    query = select(*_HEADS if heads else events.c).where(*walk, *checked, *happened).order_by(*newest_first)
    return _page(connection, query, limit=limit, rest=floor or 0)


def _page(connection: Connection, query: Select[Any], *, limit: int, rest: int = 0) -> EventPage:
    """Return the first events of a query, up to the one that fills a page. An event may have 4 MiB.

    :param rest: where the page after this one begins if all are in it
    """
    found: list[EventRecord] = []
    size = 0
    # The driver of PostgreSQL fetches 50 rows at once, that of SQLite one.
    with connection.execute(query.limit(limit + 1), execution_options={"stream_results": True}) as rows:
        for row in rows:
            if len(found) == limit or size >= PAGE_BYTES:
                return EventPage(events=found, next_seq=found[-1].seq)
            found.append(EVENTS.record(row))
            size += len(row.data)
    return EventPage(events=found, next_seq=rest)


def _shared(filter: EventFilter) -> list[ColumnElement[bool]]:
    kept = equal((events.c.job_id, filter.job_id), (events.c.host, filter.host))
    if filter.kinds:
        below = [begins_with(events.c.kind, kind + ".") for kind in filter.kinds]
        kept.append(or_(events.c.kind.in_(filter.kinds), *below))
    return kept


def _first_seq_at(connection: Connection, at_us: int) -> int:
    """Return the first event at or after an instant, by bisection: times rise with the numbers, but for slack."""
    newest = connection.execute(select(events.c.seq).order_by(events.c.seq.desc()).limit(1)).scalar_one_or_none() or 0
    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        query = select(events.c.seq, events.c.at_us).where(events.c.seq >= middle).order_by(events.c.seq).limit(1)
        row = connection.execute(query).one_or_none()
        if row is None or row.at_us >= at_us:
            high = middle
        else:
            low = row.seq + 1
    return low
