"""The engine's timers: a heap of monotonic due times."""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Callable


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


OF_NO_RUN = frozenset({TimerKind.HOST_CLOCKS, TimerKind.PAUSE_END, TimerKind.HOST_AWAY})
_LEAST_SWEPT = 100


class Timers:
    """The heap of timers. One that no longer applies stays until it is due or swept; its handler ignores it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerKind, str]] = []
        self._counter = itertools.count()
        self._sweep_at = _LEAST_SWEPT

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, kind: TimerKind, subject: str = "") -> None:
        """Set a timer for ``due``, in monotonic seconds; an instant that has passed is due at once.

        :param subject: the run, the pause or the host that it is for
        """
        heapq.heappush(self._heap, (due, next(self._counter), kind, subject))

    def take_due(self, now: float) -> list[tuple[TimerKind, str]]:
        """Remove the due timers, earliest first, and return the kind and the subject of each."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2:])
        return due

    def sweep(self, applies: Callable[[TimerKind, str], bool]) -> None:
        """Remove the timers that no longer apply, once there are twice as many as the last sweep left.

        A run of a millisecond would otherwise leave 200 bytes here for as long as its timeout lasts.
        """
        if len(self._heap) >= self._sweep_at:
            self._heap = [each for each in self._heap if applies(*each[2:])]
            heapq.heapify(self._heap)
            self._sweep_at = max(2 * len(self._heap), _LEAST_SWEPT)

    def due_of(self, kind: TimerKind) -> dict[str, float]:
        """Return when the timers of a kind are due, by their subjects."""
        return {subject: due for due, _, each, subject in self._heap if each is kind}

    def next_due(self) -> float | None:
        """Return when the next timer is due, or None."""
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()
