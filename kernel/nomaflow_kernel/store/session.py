"""The context of write operations: the open transaction, what they have it write, and the ends of events and audit."""

from __future__ import annotations

from sqlalchemy import Connection

from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.operations.changes import RowChange, merge, writes_of
from nomaflow_kernel.store.rows import EVENTS
from nomaflow_kernel.store.statements import Write, execute_all, insert

_INSERT_DEFINITION = insert(schema.definitions, schema.definitions.columns.keys())
_INSERT_EVENT = insert(schema.events, EVENTS.columns)
_KNOWN_LIMIT = 10_000


class ChangesLost(Exception):
    """Raised when a row did not change as expected; nothing says which, so the operations run again, each alone."""


class KnownDigests(set[str]):
    """Digests of definitions that are certainly stored. Emptied when there are too many: it only saves statements."""

    def learn(self, digests: set[str]) -> None:
        """Remember digests; only after their commit."""
        if len(self) > _KNOWN_LIMIT:
            self.clear()
        self.update(digests)


class WriteSession:
    """One open write transaction.

    What its operations have it write is gathered, and written together: at the end, or before one of them uses the
    connection. A database across a network then answers once, not for each table.

    :param connection: has begun the transaction
    :param last_event_seq: the newest event before this transaction
    :param commits: number of transactions committed before this one
    :param audit_seq: the newest row of the audit before this transaction
    :param audit_hash: that row's hash
    :ivar last_event_seq: the newest event, those of this transaction included
    :ivar changes: of rows, in order
    :ivar events: to be appended, in order
    :ivar definitions: to be stored: digest → the row
    :ivar new_digests: definitions that this transaction has stored
    :ivar audit: rows that this transaction appends, in order; they are numbered and chained at its end
    :ivar one_by_one: whether the changes of an operation are to be made one by one, to find those that are lost
    """

    def __init__(
        self,
        connection: Connection,
        *,
        known_digests: KnownDigests,
        last_event_seq: int,
        commits: int,
        audit_seq: int,
        audit_hash: str,
    ) -> None:
        self._connection = connection
        self.known_digests = known_digests
        self.last_event_seq = last_event_seq
        self.commits = commits
        self.audit_seq = audit_seq
        self.audit_hash = audit_hash
        self.changes: list[RowChange] = []
        self.events: list[EventRecord] = []
        self.definitions: dict[str, tuple[str, str, str]] = {}
        self.new_digests: set[str] = set()
        self.audit: list[AuditRecord] = []
        self.one_by_one = False

    @property
    def connection(self) -> Connection:
        """The connection, on which everything gathered so far is written.

        :raises ChangesLost: if a row did not change as expected
        """
        self.write()
        return self._connection

    def write(self, *more: Write) -> None:
        """Write what was gathered, and more.

        :raises ChangesLost: if a row did not change as expected
        """
        changes = merge(self.changes)
        if changes is None:
            raise ChangesLost
        writes = writes_of(changes)
        if self.definitions:
            writes.append(Write(_INSERT_DEFINITION, [*self.definitions.values()]))
        if self.events:
            writes.append(Write(_INSERT_EVENT, [EVENTS.values(event) for event in self.events]))
        self.new_digests.update(self.definitions)
        self.discard()
        if not execute_all(self._connection, [*writes, *more]):
            raise ChangesLost

    def discard(self) -> None:
        """Forget what was gathered and not written."""
        self.changes, self.events, self.definitions = [], [], {}
