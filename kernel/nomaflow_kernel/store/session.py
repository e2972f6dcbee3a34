"""The context of a write operation: the open transaction, the ends of events and audit, the digests already stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from nomaflow_kernel.history.access_records import AuditRecord

_KNOWN_LIMIT = 10_000


class KnownDigests(set[str]):
    """Digests of definitions that are certainly stored. Emptied when there are too many: it only saves statements."""

    def learn(self, digests: set[str]) -> None:
        """Remember digests; only after their commit."""
        if len(self) > _KNOWN_LIMIT:
            self.clear()
        self.update(digests)


@dataclass(kw_only=True, slots=True)
class WriteSession:
    """One open write transaction.

    :param last_event_seq: the newest event, those of this transaction included
    :param commits: number of transactions committed before this one
    :param audit_seq: the newest row of the audit before this transaction
    :param audit_hash: that row's hash
    :param new_digests: definitions that this transaction stores
    :param audit: rows that this transaction appends, in order; they are numbered and chained at its end
    """

    connection: Connection
    known_digests: KnownDigests
    last_event_seq: int
    commits: int
    audit_seq: int
    audit_hash: str
    new_digests: set[str] = field(default_factory=set)
    audit: list[AuditRecord] = field(default_factory=list)
