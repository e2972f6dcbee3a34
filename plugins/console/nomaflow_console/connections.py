"""HTTP connections with a time limit for each request, and a limit of those that only wait."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
"""How long a request may take to come, with its body; and how long a connection stays open between two."""
_MOST_WAITING = 256


class PromptProtocol(H11Protocol):
    """A connection that ends if its next request does not come whole in time.

    Whoever can reach the port can open connections and say nothing. One too many ends the one that has waited longest:
    a browser asks at once, so that a flood costs it nothing.

    :param waiting: those of the same server that wait for a request, the longest waiting first
    """

    def __init__(self, *args: Any, waiting: dict[PromptProtocol, None], **more: Any) -> None:
        super().__init__(*args, **more)
        self._waiting = waiting
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def handle_events(self) -> None:
        """Take in what has come."""
        super().handle_events()
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._wait_no_more()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait()  # before those that have come already are taken in
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self._waiting[self] = None
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
            if len(self._waiting) > _MOST_WAITING:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                oldest.transport.abort()

    def _wait_no_more(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
