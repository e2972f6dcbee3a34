"""Group commit: all waiting operations share one transaction, and each gets its own outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import DBAPIError

from nomaflow_kernel.store import schema
from nomaflow_kernel.store.driver import fetch_one, run
from nomaflow_kernel.store.driver_errors import store_error
from nomaflow_kernel.store.errors import StaleEpoch, StoreError, StoreUnavailable
from nomaflow_kernel.store.operations.audit import APPEND, chained
from nomaflow_kernel.store.session import ChangesLost, KnownDigests, WriteSession
from nomaflow_kernel.store.statements import Write, update

Operation = Callable[[WriteSession], Any]

_log = logging.getLogger(__name__)

_GUARD = "SELECT epoch, last_event_seq, commits, audit_seq, audit_hash FROM kernel WHERE id = 1"
_ADVANCE = update(schema.kernel, ("last_event_seq", "commits"), key=("epoch",))
_ADVANCE_BOTH = update(schema.kernel, ("last_event_seq", "commits", "audit_seq", "audit_hash"), key=("epoch",))


class Outcome(Struct, frozen=True):
    """An operation's result or exception."""

    value: Any = None
    error: BaseException | None = None


class CommitInDoubt(Exception):
    """Raised when the connection was lost during the commit.

    :param outcomes: the operations' outcomes if it succeeded
    """

    def __init__(
        self, *, session: WriteSession, epoch: int, outcomes: Sequence[Outcome], cause: StoreUnavailable
    ) -> None:
        self.outcomes = list(outcomes)
        self._epoch = epoch
        self._expected_commits = session.commits + 1
        self._detail = cause.detail
        super().__init__(str(cause))

    def settle(self, connection: Connection) -> list[Outcome]:
        """Return the outcomes, now that there is a connection again: a transaction counter tells which they are."""
        with connection.begin():
            # If the server has not noticed the end of the lost session yet, the lock waits for it.
            epoch, _, commits, _, _ = fetch_one(connection, _guard(connection))
        if epoch != self._epoch:
            return [Outcome(error=StaleEpoch(own=self._epoch, found=epoch)) for _ in self.outcomes]
        return self.outcomes if commits == self._expected_commits else self.failed(outcome_unknown=False)

    def failed(self, *, outcome_unknown: bool) -> list[Outcome]:
        """Return a failure for every operation."""
        failure = StoreUnavailable(self._detail, outcome_unknown=outcome_unknown)
        return [Outcome(error=failure) for _ in self.outcomes]


def commit_batch(
    connection: Connection, operations: Sequence[Operation], *, epoch: int, known_digests: KnownDigests
) -> list[Outcome]:
    """Run the operations in one transaction guarded by ``epoch`` and commit it; return their outcomes in order.

    An error of the store fails them all; any other error fails the operation that raised it, and the rest runs again
    without it.

    :raises CommitInDoubt: if the connection was lost during the commit
    """
    try:
        return _attempt(connection, operations, epoch, known_digests, each_alone=False)
    except CommitInDoubt:
        raise
    except Exception as error:  # noqa: BLE001 - every operation gets it, or runs again alone
        failure = store_error(error)
        if failure is not None:
            return _failed(connection, operations, failure)
        _log.debug("one of %d operations failed, or lost a change: each runs again under a savepoint", len(operations))
    try:
        return _attempt(connection, operations, epoch, known_digests, each_alone=True)
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
    known_digests: KnownDigests,
    *,
    each_alone: bool,
) -> list[Outcome]:
    transaction = connection.begin()
    try:
        session = _guarded_session(connection, epoch, known_digests)
        run_one = _run_alone if each_alone else _run_among_others
        outcomes = [run_one(session, operation) for operation in operations]
        _advance(session, epoch)
    except BaseException:
        _roll_back(connection, transaction)
        raise
    try:
        transaction.commit()
    except Exception as error:
        failure = store_error(error)
        if isinstance(failure, StoreUnavailable):
            connection.invalidate()
            raise CommitInDoubt(session=session, epoch=epoch, outcomes=outcomes, cause=failure) from error
        _roll_back(connection, transaction)
        raise
    known_digests.learn(session.new_digests)
    return outcomes


def _guard(connection: Connection) -> str:
    return _GUARD + (" FOR UPDATE" if connection.dialect.name == "postgresql" else "")


def _guarded_session(connection: Connection, epoch: int, known_digests: KnownDigests) -> WriteSession:
    found, last_event_seq, commits, audit_seq, audit_hash = fetch_one(connection, _guard(connection))
    if found != epoch:
        raise StaleEpoch(own=epoch, found=found)
    return WriteSession(
        connection,
        known_digests=known_digests,
        last_event_seq=last_event_seq,
        commits=commits,
        audit_seq=audit_seq,
        audit_hash=audit_hash,
    )


def _advance(session: WriteSession, epoch: int) -> None:
    """Write what is left, and the ends of events and audit."""
    ends = (session.last_event_seq, session.commits + 1)
    rows = chained(session)
    if rows:
        seq, *_, digest = rows[-1]
        session.write(Write(APPEND, rows), Write(_ADVANCE_BOTH, [(*ends, seq, digest, epoch)], required=True))
    else:
        session.write(Write(_ADVANCE, [(*ends, epoch)], required=True))


def _run_among_others(session: WriteSession, operation: Operation) -> Outcome:
    return Outcome(operation(session))


def _run_alone(session: WriteSession, operation: Operation) -> Outcome:
    """Run an operation under a savepoint, and once more if it loses a change: then it finds out which."""
    connection = session.connection
    last_event_seq, new_digests, audited = session.last_event_seq, set(session.new_digests), len(session.audit)
    for session.one_by_one in (False, True):
        run(connection, "SAVEPOINT operation")
        try:
            outcome = Outcome(operation(session))
            session.write()
        except Exception as error:
            if store_error(error) is not None:
                raise
            run(connection, "ROLLBACK TO SAVEPOINT operation")
            session.discard()
            session.last_event_seq, session.new_digests = last_event_seq, new_digests
            del session.audit[audited:]
            outcome = Outcome(error=error)
        run(connection, "RELEASE SAVEPOINT operation")
        if not isinstance(outcome.error, ChangesLost):
            break
    return outcome


def _roll_back(connection: Connection, transaction: RootTransaction) -> None:
    """Roll back; if even that fails, give the connection up, which has the same effect."""
    try:
        transaction.rollback()
    except DBAPIError as error:
        _log.warning("rolling back failed, closing the connection: %s", error)
        connection.invalidate()
