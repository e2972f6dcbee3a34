"""An event loop whose time is virtual: it jumps to the next thing that is due, so hours pass in milliseconds."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["START_US", "Stalled", "VirtualClock", "VirtualLoop"]

START_US = 1_790_000_000_000_000
_TURNS_WITHOUT_TIME = 5_000
_TURN_SECONDS = 1e-6


class Stalled(Exception):
    """Raised when a simulation has nothing left to wait for, or goes round without time passing."""


class _Jump:
    """Stands where a loop has its selector: instead of waiting it moves the loop's clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stalled("everything waits, and nothing is scheduled")
        self._turns = 0 if timeout > _TURN_SECONDS else self._turns + 1
        if self._turns > _TURNS_WITHOUT_TIME:
            self._turns = 0
            busy = list(self._loop._ready)
            raise Stalled(f"{_TURNS_WITHOUT_TIME} turns of the loop, and no time has passed; busy: {busy}")
        self._loop.jump(timeout)
        return []

    def close(self) -> None:
        """Do nothing: nothing is open."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in a fixed order, without files, sockets or threads."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = 1e-7
        self._selector = _Jump(self)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock, by a little in any case: no turn of a loop takes no time."""
        self._now += max(seconds, _TURN_SECONDS)

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no events."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps."""


class VirtualClock:
    """The kernel's two clocks on top of a loop's: the wall clock can be set, the monotonic one cannot."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.jumped_us = 0

    def now_us(self) -> int:
        """Return wall time, microseconds since the epoch."""
        return START_US + self.jumped_us + int(self._loop.time() * 1_000_000)

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return 1000.0 + self._loop.time()
