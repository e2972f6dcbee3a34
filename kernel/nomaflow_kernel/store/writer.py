"""The writer of a store: it takes all waiting operations and commits them together, on either database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.store.driver_errors import store_error
from nomaflow_kernel.store.errors import StoreBusy, StoreError, StoreUnavailable
from nomaflow_kernel.store.session import Known
from nomaflow_kernel.store.transaction import CommitInDoubt, Operation, Outcome, commit_batch

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Link(Protocol):
    """Connections to a database that run synchronous work without blocking the event loop."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run work on a connection, connecting if needed.

        :raises StoreError: if the database fails
        """

    async def close(self) -> None:
        """Close every connection; the next work connects again. Closing twice is allowed."""


class Database(Protocol):
    """A database that one kernel at a time works on."""

    @property
    def writer(self) -> Writer:
        """The only one that writes."""

    @property
    def reading(self) -> Link:
        """Connections that only read, also while another kernel has the database."""

    async def claim(self) -> StoreInfo:
        """Keep other kernels off the database, start the writer and take the store over."""

    async def release(self) -> None:
        """Let other kernels have the database. Releasing twice is allowed."""


LOCK_WAIT_SECONDS = 5.0
"""How long a write waits for a lock that another process holds."""


def in_transaction(work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """Return work that begins a transaction, and commits it unless an error is raised."""

    def within(connection: Connection) -> T:
        with connection.begin():
            return work(connection)

    return within


class Waiting(Struct, frozen=True):
    """An operation and the future of its caller."""

    operation: Operation
    future: asyncio.Future[Any]


def deliver(batch: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    """Deliver each outcome to its caller; a cancelled caller is ignored, though its operation counts."""
    for waiting, outcome in zip(batch, outcomes, strict=True):
        give(waiting.future, outcome.value, outcome.error)


def give(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    """Give a caller its result, or its error; one that no longer waits is ignored."""
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class Writer:
    """Commits what waits, one batch after the other.

    :param link: the only connection that writes
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._inbox: list[Waiting] = []
        self._taken: list[Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._known = Known()
        self._epoch = 0
        self._refusal: StoreError = StoreUnavailable("the store is closed")

    @property
    def waiting(self) -> int:
        """The number of operations not taken yet."""
        return len(self._inbox)

    async def start(self, take: Callable[[Connection], StoreInfo]) -> StoreInfo:
        """Take the store over; return its facts.

        :param take: takes the store over in an open transaction
        """
        try:
            taken = await self._link.run(in_transaction(take))
        except BaseException:
            await self._link.close()
            raise
        self._epoch = taken.epoch
        return taken

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future gets its outcome after the commit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._epoch:
            future.set_exception(self._refusal)
            return future
        self._inbox.append(Waiting(operation, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="nomaflow-store")
        return future

    def give_up(self, error: StoreError) -> None:
        """Fail everything that waits, and whatever comes later, without waiting for the database.

        Of the operations already taken it is not known whether they were applied.
        """
        self._epoch, self._refusal = 0, error
        waiting, self._inbox = self._inbox, []
        deliver(waiting, [Outcome(error=error)] * len(waiting))
        in_doubt = StoreUnavailable(str(error), outcome_unknown=True)
        deliver(self._taken, [Outcome(error=in_doubt)] * len(self._taken))
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Finish waiting operations, and close the connection. Stopping twice is allowed.

        A caller that waits no longer gives them up.
        """
        self._epoch = 0
        if self._task is not None:
            try:
                await asyncio.wait((self._task,))
            except asyncio.CancelledError:
                self.give_up(self._refusal)
                raise
        await self._link.close()

    async def _serve(self) -> None:
        epoch = self._epoch
        while self._inbox:
            batch, self._inbox = self._inbox, []
            self._taken = batch
            outcomes = await self._commit([waiting.operation for waiting in batch], epoch)
            if isinstance(outcomes[0].error, StoreBusy):
                # Operations that came meanwhile have waited for the same lock, and do not wait for it twice.
                late, self._inbox = self._inbox, []
                batch, outcomes = batch + late, outcomes + [outcomes[0]] * len(late)
            deliver(batch, outcomes)
            self._taken = []

    async def _commit(self, operations: Sequence[Operation], epoch: int) -> list[Outcome]:
        """Commit, and commit again on a new connection if the old one was lost before its commit."""
        commit = partial(commit_batch, operations=operations, epoch=epoch, known=self._known)
        outcomes: list[Outcome] = []
        for _ in range(2):
            try:
                outcomes = await self._link.run(commit)
            except CommitInDoubt as doubt:
                outcomes = await self._settle(doubt)
            except Exception as error:  # noqa: BLE001 - every operation gets it
                outcomes = [Outcome(error=_failure(error, "committing failed"))] * len(operations)
            if not any(_may_try_again(outcome.error) for outcome in outcomes):
                break
        return outcomes

    async def _settle(self, doubt: CommitInDoubt) -> list[Outcome]:
        """Ask the database whether the commit was done."""
        try:
            return await self._link.run(doubt.settle)
        except Exception as error:  # noqa: BLE001 - every operation gets it: otherwise they would wait forever
            _log.warning("the outcome of a commit cannot be read: %s", _failure(error, "reading its outcome failed"))
            return doubt.failed(outcome_unknown=True)


def _may_try_again(error: BaseException | None) -> bool:
    return isinstance(error, StoreUnavailable) and not error.outcome_unknown


def _failure(error: Exception, what: str) -> Exception:
    failure = store_error(error)
    if failure is None:
        _log.error(what, exc_info=error)
    return failure or StoreUnavailable(str(error))
