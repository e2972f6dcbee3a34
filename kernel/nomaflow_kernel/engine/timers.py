"""Due times by their subject, and the purposes of the engine's timers."""

from __future__ import annotations

import enum
import heapq
from typing import Generic, TypeVar

_Subject = TypeVar("_Subject")
_Time = TypeVar("_Time", int, float)
_MOST_REPLACED = 100
"""The most replaced entries that stay in the heap, besides one for each subject."""


class TimerKind(enum.StrEnum):
    """The purpose of a timer."""

    ATTEMPT_DUE = "attempt_due"
    """A PENDING attempt's back-off is over."""
    QUEUE_TIMEOUT = "queue_timeout"
    """A QUEUED run has waited for its queue_timeout_seconds."""
    JOB_TIMEOUT = "job_timeout"
    """A run's timeout_seconds are over; while an attempt is with a host, the host enforces this limit itself."""
    CALL_TIMEOUT = "call_timeout"
    """A call_job step's timeout_seconds are over."""
    HOST_CLOCKS = "host_clocks"
    """The leases of the hosts are due for a check."""
    PAUSE_END = "pause_end"
    """A pause ends by itself."""
    HOST_AWAY = "host_away"
    """A host has left, or has been away for long."""


class DueTimes(Generic[_Subject, _Time]):
    """The due time of each of many subjects, in a heap. A replaced entry stays in it for a while and is ignored."""

    def __init__(self) -> None:
        self._current: dict[_Subject, _Time] = {}
        self._heap: list[tuple[_Time, _Subject]] = []

    def __len__(self) -> int:
        return len(self._current)

    def put(self, subject: _Subject, due: _Time | None) -> None:
        """Set when a subject is due, in place of what was set before; None means never."""
        if due is None:
            self._current.pop(subject, None)
            return
        self._current[subject] = due
        heapq.heappush(self._heap, (due, subject))
        if len(self._heap) > 2 * len(self._current) + _MOST_REPLACED:
            self._heap = [(due, subject) for subject, due in self._current.items()]
            heapq.heapify(self._heap)

    def get(self, subject: _Subject) -> _Time | None:
        """Return when a subject is due, or None."""
        return self._current.get(subject)

    def next_due(self) -> _Time | None:
        """Return the earliest due time, or None."""
        while self._heap and self._current.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: _Time) -> list[tuple[_Subject, _Time]]:
        """Remove and return the subjects that are due, earliest first, each with its due time."""
        taken = []
        while (due := self.next_due()) is not None and due <= now:
            subject = heapq.heappop(self._heap)[1]
            del self._current[subject]
            taken.append((subject, due))
        return taken
