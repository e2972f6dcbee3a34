"""Moving a history to another database: both stores are held, everything is copied, compared, and marked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, NullPool, inspect, make_url, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util.concurrency import greenlet_spawn

from nomaflow_kernel.store import schema
from nomaflow_kernel.store.errors import StoreError, StoreInUse, StoreLed
from nomaflow_kernel.store.failures import mapped_errors
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.lease_renewal import boot_seconds
from nomaflow_kernel.store.lease_row import LeasePolicy, LeaseWatch, refuse_while_held
from nomaflow_kernel.store.marks import Mark, clear_mark, mark_of, reclaim, set_mark
from nomaflow_kernel.store.migrate import lock_migrations, stored_revision
from nomaflow_kernel.store.migrations import REVISIONS
from nomaflow_kernel.store.opening import driver_url, open_store, sqlite_file
from nomaflow_kernel.store.sqlite_connections import reading_engine, writing_engine
from nomaflow_kernel.store.tables import HISTORY, TableDigest, copy_table, digest_table

__all__ = ["CopyRefused", "StorePlace", "Verified", "copy_store", "reclaim_store", "refuse_copy"]

T = TypeVar("T")

_LOCK_SECONDS = 5.0
_LEASE_SECONDS = 60.0
_CONNECT_SECONDS = 5.0


class CopyRefused(Exception):
    """Raised when a store is not copied or reclaimed; the store is unchanged, as is a target that was not empty.

    :param reason: stable, for programs
    :param fix: the way out
    """

    def __init__(self, message: str, *, reason: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A copy that was read back and is equal.

    :param tables: table name → its contents in both stores
    """

    tables: Mapping[str, TableDigest]
    epoch: int
    last_event_seq: int


class StorePlace:
    """The location of a store.

    :param url: with the path of a file absolute
    :raises UnsupportedStore: if it names no store that a kernel can use
    """

    def __init__(self, url: str) -> None:
        open_store(url)  # checks the URL
        self.url = url
        self.file = sqlite_file(url)
        self.shown = make_url(url).render_as_string(hide_password=True)

    @property
    def exists(self) -> bool:
        """False for a missing file; True for a database on a server: only the server knows."""
        return self.file is None or os.path.lexists(self.file)

    def same_as(self, other: StorePlace) -> bool:
        """Return whether two places are certainly the same."""
        if self.file is not None and other.file is not None:
            return os.path.realpath(self.file) == os.path.realpath(other.file)
        mine, theirs = make_url(self.url), make_url(other.url)
        return _where(mine) == _where(theirs)

    @asynccontextmanager
    async def connected(self, *, writing: bool = False) -> AsyncIterator[Connection]:
        """Connect; work on the connection must run within ``greenlet_spawn``."""
        if self.file is not None:
            engine = (
                writing_engine(self.file, lock_wait_seconds=_LOCK_SECONDS) if writing else reading_engine(self.file)
            )
            try:
                with engine.connect() as connection:
                    yield connection
            finally:
                engine.dispose()
            return
        settings = {"application_name": "nomaflow-copy"}
        connecting = {"timeout": _CONNECT_SECONDS, "server_settings": settings}
        server = create_async_engine(driver_url(self.url), poolclass=NullPool, connect_args=connecting)
        async with server.connect() as opened:
            assert opened.sync_connection is not None
            yield opened.sync_connection

    async def do(self, work: Callable[[Connection], T]) -> T:
        """Run an operation in a transaction of its own.

        :raises StoreError: if the database fails
        """

        def within(connection: Connection) -> T:
            with connection.begin():
                return work(connection)

        with mapped_errors():
            async with self.connected(writing=True) as connection:
                result: T = await greenlet_spawn(within, connection)
                return result


def _where(url: Any) -> tuple[object, ...]:
    host = url.host or url.query.get("host") or "localhost"
    return url.get_backend_name(), host, url.port or url.query.get("port"), url.database


async def refuse_copy(source: StorePlace, target: StorePlace) -> None:
    """Check that a copy may be made.

    :raises CopyRefused: if it may not be made
    :raises StoreError: if one of them cannot be reached
    """
    if source.same_as(target):
        raise CopyRefused(f"{source.shown!r} is both stores", reason="SAME_STORE", fix="name another one to copy to")
    revision = await _revision(source)
    if revision is None:
        raise CopyRefused(
            f"there is no history in {source.shown!r}",
            reason="NO_HISTORY",
            fix="name the store that the kernel was started with",
        )
    if mark_of(revision) is None and revision not in REVISIONS:
        raise CopyRefused(
            f"{source.shown!r} has schema revision {revision!r}, this version knows up to {REVISIONS[-1]!r}",
            reason="SCHEMA_TOO_NEW",
            fix="copy it with the version of nomaflow that wrote it",
        )
    there = await _tables(target)
    if there:
        raise CopyRefused(
            f"{target.shown!r} is not empty: it has {', '.join(there)}",
            reason="ALREADY_THERE",
            fix="name a new file or an empty database; what is there, be it a copy that broke off, is yours to remove",
        )


async def _revision(place: StorePlace) -> str | None:
    if not place.exists:
        return None
    return await place.do(stored_revision)


async def _tables(place: StorePlace) -> list[str]:
    if not place.exists:
        return []
    return sorted(await place.do(lambda connection: inspect(connection).get_table_names()))


async def copy_store(source: StorePlace, target: StorePlace, *, progress: Callable[[str, int], None]) -> Verified:
    """Copy everything, compare, and hand the history over; see the decision on moving a store.

    :param progress: called with a table's name and the number of rows that were copied or compared since the last call
    :raises CopyRefused: if the copy may not be made, or is not equal; the old store stays as it was
    :raises StoreError: if a store fails; the old one stays as it was
    """
    await refuse_copy(source, target)
    lost: list[StoreError] = []
    lease = LeasePolicy(ttl_seconds=_LEASE_SECONDS, on_lost=lost.append)
    async with AsyncExitStack() as held:
        epochs = []
        for place in (source, target):
            store = open_store(place.url, holder="store copy", lease=lease)
            with _free(place):
                epochs.append((await store.open()).epoch)
            held.push_async_callback(store.close)
        old, new = epochs
        await target.do(lambda connection: set_mark(connection, Mark.COPYING, other=source.shown, epoch=new))

        def between(name: str, rows: int) -> None:
            if lost:
                raise lost[0]
            progress(name, rows)

        with mapped_errors():
            verified = await _copy(source, target, between)
        # First block kernels on the old store, then allow them on the new one.
        await source.do(lambda connection: set_mark(connection, Mark.MOVED, other=target.shown, epoch=old))
        await target.do(lambda connection: clear_mark(connection, epoch=verified.epoch))
    return verified


@contextmanager
def _free(place: StorePlace) -> Iterator[None]:
    """Name the store in the error if a kernel holds it."""
    try:
        yield
    except (StoreInUse, StoreLed) as error:
        who = f"pid {error.pid or 'unknown'}" if isinstance(error, StoreInUse) else repr(error.holder)
        raise CopyRefused(
            f"a kernel, {who}, works on {place.shown!r}",
            reason="STORE_IN_USE",
            fix="stop it first; its hosts may go on",
        ) from None


async def _copy(source: StorePlace, target: StorePlace, between: Callable[[str, int], None]) -> Verified:
    async with source.connected() as reading, target.connected(writing=True) as writing:
        read = await greenlet_spawn(_copy_all, reading, writing, between)
        row = await greenlet_spawn(_copy_counters, reading, writing)
    async with target.connected() as reading:
        written = await greenlet_spawn(_digest_all, reading, between)
    for name, digest in read.items():
        if written[name] != digest:
            raise CopyRefused(
                f"{target.shown!r} has not kept {name} as it was given: "
                f"{digest.rows} rows were read, {written[name].rows} are there, or others than those",
                reason="COPY_DIFFERS",
                fix="the old store is as it was; look at the new one's disk, empty it, and copy again",
            )
    return Verified(tables=read, epoch=row[0], last_event_seq=row[1])


def _copy_all(source: Connection, target: Connection, between: Callable[[str, int], None]) -> dict[str, TableDigest]:
    return {
        table.name: copy_table(source, target, table, between=lambda rows, name=table.name: between(name, rows))  # type: ignore[misc]  # the default binds the loop's value
        for table in HISTORY
    }


def _digest_all(connection: Connection, between: Callable[[str, int], None]) -> dict[str, TableDigest]:
    return {
        table.name: digest_table(connection, table, between=lambda rows, name=table.name: between(name, rows))  # type: ignore[misc]  # the default binds the loop's value
        for table in HISTORY
    }


def _copy_counters(source: Connection, target: Connection) -> tuple[int, int]:
    """Copy epoch, event number and store id, so that they continue: hosts and watchers rely on them."""
    columns, own = schema.kernel.c, schema.identity.c
    with source.begin():
        row = source.execute(select(columns.epoch, columns.last_event_seq, columns.commits)).one()
        identity = source.execute(select(own.store_id, own.pruned_through_seq)).one()
    with target.begin():
        target.execute(update(schema.identity).values(identity._asdict()))
        target.execute(
            text("UPDATE kernel SET epoch = :epoch, last_event_seq = :last_event_seq, commits = :commits WHERE id = 1"),
            dict(row._mapping),  # noqa: SLF001  # SQLAlchemy's public name for a row as a mapping
        )
    return row.epoch, row.last_event_seq


async def reclaim_store(place: StorePlace, *, now_us: int) -> str:
    """Take a moved history back, pause it, and return the store that it had been moved to.

    :raises CopyRefused: if it was not moved, or a process holds it
    :raises StoreError: if the store fails
    """
    marked = mark_of(await _revision(place) or "")
    if marked is None or marked.mark is not Mark.MOVED:
        raise CopyRefused(
            f"{place.shown!r} was not moved, so there is nothing to take back",
            reason="NOT_MOVED",
            fix="name the store that was copied from",
        )

    def take_back(connection: Connection) -> str:
        if connection.dialect.name != "sqlite":
            lock_migrations(connection)
            refuse_while_held(connection, LeaseWatch(boot_seconds), lock=True)
        moved_to = str(connection.execute(text("SELECT holder FROM kernel WHERE id = 1")).scalar_one())
        reclaim(connection, now_us=now_us)
        return moved_to

    with _free(place), ExitStack() as held:
        if place.file is not None:
            lock = FileLock(place.file)
            lock.acquire()
            held.callback(lock.release)
        return await place.do(take_back)
