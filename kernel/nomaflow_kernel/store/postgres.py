"""The store on PostgreSQL: one connection writes, a pool reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from nomaflow_kernel.ports import StoreInfo
from nomaflow_kernel.store.errors import BackupRefused
from nomaflow_kernel.store.postgres_writer import PostgresWriter
from nomaflow_kernel.store.reading import Readers
from nomaflow_kernel.store.session import WriteSession

__all__ = ["PostgresDatabase"]

T = TypeVar("T")

_READERS = 4
_CONNECT_SECONDS = 5.0
_WRITER_SETTINGS = {
    "application_name": "nomaflow-writer",
    "idle_in_transaction_session_timeout": "20000",
    "synchronous_commit": "on",
}
_READER_SETTINGS = {
    "application_name": "nomaflow-reader",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "20000",
    "statement_timeout": "30000",
}


class PostgresDatabase:
    """A PostgreSQL database; a newer kernel fences an older one by the epoch.

    :param url: of SQLAlchemy, ``postgresql+asyncpg://…``
    :param holder: who this kernel is
    :param lock_wait_seconds: how long to wait for another process's lock
    """

    kind = "postgresql"

    def __init__(self, *, url: str, holder: str, lock_wait_seconds: float) -> None:
        self._url = url
        settings = {**_WRITER_SETTINGS, "lock_timeout": str(int(lock_wait_seconds * 1000))}
        writing = create_async_engine(
            url,
            poolclass=NullPool,
            connect_args={"timeout": _CONNECT_SECONDS, "server_settings": settings},
        )
        self._writer = PostgresWriter(engine=writing, holder=holder)
        self._readers = Readers()

    async def open(self) -> StoreInfo:
        """Migrate, and take the store over from any older kernel."""
        epoch, last_event_seq = await self._writer.start()
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
        return StoreInfo(kind=self.kind, epoch=epoch, last_event_seq=last_event_seq)

    async def close(self) -> None:
        """Finish what waits and close every connection."""
        await self._writer.stop()
        await self._readers.close()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own."""
        return await self._readers.read(query)

    async def write(self, operation: Callable[[WriteSession], T]) -> T:
        """Run an operation with all others that wait, and return once it is durable."""
        result: T = await self._writer.submit(operation)
        return result

    async def backup(self, path: str) -> None:
        """Refuse: PostgreSQL has its own tools.

        :raises BackupRefused: always
        """
        raise BackupRefused(path, "the store is a PostgreSQL database; use pg_dump, or the server's own backup")
