"""Implements ``ctx.progress``: sends the newest value, a few times a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.letters import MAX_TEXT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

_INTERVAL_SECONDS = 0.1
_LONGEST_MESSAGE = 4 * MAX_TEXT  # the host cuts it to a quarter, once the credentials in it are masked


class ProgressReporter:
    """Called by the step from any thread; sends from the loop's thread.

    :param send: sends a frame
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, send: Callable[[Mapping[str, Any]], None], slot: int
    ) -> None:
        self._loop = loop
        self._send = send
        self._slot = slot
        self._newest: dict[str, Any] | None = None
        self._scheduled = False

    def __call__(self, done: float, total: float | None, message: str) -> None:
        """Record the newest progress.

        :raises TypeError: if *done* or *total* is not a number
        """
        self._newest = {
            "is": "progress",
            "slot": self._slot,
            "at_us": time.time_ns() // 1000,
            "done": float(done),
            "total": None if total is None else float(total),
            "message": str(message)[:_LONGEST_MESSAGE],
        }
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._loop.call_later, _INTERVAL_SECONDS, self.flush)

    def flush(self) -> None:
        """Send the newest progress if that has not happened yet."""
        self._scheduled = False
        newest, self._newest = self._newest, None
        if newest is not None:
            self._send(newest)
