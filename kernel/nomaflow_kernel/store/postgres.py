"""The store on PostgreSQL: one connection writes, a pool reads, another keeps the lease of the kernel that leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg
from msgspec.structs import replace
from sqlalchemy import Connection, NullPool, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from nomaflow_api.boot_clock import boot_seconds
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.store.driver_errors import mapped_errors
from nomaflow_kernel.store.errors import StaleEpoch, StoreError, StoreLed, UnsupportedStore
from nomaflow_kernel.store.holders import own_process
from nomaflow_kernel.store.lease_renewal import LeaseKeeper
from nomaflow_kernel.store.lease_row import (
    LeasePolicy,
    LeaseWatch,
    end_frozen_writers,
    refuse_while_held,
    take_lease,
)
from nomaflow_kernel.store.migrate import lock_migrations, migrate, take_over, usable
from nomaflow_kernel.store.writer import Writer, give, in_transaction

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_READERS = 4
_WRITER = "nomaflow-writer"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_PROBE_SECONDS = 5
_DEAD_SECONDS = 15
_READER_SETTINGS = {
    "application_name": "nomaflow-reader",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "20000",
    "statement_timeout": "30000",
    # Each read walks an index from one end and ends soon, which the planner cannot know: it may prefer to read and sort
    # everything, and to compile that first.
    "enable_seqscan": "off",
    "enable_incremental_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",  # a plan for any value expects each to be as frequent as the others
}
_WRITER_PLANS = {
    # Each write finds its rows by their key, so one plan serves all values, and is not to walk a table that was small
    # when it was made. To plan a commit of one run takes longer than to execute it.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}


class PostgresDatabase:
    """A PostgreSQL database that kernels may share: the one that holds the lease leads, the epoch fences the others.

    :param url: in SQLAlchemy's form, ``postgresql+asyncpg://…``
    :param holder: name of this kernel
    :param lock_wait_seconds: time to wait for another process's lock
    :param lease: leadership settings
    """

    def __init__(self, *, url: str, holder: str, lock_wait_seconds: float, lease: LeasePolicy) -> None:
        # A leader frozen within a transaction holds the row that its successor needs: the database ends that
        # transaction before the lease is over, and the successor ends one that the database takes for active.
        self._patience_seconds = lease.ttl_seconds * 2 / 3
        self._settings = {
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",  # whoever has waited for a lock sees what it protected
            "lock_timeout": _milliseconds(lock_wait_seconds),
            **_WRITER_PLANS,
            "statement_timeout": "0",  # or a large commit, or a migration, would fail again and again
            "idle_in_transaction_session_timeout": _milliseconds(self._patience_seconds),
        }
        self.reading = _Readers(url)
        self.writer = Writer(PostgresLink(url, {"application_name": _WRITER, **self._settings}))
        # A standby kernel must notice a dead connection: a check without an answer times out.
        keeping = {"application_name": "nomaflow-lease", **self._settings}
        self._keeping = PostgresLink(url, keeping, command_timeout=_ANSWER_SECONDS)
        self._keeper = LeaseKeeper(link=self._keeping, policy=replace(lease, on_lost=self._lost))
        self._holder, self._process = holder, own_process()
        self._lease = lease
        self._watch = LeaseWatch(boot_seconds, own=(self._holder, self._process))
        self._stood_by = False

    async def claim(self) -> StoreInfo:
        """Take the lease, and take the store over from any older kernel.

        :raises StoreLed: if another kernel leads; nothing was written
        """
        if self._stood_by:
            await self._keeping.run(in_transaction(lambda connection: refuse_while_held(connection, self._watch)))
        asked_at = boot_seconds()
        try:
            taken = await self.writer.start(self._take)
        except StoreLed:
            self._stood_by = True
            raise
        self._keeper.start(term=taken.epoch, asked_at=asked_at)
        return taken

    def _take(self, connection: Connection) -> StoreInfo:
        _refuse_server(connection, self._settings)
        lock_migrations(connection)
        if usable(connection) is not None:
            refuse_while_held(connection, self._watch)  # before a revision locks what the leader needs
        migrate(connection)
        end_frozen_writers(connection, name=_WRITER, seconds=self._patience_seconds)
        before, own = refuse_while_held(connection, self._watch, lock=True), self._lease.authority()
        if before and own and before != own:
            _LOG.warning(
                "the kernel that led before had another authority, %s; hosts and clients that have joined it do not "
                "trust this one, %s: stop this kernel, copy that one's .nomaflow/pki here and start again, or let them "
                "join again", before, own,
            )  # fmt: skip
        taken = take_over(connection, holder=self._holder)
        take_lease(connection, self._lease, holder=self._holder, process=self._process, term=taken.epoch)
        return taken

    async def release(self) -> None:
        """Give the lease back."""
        await self._keeper.stop()

    def _lost(self, error: StoreError) -> None:
        """Let nobody wait for a database that may never answer: a kernel without the lead has nothing to do here."""
        self.writer.give_up(error)
        self.reading.give_up(error)
        self._lease.on_lost(error)


class PostgresLink:
    """One connection to a PostgreSQL, replaced when anything failed on it.

    :param settings: of the session
    :param command_timeout: seconds after which a statement without an answer fails; None for no limit
    """

    def __init__(self, url: str, settings: Mapping[str, str], *, command_timeout: float | None = None) -> None:
        self._engine = _engine(url, settings, poolclass=NullPool, command_timeout=command_timeout)
        self._connection: AsyncConnection | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run work; see ``Link``."""
        # Work has the connection for itself: that of a cancelled one may still wait for its answer.
        connection, self._connection = self._connection, None
        try:
            with mapped_errors():
                if connection is None or connection.invalidated:
                    await _dropped(connection)
                    connection = None
                    connection = await self._engine.connect()
                done = await connection.run_sync(work)
        except (StaleEpoch, StoreLed):
            self._connection = connection
            raise
        except BaseException:
            await _dropped(connection)
            raise
        self._connection = connection
        return done

    async def close(self) -> None:
        """Close the connection, without waiting for a server that hangs. Work that was cancelled closes its own."""
        connection, self._connection = self._connection, None
        await _dropped(connection)
        await self._engine.dispose()


class _Readers:
    """A pool of connections that only read, one short transaction each."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(
            url,
            _READER_SETTINGS,
            pool_size=_READERS,
            max_overflow=0,
            isolation_level="REPEATABLE READ",
        )
        self._connections: WeakSet[Any] = WeakSet()
        self._under_way: set[asyncio.Future[Any]] = set()
        self._refusal: StoreError | None = None
        event.listen(self._engine.sync_engine, "connect", self._note)

    def _note(self, connection: Any, _record: object) -> None:
        self._connections.add(connection.driver_connection)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run work; see ``Link``."""
        if self._refusal is not None:
            raise self._refusal
        reading = asyncio.create_task(self._read(work), name="nomaflow-store-read")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        reading.add_done_callback(partial(_hand_over, answer))
        self._under_way.add(answer)
        try:
            return await answer
        finally:
            self._under_way.discard(answer)
            reading.cancel()  # nobody waits for it now; it closes its connection

    async def _read(self, work: Callable[[Connection], T]) -> T:
        with mapped_errors():
            try:
                return await self._read_once(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # It was ended, perhaps long ago. The pool has given up all that are as old, so this is a new one.
                return await self._read_once(work)

    async def _read_once(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    def give_up(self, error: StoreError) -> None:
        """Fail all reads, those under way and those to come, without waiting for the server."""
        self._refusal = error
        for answer in self._under_way:
            if not answer.done():
                answer.set_exception(error)
        for connection in self._connections:
            connection.terminate()

    async def close(self) -> None:
        """Close the connections that are idle; those at work follow."""
        await self._engine.dispose()


def _refuse_server(connection: Connection, settings: Mapping[str, str]) -> None:
    """Check that the database can hold every text, and that its session has the settings that were given.

    :raises UnsupportedStore: if not
    """
    found = dict(map(tuple, connection.exec_driver_sql("SELECT name, setting FROM pg_settings")))
    shown = connection.engine.url.render_as_string(hide_password=True)
    if found["server_encoding"] != "UTF8":
        raise UnsupportedStore(
            shown,
            f"the encoding of the database is {found['server_encoding']}, in which not every text can be stored",
            expected="a database that was made with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )
    for name, value in settings.items():
        if found[name] != value:
            raise UnsupportedStore(
                shown,
                f"its sessions have {name} = {found[name]}, not {value}: a pooler such as PgBouncer keeps it back",
                expected="the address of the server itself",
            )


def _hand_over(answer: asyncio.Future[T], reading: asyncio.Future[T]) -> None:
    """Give the outcome of a read to its caller, unless nobody waits for it."""
    if reading.cancelled():
        answer.cancel()
    else:
        error = reading.exception()
        give(answer, None if error else reading.result(), error)


async def _dropped(connection: AsyncConnection | None) -> None:
    """Close a connection, if there is one. If the caller is cancelled here, closing continues."""
    if connection is not None:
        await asyncio.shield(asyncio.create_task(_give_up(connection), name="nomaflow-store-close"))


async def _give_up(connection: AsyncConnection) -> None:
    with contextlib.suppress(DBAPIError, OSError):  # it is given up, whatever the server answers
        await connection.invalidate()
        await connection.close()


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that notices within seconds that nobody is there any longer, and is not forgotten by a firewall.

    By itself TCP tries for a quarter of an hour, and a connection that is idle says nothing at all.
    """

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any, **kwargs: Any) -> None:
        super().__init__(protocol, transport, *args, **kwargs)
        link = transport.get_extra_info("socket")
        if link.family != socket.AF_UNIX:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_SECONDS)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_SECONDS)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_SECONDS * 1000)


def _engine(
    url: str, settings: Mapping[str, str], *, command_timeout: float | None = None, **options: Any
) -> AsyncEngine:
    connecting = {
        "timeout": _CONNECT_SECONDS,
        "command_timeout": command_timeout,
        "server_settings": dict(settings),
        "connection_class": _Connection,
    }
    return create_async_engine(url, connect_args=connecting, **options)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
