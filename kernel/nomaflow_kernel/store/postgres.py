"""The store on PostgreSQL: one connection writes, a pool reads, another keeps the lease of the kernel that leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from nomaflow_kernel.history.port import StoreInfo
from nomaflow_kernel.store.errors import StoreLed
from nomaflow_kernel.store.holders import own_process
from nomaflow_kernel.store.lease_renewal import LeaseKeeper, boot_seconds
from nomaflow_kernel.store.lease_row import LeasePolicy, LeaseWatch, Tenure, refuse_while_held, take_lease
from nomaflow_kernel.store.migrate import Taken, lock_schema, migrate, take_over
from nomaflow_kernel.store.postgres_reader import Readers
from nomaflow_kernel.store.postgres_writer import PostgresWriter
from nomaflow_kernel.store.session import WriteSession

__all__ = ["PostgresDatabase"]

T = TypeVar("T")

_READERS = 4
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_WRITER_SETTINGS = {"application_name": "nomaflow-writer", "synchronous_commit": "on"}
_LEASE_SETTINGS = {"application_name": "nomaflow-lease", "synchronous_commit": "on"}
_READER_SETTINGS = {
    "application_name": "nomaflow-reader",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "20000",
    "statement_timeout": "30000",
}


class PostgresDatabase:
    """A PostgreSQL database that kernels may share: the one that holds the lease leads, the epoch fences the others.

    :param url: of SQLAlchemy, ``postgresql+asyncpg://…``
    :param holder: name of this kernel
    :param lock_wait_seconds: time to wait for another process's lock
    :param lease: leadership settings
    """

    kind = "postgresql"

    def __init__(self, *, url: str, holder: str, lock_wait_seconds: float, lease: LeasePolicy) -> None:
        self._url = url
        self._lease = lease
        self._tenure = Tenure(holder=holder, process=own_process())
        locks = {"lock_timeout": _milliseconds(lock_wait_seconds)}
        # A leader frozen within a transaction holds the row that its successor needs: the database ends that
        # transaction before the lease is over.
        idle = {"idle_in_transaction_session_timeout": _milliseconds(lease.ttl_seconds * 2 / 3)}
        self._writer = PostgresWriter(engine=_engine(url, {**_WRITER_SETTINGS, **locks, **idle}), take=self._take)
        # A standby kernel must notice a dead connection: a check without an answer times out.
        keeping = _engine(url, {**_LEASE_SETTINGS, **locks, **idle}, command_timeout=_ANSWER_SECONDS)
        self._keeper = LeaseKeeper(engine=keeping, policy=lease)
        self._watch = LeaseWatch(boot_seconds)
        self._readers = Readers()
        self._stood_by = False

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""
        return self._writer.waiting

    async def open(self) -> StoreInfo:
        """Migrate, take the lease, and take the store over from any older kernel. May be tried again after StoreLed.

        :raises StoreLed: if another kernel leads; nothing was written
        """
        if self._stood_by:
            await self._keeper.look(self._watch)
        asked_at = boot_seconds()
        try:
            taken = await self._writer.start()
        except StoreLed:
            self._stood_by = True
            raise
        self._keeper.start(term=taken.epoch, asked_at=asked_at)
        self._readers.open(
            create_async_engine(
                self._url,
                pool_size=_READERS,
                max_overflow=0,
                pool_pre_ping=True,
                isolation_level="REPEATABLE READ",
                connect_args={"timeout": _CONNECT_SECONDS, "server_settings": _READER_SETTINGS},
            )
        )
        return StoreInfo(kind=self.kind, **taken._asdict())

    def _take(self, connection: Connection) -> Taken:
        if lock_schema(connection):
            refuse_while_held(connection, self._watch, lock=True)
        migrate(connection)
        taken = take_over(connection, holder=self._tenure.holder)
        take_lease(
            connection,
            self._tenure,
            term=taken.epoch,
            addresses=self._lease.addresses(),
            ttl_seconds=self._lease.ttl_seconds,
        )
        return taken

    async def close(self) -> None:
        """Finish waiting operations, give the lease back and close every connection."""
        await self._writer.stop()
        await self._keeper.stop()
        await self._readers.close()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own."""
        return await self._readers.read(query)

    def write(self, operation: Callable[[WriteSession], T]) -> Awaitable[T]:
        """Run an operation together with all others that wait; finished once it is durable."""
        return self._writer.submit(operation)


def _engine(url: str, settings: Mapping[str, str], *, command_timeout: float | None = None) -> AsyncEngine:
    """Return an engine of one connection."""
    connecting = {"timeout": _CONNECT_SECONDS, "command_timeout": command_timeout, "server_settings": dict(settings)}
    return create_async_engine(url, poolclass=NullPool, connect_args=connecting)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
