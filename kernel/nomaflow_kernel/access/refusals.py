"""Refused calls: the first of its kind is told at once, like ones within a minute become one row with their number."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from nomaflow_kernel.history.access_records import AuditRecord

__all__ = ["Refusals"]

_LOG = logging.getLogger(__name__)
_SEVERAL = "(several)"
_MOST_KINDS = 256
_MOST_PRINCIPALS = 512
_Key = tuple[str, ...]


class Refusals:
    """Folds refused calls. Its memory is bounded: beyond 256 kinds a minute they are told apart by principal only.

    :param write: takes rows to write
    :param seconds: how long like ones are counted
    :ivar total: outcome → the number of refused calls so far
    """

    def __init__(self, write: Callable[[Sequence[AuditRecord]], None], *, seconds: float = 60.0) -> None:
        self.total: Counter[str] = Counter()
        self._write = write
        self._seconds = seconds
        self._kinds: dict[_Key, AuditRecord] = {}
        self._more: Counter[_Key] = Counter()
        self._warned: set[str] = set()
        self._end: asyncio.TimerHandle | None = None

    def add(self, record: AuditRecord) -> None:
        """Count a refused call; write it if it is the first of its kind."""
        self.total[record.outcome] += 1
        key, record = self._kind(record)
        if key in self._kinds:
            self._more[key] += 1
            return
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(self._seconds, self.flush)
        self._kinds[key] = record
        self._warn(record)
        self._write((record,))

    def flush(self) -> None:
        """Write how many more there were of each kind, and begin anew."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._more:
            _LOG.warning("%d more calls like those were refused since", self._more.total())
            self._write([replace(self._kinds[key], count=count) for key, count in self._more.items()])
        self._kinds.clear()
        self._more.clear()
        self._warned.clear()

    def _kind(self, record: AuditRecord) -> tuple[_Key, AuditRecord]:
        """Return the kind of a refused call, and the record for it: a coarser one if there are too many kinds."""
        of_error = record.correlation if record.outcome == "INTERNAL" else ""
        key: _Key = (record.principal, record.address, record.action, record.outcome, record.target, of_error)
        if key in self._kinds or len(self._kinds) < _MOST_KINDS:
            return key, record
        key = (record.principal, record.outcome)
        record = replace(record, address=_SEVERAL, action=_SEVERAL, target=_SEVERAL, note="", correlation="")
        if key in self._kinds or len(self._kinds) < _MOST_PRINCIPALS:
            return key, record
        return (record.outcome,), replace(record, principal=_SEVERAL)

    def _warn(self, record: AuditRecord) -> None:
        if record.outcome == "UNAUTHENTICATED" and record.address not in self._warned:
            self._warned.add(record.address)
            _LOG.warning("a call from %s has no valid credential: %s", record.address, record.action)
