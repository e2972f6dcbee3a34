"""A bound of messages a second, and fewer where they take long to make; the newest state wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_REST = 3
"""A message that took some time to make is followed by a pause of so many times that."""


class Throttle:
    """Says when the next message may go.

    :param seconds: between two messages
    :param wake: called when the next one may go, if one had to wait
    """

    def __init__(self, seconds: float, wake: Callable[[], None]) -> None:
        self._seconds = seconds
        self._wake = wake
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ready(self) -> bool:
        """Return True if a message may go now; else there will be a call when one may."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._next:
            self._next = now + self._seconds
            return True
        if self._timer is None:
            self._timer = loop.call_at(self._next, self._due)
        return False

    def spent(self, seconds: float) -> None:
        """Take note of how long a message took to make: a page never keeps the console, and the kernel, busy."""
        self._next = max(self._next, asyncio.get_running_loop().time() + _REST * seconds)

    def cancel(self) -> None:
        """Forget a call that is due."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._timer = None
        self._wake()
