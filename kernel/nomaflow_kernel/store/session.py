"""The context of a write operation: the open transaction, the next event number, the digests already stored."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from sqlalchemy import Connection

__all__ = ["KnownDigests", "WriteSession"]

_KNOWN_LIMIT = 10_000


class KnownDigests:
    """Digests of definitions that are certainly stored; bounded, dropping the least recently used."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def add(self, digest: str) -> None:
        """Remember a digest; only after its commit."""
        self._digests[digest] = None
        if len(self._digests) > _KNOWN_LIMIT:
            self._digests.popitem(last=False)


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
