"""The context of a write operation: the open transaction, the next event number, the digests already stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

__all__ = ["KnownDigests", "WriteSession"]

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
    :param new_digests: definitions that this transaction stores
    """

    connection: Connection
    known_digests: KnownDigests
    last_event_seq: int
    commits: int
    new_digests: set[str] = field(default_factory=set)
