"""The store of a simulation: the real operations on a real SQLite file, committed when the schedule says.

The writer's thread is left out, so that the order of everything follows from the seed: operations wait in a queue, and
one turn of the loop commits all that wait, as the thread does. ``synchronous`` is OFF here and nowhere else: this tests
what is decided, the harness with real processes tests what is durable.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from nomaflow_kernel.history.lookups import ApplyResult, StoreInfo
from nomaflow_kernel.store.errors import StoreBusy, StoreError, StoreFull, StoreUnavailable
from nomaflow_kernel.store.migrate import migrate, take_over
from nomaflow_kernel.store.session import Known, WriteSession
from nomaflow_kernel.store.sqlite import create_database_file, writing_engine
from nomaflow_kernel.store.transaction import Operation, Outcome, commit_batch
from nomaflow_kernel.store.writer import Waiting, deliver

__all__ = ["CrashPoint", "SimulatedDatabase", "StoreFaults", "make_template"]

T = TypeVar("T")
_SLOW_SECONDS = 3.0


@dataclass(kw_only=True)
class CrashPoint:
    """The kernel dies at one of its next commits: just before it, or after it and before anybody hears of it."""

    commits: int
    after: bool
    crash: Callable[[], None]


@dataclass(kw_only=True)
class StoreFaults:
    """The current faults of the store.

    :param rate: how many of the operations fail, 0 to 1
    :param full: every write finds the disk full
    :param slow: every commit takes seconds
    """

    rng: random.Random
    say: Callable[[str], None]
    rate: float = 0.0
    full: bool = False
    slow: bool = False
    crash_points: list[CrashPoint] = field(default_factory=list)

    def heal(self) -> None:
        """Remove all faults."""
        self.rate, self.full, self.slow = 0.0, False, False
        self.crash_points.clear()

    def pause(self) -> float:
        """Return how long a commit takes, seconds."""
        return self.rng.uniform(0.2, _SLOW_SECONDS) if self.slow else self.rng.uniform(0.0005, 0.01)

    def refusal(self) -> StoreError | None:
        """Return the error of an operation that is not done."""
        if self.full:
            return StoreFull("simulated")
        if self.rng.random() >= self.rate:
            return None
        return self.rng.choice((StoreBusy("simulated"), StoreFull("simulated"), StoreUnavailable("simulated")))

    def doubt(self) -> StoreError | None:
        """Return the error of an operation with an unknown outcome."""
        if self.rng.random() >= self.rate:
            return None
        return StoreUnavailable("simulated: the answer was lost", outcome_unknown=True)

    def crashes(self, *, after: bool) -> bool:
        """Count a commit, and let the kernel die if its time has come."""
        for point in list(self.crash_points):
            if point.after is not after:
                continue
            point.commits -= 1
            if point.commits <= 0:
                self.crash_points.remove(point)
                self.say(f"kernel dies {'after' if after else 'before'} a commit")
                point.crash()
                return True
        return False


def make_template(path: Path) -> None:
    """Make a database with today's schema, to be copied for each schedule."""
    create_database_file(str(path))
    engine = writing_engine(str(path), lock_wait_seconds=1.0)
    with engine.connect() as connection, connection.begin():
        migrate(connection)
    engine.dispose()
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


class SimulatedDatabase:
    """Stands for the ``Database`` of a store, its writer and its readers, for one kernel's life.

    :param engine: connects to the file; shared by all schedules, so that statements are compiled once
    :param committed_at: filled with when each event was committed, virtual seconds
    :param on_crash: has the kernel die whose database it is, though it be one that stops, or that is taken for dead
    """

    def __init__(
        self, *, engine: Engine, faults: StoreFaults, committed_at: dict[int, float], on_crash: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._on_crash = on_crash
        self._committed_at = committed_at
        self._queue: list[Waiting] = []
        self._known = Known()
        self._connection: Connection | None = None
        self._epoch = 0
        self._writer_busy = False
        self.writer = self.reading = self

    async def claim(self) -> StoreInfo:
        """Take the store over: from now on the writes of kernels before this one are refused."""
        refusal = self._faults.refusal()
        if refusal is not None:
            raise refusal
        self._connection = self._engine.connect()
        driver = self._connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA synchronous = OFF")
        with self._connection.begin():
            taken = take_over(self._connection, holder="simulated")
        self._epoch = taken.epoch
        return taken

    async def stop(self) -> None:
        """Finish waiting operations."""
        while self._queue or self._writer_busy:
            await asyncio.sleep(0.01)

    async def release(self) -> None:
        """Close."""
        self.die()

    async def close(self) -> None:
        """Have one connection for all: it is closed."""

    def die(self) -> None:
        """Close at once; waiting callers never get an answer, and uncommitted changes never come."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._queue.clear()

    async def run(self, query: Callable[[Connection], T]) -> T:
        """Read, a moment later."""
        await asyncio.sleep(self._faults.rng.uniform(0.0001, 0.003))
        refusal = self._faults.refusal() if not self._faults.full else None
        if refusal is not None:
            raise refusal
        if self._connection is None:
            raise StoreUnavailable("the store is closed")
        with self._connection.begin():
            return query(self._connection)

    async def submit(self, operation: Callable[[WriteSession], T]) -> T:
        """Write with everything else that waits."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._connection is None:
            future.set_exception(StoreUnavailable("the store is closed"))
        else:
            self._queue.append(Waiting(operation, future))
            self._wake()
        return await future

    def _wake(self) -> None:
        if self._queue and not self._writer_busy:
            self._writer_busy = True
            asyncio.get_running_loop().call_later(self._faults.pause(), self._commit)

    def _commit(self) -> None:
        batch, self._queue = self._queue, []
        if self._connection is None or self._crashes(after=False):
            return
        outcomes = self._outcomes([waiting.operation for waiting in batch])
        if self._crashes(after=True):
            return
        asyncio.get_running_loop().call_later(self._faults.rng.uniform(0, 0.005), self._answer, batch, outcomes)

    def _crashes(self, *, after: bool) -> bool:
        crashes = self._faults.crashes(after=after)
        if crashes:
            self._on_crash()
        return crashes

    def _answer(self, batch: list[Waiting], outcomes: list[Outcome]) -> None:
        self._writer_busy = False
        if self._connection is not None:
            deliver(batch, outcomes)
            self._wake()

    def _outcomes(self, operations: list[Operation]) -> list[Outcome]:
        refusal = self._faults.refusal()
        if refusal is not None:
            return [Outcome(error=refusal) for _ in operations]
        assert self._connection is not None
        outcomes = commit_batch(self._connection, operations, epoch=self._epoch, known=self._known)
        now = asyncio.get_running_loop().time()
        for outcome in outcomes:
            if isinstance(outcome.value, ApplyResult):
                self._committed_at.update((event.seq, now) for event in outcome.value.events)
        doubt = self._faults.doubt()
        return outcomes if doubt is None else [Outcome(error=doubt) for _ in operations]
