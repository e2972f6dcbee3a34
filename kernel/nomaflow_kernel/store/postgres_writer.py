"""The task that writes to PostgreSQL: it takes all waiting operations and commits them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from nomaflow_kernel.store.errors import StoreError, StoreUnavailable
from nomaflow_kernel.store.failures import mapped_errors, store_error
from nomaflow_kernel.store.migrate import Taken
from nomaflow_kernel.store.session import KnownDigests
from nomaflow_kernel.store.transaction import CommitInDoubt, Operation, Outcome, commit_batch
from nomaflow_kernel.store.write_queue import Waiting, deliver

__all__ = ["PostgresWriter"]

_log = logging.getLogger(__name__)


class PostgresWriter:
    """Owns the only connection that writes, from one task.

    :param engine: without a pool; disposed by :meth:`stop`
    :param take: takes the store over in an open transaction, and returns its facts
    """

    def __init__(self, *, engine: AsyncEngine, take: Callable[[Connection], Taken]) -> None:
        self._engine = engine
        self._take_store = take
        self._inbox: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._connection: AsyncConnection | None = None
        self._known_digests = KnownDigests()
        self._epoch = 0

    @property
    def waiting(self) -> int:
        """The number of operations not taken yet."""
        return self._inbox.qsize()

    async def start(self) -> Taken:
        """Take the store over and start the task; return the store's facts."""
        try:
            with mapped_errors():
                connection = await self._connect()
                async with connection.begin():
                    taken = await connection.run_sync(self._take_store)
        except BaseException:
            await self._dispose()
            raise
        self._epoch = taken.epoch
        self._task = asyncio.create_task(self._serve(), name="nomaflow-store")
        return taken

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its outcome after the commit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._task is None:
            future.set_exception(StoreUnavailable("the store is closed"))
        else:
            self._inbox.put_nowait(Waiting(operation, future))
        return future

    async def stop(self) -> None:
        """Let the task finish waiting operations, and wait for its end. Stopping twice is allowed."""
        task, self._task = self._task, None
        if task is not None:
            self._inbox.put_nowait(None)
            await asyncio.shield(task)
            await self._dispose()

    async def _dispose(self) -> None:
        await self._drop_connection()  # a plain close would wait for a server that hangs
        await self._engine.dispose()

    async def _serve(self) -> None:
        while True:
            batch, last = await self._take()
            if batch:
                deliver(batch, await self._commit([waiting.operation for waiting in batch]))
            if last:
                return

    async def _take(self) -> tuple[list[Waiting], bool]:
        """Wait for operations; return all of them, and whether they are the last."""
        batch: list[Waiting] = []
        waiting = await self._inbox.get()
        while waiting is not None:
            batch.append(waiting)
            try:
                waiting = self._inbox.get_nowait()
            except asyncio.QueueEmpty:
                return batch, False
        return batch, True

    async def _commit(self, operations: list[Operation]) -> list[Outcome]:
        """Commit, and commit again on a new connection if the old one was lost before its commit."""
        outcomes: list[Outcome] = []
        for _ in range(2):
            outcomes = await self._commit_once(operations)
            if not any(_may_try_again(outcome.error) for outcome in outcomes):
                break
        return outcomes

    async def _commit_once(self, operations: list[Operation]) -> list[Outcome]:
        try:
            connection = await self._connect()
            outcomes = await connection.run_sync(
                commit_batch, operations, epoch=self._epoch, known_digests=self._known_digests
            )
        except CommitInDoubt as doubt:
            return await self._settle(doubt)
        except Exception as error:  # noqa: BLE001 - every operation gets it
            failure = store_error(error)
            if failure is None:
                _log.exception("committing %d operations failed", len(operations))
                failure = StoreUnavailable(str(error))
            outcomes = [Outcome(error=failure) for _ in operations]
        if any(isinstance(outcome.error, StoreUnavailable) for outcome in outcomes):
            await self._drop_connection()
        return outcomes

    async def _settle(self, doubt: CommitInDoubt) -> list[Outcome]:
        """Ask the database whether the commit was done."""
        await self._drop_connection()
        try:
            with mapped_errors():
                return await (await self._connect()).run_sync(doubt.settle)
        except StoreError as error:
            _log.warning("the outcome of a commit cannot be read: %s", error)
            await self._drop_connection()
            return doubt.failed(outcome_unknown=True)

    async def _connect(self) -> AsyncConnection:
        if self._connection is None or self._connection.invalidated:
            await self._drop_connection()
            self._connection = await self._engine.connect()
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError, OSError):  # it is given up because it failed
                await connection.invalidate()
                await connection.close()


def _may_try_again(error: BaseException | None) -> bool:
    return isinstance(error, StoreUnavailable) and not error.outcome_unknown
