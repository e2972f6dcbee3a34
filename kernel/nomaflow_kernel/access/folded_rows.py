"""Audit rows that may come often: the first of a kind is written at once, similar ones within a minute as a count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from nomaflow_kernel.history.access_records import AuditRecord

_SEVERAL = "(several)"
_MOST_KINDS = 256
_Key = tuple[str, ...]


class FoldedRows:
    """Folds rows. They are bounded: beyond so many kinds in a period they are told apart by principal only.

    :param write: takes rows to write
    :param kinds: that number; there may be as many principals beyond
    :param on_first: called with the first row of a kind
    :param on_more: called with how many were only counted, at the end of each period
    :param seconds: how long similar ones are only counted
    """

    def __init__(
        self,
        write: Callable[[Sequence[AuditRecord]], None],
        *,
        kinds: int = _MOST_KINDS,
        on_first: Callable[[AuditRecord], None] = lambda _: None,
        on_more: Callable[[int], None] = lambda _: None,
        seconds: float,
    ) -> None:
        self._write = write
        self._most = kinds
        self._on_first = on_first
        self._on_more = on_more
        self._seconds = seconds
        self._kinds: dict[_Key, AuditRecord] = {}
        self._more: Counter[_Key] = Counter()
        self._end: asyncio.TimerHandle | None = None

    def add(self, record: AuditRecord) -> None:
        """Count a row; write it if it is the first of its kind."""
        key, record = self._kind(record)
        if key in self._kinds:
            self._more[key] += 1
            return
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(self._seconds, self.flush)
        self._kinds[key] = record
        self._on_first(record)
        self._write((record,))

    def flush(self) -> None:
        """Write how many more there were of each kind, and begin anew."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._on_more(self._more.total())
        if self._more:
            rows = [(self._kinds[key], count) for key, count in self._more.items()]
            self._write([replace(first, count=count, note="", correlation="") for first, count in rows])
        self._kinds.clear()
        self._more.clear()

    def _kind(self, record: AuditRecord) -> tuple[_Key, AuditRecord]:
        """Return the kind of a row, and the record for it: a coarser one if there are too many kinds."""
        of_error = record.correlation if record.outcome == "INTERNAL" else ""
        key: _Key = (record.principal, record.address, record.action, record.outcome, record.target, of_error)
        if key in self._kinds or len(self._kinds) < self._most:
            return key, record
        key = (record.principal, record.outcome)
        record = replace(record, address=_SEVERAL, action=_SEVERAL, target=_SEVERAL, note="", correlation="")
        if key in self._kinds or len(self._kinds) < 2 * self._most:
            return key, record
        return (record.outcome,), replace(record, principal=_SEVERAL)
