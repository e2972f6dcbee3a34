"""Moving a history to another database: both stores are held, everything is copied, compared, and marked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Table, func, inspect, make_url, select, tuple_, update
from sqlalchemy.util import await_only

from nomaflow_api.boot_clock import boot_seconds
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.driver import sqlite_driver
from nomaflow_kernel.store.errors import (
    MaintenanceRefused,
    StoreError,
    StoreInUse,
    StoreLed,
    StoreMoved,
    StoreUnfinished,
)
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.lease_row import LeasePolicy, LeaseWatch, refuse_while_held
from nomaflow_kernel.store.migrate import lock_migrations, stored_revision
from nomaflow_kernel.store.migrations import REVISIONS
from nomaflow_kernel.store.moved_marks import Mark, reclaim, refuse_marked, set_mark
from nomaflow_kernel.store.sql_store import open_store
from nomaflow_kernel.store.sqlite import SqliteLink, reading_engine, writing_engine
from nomaflow_kernel.store.urls import driver_url, parsed_url, sqlite_file
from nomaflow_kernel.store.writer import LOCK_WAIT_SECONDS, Link, in_transaction

T = TypeVar("T")
Row = tuple[Any, ...]


class Run(Protocol):
    """A function that runs work on a connection."""

    async def __call__(self, work: Callable[[Connection], T]) -> T:
        """Return what the work returns."""


_HISTORY = [table for table in schema.metadata.sorted_tables if table not in (schema.kernel, schema.leadership)]
"""All tables but the rows about who is using this very database."""

_OF_THE_PLACE = frozenset({"id", "holder", "mark", "other_store"})
"""Columns of the kernel's row that are about the database and not about the history."""

_LEASE_SECONDS = 60.0
_FETCHED = 100
_PAGE_ROWS = 5_000
_PAGE_BYTES = 4 << 20


class StorePlace:
    """The location of a store.

    :param url: with the path of a file absolute
    :raises UnsupportedStore: if it names no store that a kernel can use
    """

    def __init__(self, url: str) -> None:
        open_store(url)  # checks the URL
        self.url = url
        self.file = sqlite_file(url)
        self.shown = parsed_url(url).render_as_string(hide_password=True)

    @property
    def exists(self) -> bool:
        """False for a missing file; True for a database on a server: only the server knows."""
        return self.file is None or os.path.lexists(self.file)

    def same_as(self, other: StorePlace) -> bool:
        """Return whether two places are certainly the same."""
        if self.file is not None and other.file is not None:
            return os.path.realpath(self.file) == os.path.realpath(other.file)
        return _where(self.url) == _where(other.url)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name this store in the error of whatever fails on it."""
        try:
            yield
        except (StoreInUse, StoreLed) as error:
            who = f"pid {error.pid or 'unknown'}" if isinstance(error, StoreInUse) else repr(error.holder)
            raise MaintenanceRefused(
                f"a kernel, {who}, works on {self.shown!r}",
                reason="STORE_IN_USE",
                fix="stop it first; its hosts may keep running",
            ) from None
        except (StoreMoved, StoreUnfinished):
            raise
        except StoreError as error:
            raise StoreError(f"{self.shown!r}: {error.message}") from error

    @asynccontextmanager
    async def connected(self, *, writing: bool = True) -> AsyncIterator[Run]:
        """Connect, and yield the function that runs work there.

        :param writing: False leaves a file as it is, whosever it may be
        :raises StoreError: from that function, if the database fails
        """
        link: Link
        if self.file is not None and writing:
            link = SqliteLink(partial(writing_engine, self.file, lock_wait_seconds=LOCK_WAIT_SECONDS))
        elif self.file is not None:
            link = SqliteLink(partial(reading_engine, self.file))
        else:
            from nomaflow_kernel.store.postgres import PostgresLink

            link = PostgresLink(driver_url(self.url), {"application_name": "nomaflow-copy"})

        async def run(work: Callable[[Connection], T]) -> T:
            with self.named():
                return await link.run(work)

        try:
            yield run
        finally:
            await link.close()

    async def do(self, work: Callable[[Connection], T], *, writing: bool = True) -> T:
        """Run an operation in a transaction of its own; see :meth:`connected`."""
        async with self.connected(writing=writing) as run:
            return await run(in_transaction(work))


def _where(url: str) -> tuple[object, ...]:
    parts = make_url(url)
    host = parts.host or parts.query.get("host") or "localhost"
    return parts.get_backend_name(), host, parts.port or parts.query.get("port"), parts.database


async def _refuse_copy(source: StorePlace, target: StorePlace) -> None:
    """Check that a copy may be made; see :func:`copy_store`."""
    if source.same_as(target):
        raise MaintenanceRefused(
            f"both stores are {source.shown!r}", reason="SAME_STORE", fix="name another one to copy to"
        )
    revision = await _look(source, stored_revision)
    if revision is None:
        raise MaintenanceRefused(
            f"there is no history in {source.shown!r}",
            reason="NO_HISTORY",
            fix="name the store that the kernel was started with",
        )
    if revision not in REVISIONS:
        raise MaintenanceRefused(
            f"{source.shown!r} has schema revision {revision!r}, this version knows {REVISIONS[-1]!r}",
            reason="SCHEMA_TOO_NEW" if revision > REVISIONS[-1] else "SCHEMA_TOO_OLD",
            fix="copy it with the version of nomaflow that wrote it",
        )
    await _look(source, refuse_marked)
    there = await _look(target, lambda connection: inspect(connection).get_table_names())
    if there:
        raise MaintenanceRefused(
            f"{target.shown!r} is not empty: it has {', '.join(sorted(there))}",
            reason="ALREADY_THERE",
            fix="name a new file or an empty database; remove what is there yourself, even an interrupted copy",
        )


async def _look(place: StorePlace, work: Callable[[Connection], T]) -> T | None:
    """Run a query; return None for a missing file, which is not created."""
    return await place.do(work, writing=False) if place.exists else None


async def copy_store(
    source: StorePlace, target: StorePlace, *, progress: Callable[[str, int], None]
) -> tuple[dict[str, int], int]:
    """Copy everything, compare, and hand the history over; finish a copy of which only that is left.

    See the decision on moving a store.

    :param progress: called with a table's name and the number of rows that were copied or compared since the last call
    :return: the number of rows of each table, and the newest event
    :raises MaintenanceRefused: if the copy may not be made, or differs from the original; the old store stays as it was
    :raises StoreError: if a store fails; the old one stays as it was, or the same copy again finishes the move
    """
    try:
        await _refuse_copy(source, target)
    except StoreMoved as moved:
        done = await _finish(source, target) if moved.other == target.shown else None
        if done is None:
            raise
        return done
    lost: list[tuple[StorePlace, StoreError]] = []
    async with AsyncExitStack() as held:
        epochs = []
        for place in (source, target):

            def note(error: StoreError, place: StorePlace = place) -> None:
                lost.append((place, error))

            lease = LeasePolicy(ttl_seconds=_LEASE_SECONDS, on_lost=note)
            store = open_store(place.url, holder="store copy", lease=lease)
            with place.named():
                epochs.append((await store.open()).epoch)
            held.push_async_callback(store.close)
        old, new = epochs
        await target.do(partial(set_mark, mark=Mark.COPYING, other=source.shown, epoch=new))

        def between(name: str, rows: int) -> None:
            for place, error in lost:
                with place.named():
                    raise error
            progress(name, rows)

        async with source.connected() as reading, target.connected() as writing:
            rows = {table.name: await _copy_table(reading, writing, table, target, between) for table in _HISTORY}
            epoch, newest = await _copy_counters(reading, writing)
        # First block kernels on the old store, then allow them on the new one; `_finish` does what is left of it.
        await source.do(partial(set_mark, mark=Mark.MOVED, other=target.shown, epoch=old))
        await target.do(partial(set_mark, mark=Mark.NONE, epoch=epoch))
    return rows, newest


async def _finish(source: StorePlace, target: StorePlace) -> tuple[dict[str, int], int] | None:
    """Let kernels use the new store if a copy to it ended after it was whole and before they might.

    :return: what :func:`copy_store` returns; None if there is no such copy
    """
    kernel = schema.kernel.c
    if await _look(target, stored_revision) not in REVISIONS:
        return None
    facts = select(kernel.mark, kernel.other_store, kernel.store_id, kernel.epoch, kernel.last_event_seq)
    old, new = [await place.do(lambda c: c.execute(facts).one(), writing=False) for place in (source, target)]
    # The id is copied last: an earlier copy, brought back, has another.
    if (new.mark, new.other_store, new.store_id) != (Mark.COPYING, source.shown, old.store_id):
        return None

    def count(connection: Connection) -> dict[str, int]:
        return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in _HISTORY}

    rows = await target.do(count)
    await target.do(partial(set_mark, mark=Mark.NONE, epoch=new.epoch))
    return rows, new.last_event_seq


async def _copy_table(
    source: Run, target: Run, table: Table, place: StorePlace, between: Callable[[str, int], None]
) -> int:
    """Copy a table page by page, read it back, and return its number of rows."""
    digests = []
    for run in (source, target):
        digest, count = hashlib.sha256(), 0
        async for page in _pages(run, table):
            for row in page:  # a row's values in Python are the same in every database
                digest.update(repr(row).encode("utf-8"))
            count += len(page)
            if run is source:
                await target(in_transaction(partial(_append, table=table, page=page)))
            between(table.name, len(page))
        digests.append((count, digest.digest()))
    if digests[0] != digests[1]:
        raise MaintenanceRefused(
            f"{place.shown!r} has not kept {table.name} as it was given: "
            f"{digests[0][0]} rows were read, {digests[1][0]} are there, or their contents differ",
            reason="COPY_DIFFERS",
            fix="the old store is as it was; look at the new one's disk, empty it, and copy again",
        )
    return digests[0][0]


async def _pages(run: Run, table: Table) -> AsyncIterator[list[Row]]:
    """Yield the rows in key order, in pages, so that neither many nor large rows fill the memory."""
    key = list(table.primary_key.columns)
    query = select(table).order_by(*key).execution_options(stream_results=True)
    page = await run(partial(_read_page, query=query))
    while page:
        yield page
        last = [page[-1][table.columns.keys().index(column.name)] for column in key]
        page = await run(partial(_read_page, query=query.where(tuple_(*key) > tuple_(*last))))


def _read_page(connection: Connection, *, query: Any) -> list[Row]:
    page: list[Row] = []
    size = 0
    with connection.begin(), connection.execute(query) as result:
        for fetched in result.partitions(_FETCHED):
            page += map(tuple, fetched)
            size += sum(len(value) for row in fetched for value in row if isinstance(value, (str, bytes)))
            if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
                break
    return page


def _append(connection: Connection, *, table: Table, page: list[Row]) -> None:
    if connection.dialect.name == "sqlite":
        sqlite_driver(connection).executemany(str(table.insert().compile(dialect=connection.dialect)), page)
        return
    connection.exec_driver_sql("SELECT 1")  # begins the transaction; the driver's own COPY would not
    driver: Any = connection.connection.driver_connection
    await_only(driver.copy_records_to_table(table.name, records=page, columns=table.columns.keys()))


async def _copy_counters(source: Run, target: Run) -> tuple[int, int]:
    """Copy epoch, event number, store id and the ends of the audit, so that they continue: others rely on them."""
    kept = select(*(column for column in schema.kernel.columns if column.name not in _OF_THE_PLACE))
    row = await source(in_transaction(lambda connection: connection.execute(kept).one()))
    await target(in_transaction(lambda connection: connection.execute(update(schema.kernel), row._asdict())))
    return row.epoch, row.last_event_seq


async def reclaim_store(place: StorePlace, *, now_us: int) -> str:
    """Take a moved history back, pause it, and return the store that it had been moved to.

    :raises MaintenanceRefused: if it was not moved, or a process holds it
    :raises StoreError: if the store fails
    """
    kernel = schema.kernel.c

    def take_back(connection: Connection) -> str | None:
        if connection.dialect.name != "sqlite":
            lock_migrations(connection)
            refuse_while_held(connection, LeaseWatch(boot_seconds), lock=True)
        marked = select(kernel.other_store).where(kernel.mark == Mark.MOVED.value)
        moved_to = connection.execute(marked).scalar_one_or_none()
        if moved_to is not None:
            reclaim(connection, now_us=now_us)
        return moved_to

    with place.named(), ExitStack() as held:
        if place.file is not None and place.exists:
            lock = FileLock(place.file)
            lock.acquire()
            held.callback(lock.release)
        moved_to = await place.do(take_back) if await _look(place, stored_revision) in REVISIONS else None
    if moved_to is None:
        raise MaintenanceRefused(
            f"{place.shown!r} was not moved, so there is nothing to take back",
            reason="NOT_MOVED",
            fix="name the store that was copied from",
        )
    return moved_to
