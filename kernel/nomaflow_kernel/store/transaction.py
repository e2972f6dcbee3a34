"""Group commit: all waiting operations share one transaction, and each gets its own outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nomaflow_kernel.store import schema
from nomaflow_kernel.store.driver import execute_on_postgres
from nomaflow_kernel.store.driver_errors import store_error
from nomaflow_kernel.store.errors import StaleEpoch, StoreError, StoreUnavailable
from nomaflow_kernel.store.operations.audit import APPEND, chained
from nomaflow_kernel.store.session import ChangesLost, Ends, Known, WriteSession, read_ends
from nomaflow_kernel.store.statements import Write, update

Operation = Callable[[WriteSession], Any]

_log = logging.getLogger(__name__)

_ADVANCE = update(schema.kernel, ("last_event_seq", "commits", "audit_seq", "audit_hash"), key=("epoch", "commits"))
"""Fences: another kernel has another epoch, and what this one has given up has an older number of commits."""
_PLANNED_FOR = 10_000
"""Events that are written with the same plans: those made for a table of few rows may walk through all of them."""
_FENCE = "UPDATE kernel SET commits = commits + 1 WHERE id = 1"


class Outcome(Struct, frozen=True):
    """An operation's result or exception."""

    value: Any = None
    error: BaseException | None = None


class CommitInDoubt(Exception):
    """Raised when the connection was lost during the commit.

    :param epoch: of the kernel that writes
    :param commits: number of transactions committed if it succeeded
    :param outcomes: the operations' outcomes if it succeeded
    """

    def __init__(self, *, epoch: int, commits: int, outcomes: Sequence[Outcome], cause: StoreUnavailable) -> None:
        self.outcomes = list(outcomes)
        self._epoch = epoch
        self._commits = commits
        self._detail = cause.detail
        super().__init__(str(cause))

    def settle(self, connection: Connection) -> list[Outcome]:
        """Return the outcomes, now that there is a connection again: a transaction counter tells which they are.

        A transaction that is not committed by then never will be, even if the server still works on it.
        """
        with connection.begin():
            # If the server has not noticed the end of the lost session yet, the lock may have to wait for it.
            epoch, ends = read_ends(connection)
            done = ends.commits == self._commits
            if epoch == self._epoch and not done:
                connection.exec_driver_sql(_FENCE)
        if epoch != self._epoch:
            return [Outcome(error=StaleEpoch(own=self._epoch, found=epoch)) for _ in self.outcomes]
        return self.outcomes if done else self.failed(outcome_unknown=False)

    def failed(self, *, outcome_unknown: bool) -> list[Outcome]:
        """Return a failure for every operation."""
        failure = StoreUnavailable(self._detail, outcome_unknown=outcome_unknown)
        return [Outcome(error=failure) for _ in self.outcomes]


def commit_batch(connection: Connection, operations: Sequence[Operation], *, epoch: int, known: Known) -> list[Outcome]:
    """Run the operations in one transaction guarded by ``epoch`` and commit it; return their outcomes in order.

    An error of the store fails them all; any other error fails the operation that raised it, and the rest runs again
    without it.

    :raises CommitInDoubt: if the connection was lost during the commit
    """
    try:
        return _attempt(connection, operations, epoch, known, each_alone=False)
    except CommitInDoubt:
        raise
    except Exception as error:  # noqa: BLE001 - every operation gets it, or runs again alone
        failure = store_error(error)
        if failure is not None:
            return _failed(connection, operations, failure)
        _log.debug("one of %d operations failed, or lost a change: each runs again under a savepoint", len(operations))
    try:
        return _attempt(connection, operations, epoch, known, each_alone=True)
    except CommitInDoubt:
        raise
    except Exception as error:  # noqa: BLE001 - every operation gets it
        return _failed(connection, operations, store_error(error) or StoreUnavailable(str(error)))


def _failed(connection: Connection, operations: Sequence[Operation], failure: StoreError) -> list[Outcome]:
    """Return a failure for every operation; if the database cannot be reached, give the connection up."""
    if isinstance(failure, StoreUnavailable):
        connection.invalidate()
    return [Outcome(error=failure)] * len(operations)


def _attempt(
    connection: Connection,
    operations: Sequence[Operation],
    epoch: int,
    known: Known,
    *,
    each_alone: bool,
) -> list[Outcome]:
    if known.ends is None:
        known.digests.clear()  # a server that has failed over may have lost commits, and definitions with them
    begins = each_alone or known.ends is None or not _is_open_postgres(connection)
    session = WriteSession(connection, epoch=epoch, known=known)
    known.ends = None
    try:
        if begins:
            session.begin()
        elif session.last_event_seq - known.planned_seq >= _PLANNED_FOR:
            execute_on_postgres(connection, "DISCARD PLANS", ())
            known.planned_seq = session.last_event_seq
        run_one = _run_alone if each_alone else _run_among_others
        outcomes = [run_one(session, operation) for operation in operations]
        ends, last = _last_writes(session, epoch)
        if session.transaction is not None:
            session.write(*last)
    except BaseException:
        _roll_back(session, connection)
        raise
    try:
        if session.transaction is None:
            session.write(*last)
        else:
            session.transaction.commit()
    except Exception as error:
        failure = store_error(error)
        refused = session.transaction is None and _is_open_postgres(connection)  # by a server that has answered
        if isinstance(failure, StoreUnavailable) and not refused:
            connection.invalidate()
            raise CommitInDoubt(epoch=epoch, commits=ends.commits, outcomes=outcomes, cause=failure) from error
        _roll_back(session, connection)
        raise
    known.ends = ends
    if not each_alone:  # then a savepoint may have taken some of them back
        known.learn(session.new_digests)
    return outcomes


def _is_open_postgres(connection: Connection) -> bool:
    """Return whether this is PostgreSQL, on a connection that is not known to be lost."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name == "postgresql" and not driver.is_closed()


def _last_writes(session: WriteSession, epoch: int) -> tuple[Ends, list[Write]]:
    """Return the ends after the transaction, and what else it writes: its rows of the audit, and the ends."""
    before = session.ends
    rows = chained(session.audit, before.audit_seq, before.audit_hash)
    audit_seq, audit_hash = (rows[-1][0], rows[-1][-1]) if rows else (before.audit_seq, before.audit_hash)
    ends = Ends(session.last_event_seq, before.commits + 1, audit_seq, audit_hash)
    advance = Write(_ADVANCE, [(*astuple(ends), epoch, before.commits)], required=True)
    return ends, [Write(APPEND, rows), advance] if rows else [advance]


def _run_among_others(session: WriteSession, operation: Operation) -> Outcome:
    return Outcome(operation(session))


def _run_alone(session: WriteSession, operation: Operation) -> Outcome:
    """Run an operation under a savepoint, and once more if it loses a change: then it finds out which."""
    connection = session.connection
    last_event_seq, audited = session.last_event_seq, len(session.audit)
    for session.one_by_one in (False, True):
        connection.exec_driver_sql("SAVEPOINT operation")
        try:
            outcome = Outcome(operation(session))
            session.write()
        except Exception as error:
            if store_error(error) is not None:
                raise
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT operation")
            session.discard()
            session.last_event_seq = last_event_seq
            del session.audit[audited:]
            outcome = Outcome(error=error)
        connection.exec_driver_sql("RELEASE SAVEPOINT operation")
        if not isinstance(outcome.error, ChangesLost):
            break
    return outcome


def _roll_back(session: WriteSession, connection: Connection) -> None:
    """Roll back; if even that fails, give the connection up, which has the same effect."""
    if session.transaction is None:
        return
    try:
        session.transaction.rollback()
    except DBAPIError as error:
        _log.warning("rolling back failed, closing the connection: %s", error)
        connection.invalidate()
