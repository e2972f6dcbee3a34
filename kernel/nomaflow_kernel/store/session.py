"""The context of write operations: the open transaction, what they have it write, and the ends of events and audit."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, RootTransaction

from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.store import schema
from nomaflow_kernel.store.driver import sqlite_driver
from nomaflow_kernel.store.errors import StaleEpoch
from nomaflow_kernel.store.operations.changes import RowChange, merge, writes_of
from nomaflow_kernel.store.rows import EVENTS
from nomaflow_kernel.store.statements import Write, execute_all, insert

_INSERT_DEFINITION = insert(schema.definitions, schema.definitions.columns.keys())
_INSERT_EVENT = insert(schema.events, EVENTS.columns)
_ENDS = "SELECT epoch, last_event_seq, commits, audit_seq, audit_hash FROM kernel WHERE id = 1"
_KNOWN_LIMIT = 10_000


class ChangesLost(Exception):
    """Raised when a row did not change as expected; nothing says which, so the operations run again, each alone."""


class Ends(Struct, frozen=True):
    """The ends of what a store has.

    :param last_event_seq: the newest event
    :param commits: number of transactions committed
    :param audit_seq: the newest row of the audit
    :param audit_hash: that row's hash
    """

    last_event_seq: int
    commits: int
    audit_seq: int
    audit_hash: str


def read_ends(connection: Connection) -> tuple[int, Ends]:
    """Return the epoch of the only kernel that may write, and the ends.

    On PostgreSQL no other writer gets in until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        epoch, *ends = connection.exec_driver_sql(f"{_ENDS} FOR UPDATE").one()
    else:
        epoch, *ends = sqlite_driver(connection).execute(_ENDS).fetchone()
    return epoch, Ends(*ends)


class Known:
    """The facts of a store that its writer knows without asking.

    :ivar digests: definitions that are certainly stored; emptied when there are too many: they only save statements
    :ivar ends: those of the store; None if they are to be read
    :ivar planned_seq: the newest event when a PostgreSQL was last told to plan its statements anew
    """

    def __init__(self) -> None:
        self.digests: set[str] = set()
        self.ends: Ends | None = None
        self.planned_seq = 0

    def learn(self, digests: set[str]) -> None:
        """Remember the definitions that a transaction has stored; only after its commit."""
        if len(self.digests) > _KNOWN_LIMIT:
            self.digests.clear()
        self.digests.update(digests)


class WriteSession:
    """One write transaction.

    What its operations have it write is gathered, and written together: at the end, or before one of them uses the
    connection. A database across a network then answers once, not for each table.

    :param connection: in no transaction
    :param epoch: of the kernel that writes
    :param known: spares the question for the ends
    :ivar transaction: the open transaction; None until :meth:`begin`
    :ivar last_event_seq: the newest event, those of this transaction included
    :ivar changes: of rows, in order
    :ivar events: to be appended, in order
    :ivar definitions: to be stored: digest → the row
    :ivar new_digests: definitions that this transaction has stored
    :ivar audit: rows that this transaction appends, in order; they are numbered and chained at its end
    :ivar one_by_one: whether the changes of an operation are to be made one by one, to find those that are lost
    """

    def __init__(self, connection: Connection, *, epoch: int, known: Known) -> None:
        self._connection = connection
        self._epoch = epoch
        self.known_digests = known.digests
        self.transaction: RootTransaction | None = None
        self._ends = known.ends
        self.last_event_seq = 0 if known.ends is None else known.ends.last_event_seq
        self.changes: list[RowChange] = []
        self.events: list[EventRecord] = []
        self.definitions: dict[str, tuple[str, str, str]] = {}
        self.new_digests: set[str] = set()
        self.audit: list[AuditRecord] = []
        self.one_by_one = False

    def begin(self) -> None:
        """Begin the transaction, and keep other writers out until it ends.

        :raises StaleEpoch: if a newer kernel has taken over
        :raises ChangesLost: if the ends are not those that were known
        """
        self.transaction = self._connection.begin()
        epoch, ends = read_ends(self._connection)
        if epoch != self._epoch:
            raise StaleEpoch(own=self._epoch, found=epoch)
        if self._ends is None:
            self._ends, self.last_event_seq = ends, ends.last_event_seq
        elif self._ends != ends:
            raise ChangesLost

    @property
    def ends(self) -> Ends:
        """The ends before this transaction."""
        assert self._ends is not None, "neither known nor read"
        return self._ends

    @property
    def connection(self) -> Connection:
        """The connection in the transaction, to which everything gathered so far is written.

        :raises StaleEpoch: if a newer kernel has taken over
        :raises ChangesLost: if a row did not change as expected
        """
        if self.transaction is None:
            self.begin()
        self.write()
        return self._connection

    def write(self, *more: Write) -> None:
        """Write what was gathered, and more; before :meth:`begin`, as a transaction of its own.

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
