"""Recognises the commits of a kernel in what it sends to a PostgreSQL."""

from __future__ import annotations

__all__ = ["CommitSigns"]


class CommitSigns:
    """One connection's messages, in order; the first one names its program."""

    def __init__(self) -> None:
        self._writes: bool | None = None
        self._begun = False

    def commits(self, data: bytes) -> bool:
        """Return whether a message commits; outside a transaction that was begun, each that is executed does."""
        if self._writes is None:
            self._writes = b"nomaflow-writer" in data
            return False
        found = self._writes and (b"COMMIT" in data if self._begun else data.startswith(b"B"))
        self._begun = b"BEGIN" in data or (self._begun and b"COMMIT" not in data and b"ROLLBACK" not in data)
        return found
