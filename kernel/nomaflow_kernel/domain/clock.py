"""Time as the kernel sees it: wall time for people and records, monotonic time for waiting."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """A source of both times; tests inject their own."""

    def now_us(self) -> int:
        """Return wall time, microseconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never go back and do not jump with the wall clock."""


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Return wall time, microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the monotonic clock, in seconds."""
        return time.monotonic()


def from_us(value: int) -> datetime:
    """Return the aware UTC datetime of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=value)


def to_us(value: datetime) -> int:
    """Return microseconds since the epoch of an aware datetime."""
    return (value - EPOCH) // timedelta(microseconds=1)
