"""The thread that writes to SQLite: it takes all waiting operations and commits them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from nomaflow_kernel.store.errors import StoreBusy, StoreUnavailable
from nomaflow_kernel.store.failures import mapped_errors, store_error
from nomaflow_kernel.store.migrate import Taken, migrate, take_over
from nomaflow_kernel.store.session import KnownDigests
from nomaflow_kernel.store.transaction import CommitInDoubt, Operation, Outcome, commit_batch
from nomaflow_kernel.store.write_queue import Waiting, deliver

__all__ = ["SqliteWriter"]

_log = logging.getLogger(__name__)


class SqliteWriter:
    """Owns the only connection that writes, from one thread.

    :param make_engine: makes the engine of that connection; called in the thread
    :param holder: name of this kernel, for the store's holder row
    """

    def __init__(self, *, make_engine: Callable[[], Engine], holder: str) -> None:
        self._make_engine = make_engine
        self._holder = holder
        self._inbox: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._known_digests = KnownDigests()
        self._epoch = 0

    @property
    def waiting(self) -> int:
        """The number of operations not taken yet."""
        return self._inbox.qsize()

    async def start(self) -> Taken:
        """Start the thread, migrate, take the store over; return the store's facts."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Taken] = loop.create_future()
        self._ended = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop, opened), name="nomaflow-store", daemon=True)
        self._thread.start()
        try:
            return await asyncio.shield(opened)
        except BaseException:
            await self.stop()
            raise

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its outcome after the commit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._thread is None:
            future.set_exception(StoreUnavailable("the store is closed"))
        else:
            self._inbox.put(Waiting(operation, future))
        return future

    async def stop(self) -> None:
        """Let the thread finish waiting operations, and wait for its end. Stopping twice is allowed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            await asyncio.shield(self._ended)
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[Taken]) -> None:
        engine = self._make_engine()
        try:
            if self._open(engine, loop, opened):
                self._serve(engine, loop)
        finally:
            self._drop_connection()
            engine.dispose()
            with contextlib.suppress(RuntimeError):  # the loop was closed without stopping the store
                loop.call_soon_threadsafe(_finish, self._ended)

    def _open(self, engine: Engine, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[Taken]) -> bool:
        try:
            with mapped_errors():
                connection = self._connect(engine)
                with connection.begin():
                    migrate(connection)
                    taken = take_over(connection, holder=self._holder)
        except Exception as error:  # noqa: BLE001 - handed to the caller that opens the store
            loop.call_soon_threadsafe(_fail, opened, error)
            return False
        self._epoch = taken.epoch
        loop.call_soon_threadsafe(opened.set_result, taken)
        return True

    def _serve(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            batch, last = self._take()
            if batch:
                outcomes = self._commit(engine, [waiting.operation for waiting in batch])
                if isinstance(outcomes[0].error, StoreBusy):
                    # Operations that came meanwhile have waited for the same lock, and do not wait for it twice.
                    late, ends = self._take_more()
                    batch, outcomes, last = batch + late, outcomes + [outcomes[0]] * len(late), last or ends
                loop.call_soon_threadsafe(deliver, batch, outcomes)
            if last:
                return

    def _take(self) -> tuple[list[Waiting], bool]:
        """Wait for operations; return all of them, and whether they are the last."""
        first = self._inbox.get()
        if first is None:
            return [], True
        more, last = self._take_more()
        return [first, *more], last

    def _take_more(self) -> tuple[list[Waiting], bool]:
        """Return the operations waiting now, and whether they are the last."""
        batch: list[Waiting] = []
        with contextlib.suppress(queue.Empty):
            while (waiting := self._inbox.get_nowait()) is not None:
                batch.append(waiting)
            return batch, True
        return batch, False

    def _commit(self, engine: Engine, operations: list[Operation]) -> list[Outcome]:
        try:
            connection = self._connect(engine)
            outcomes = commit_batch(connection, operations, epoch=self._epoch, known_digests=self._known_digests)
        except CommitInDoubt as doubt:
            return self._settle(engine, doubt)
        except Exception as error:  # noqa: BLE001 - every operation gets it
            _log.exception("committing %d operations failed", len(operations))
            failure = store_error(error) or StoreUnavailable(str(error))
            outcomes = [Outcome(error=failure) for _ in operations]
        if any(isinstance(outcome.error, StoreUnavailable) for outcome in outcomes):
            self._drop_connection()
        return outcomes

    def _settle(self, engine: Engine, doubt: CommitInDoubt) -> list[Outcome]:
        self._drop_connection()
        try:
            return doubt.settle(self._connect(engine))
        except Exception as error:  # noqa: BLE001 - every operation gets it: without the thread they would wait forever
            if not isinstance(error, (DBAPIError, sqlite3.Error)):
                _log.exception("the outcome of a commit cannot be read")
            self._drop_connection()
            return doubt.failed(outcome_unknown=True)

    def _connect(self, engine: Engine) -> Connection:
        if self._connection is None or self._connection.invalidated:
            self._drop_connection()
            self._connection = engine.connect()
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:  # noqa: BLE001 - it is given up because it failed; the next batch uses another
                _log.debug("closing a connection that failed: %s", error)


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _fail(opened: asyncio.Future[Taken], error: BaseException) -> None:
    if not opened.done():
        opened.set_exception(error)
