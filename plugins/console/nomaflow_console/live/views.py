"""Protocols by which a page declares its live parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from starlette.requests import Request

from nomaflow.client.values import EventView

__all__ = ["Cursor", "GoesStale", "HasExtra", "LiveView", "ServerEvent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """The point up to which a page is current; ``request.state.cursor`` of a live view's request.

    :param event_seq: the newest event
    :param log_seq: the newest line of the log; 0 if the page has none
    :param once: True if the page has no stream and asks now and then: it wants what there is now
    """

    event_seq: int = 0
    log_seq: int = 0
    once: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerEvent:
    """One message of a stream.

    :param event: its name; empty for HTML that is swapped in
    :param log_seq: the newest log line that the page has with it; 0 for unchanged
    """

    data: str
    event: str = ""
    log_seq: int = 0


class LiveView(Protocol):
    """The live parts of one page."""

    def concerns(self, event: EventView, request: Request) -> bool:
        """Return True if the parts of a page may look different after an event.

        :param request: the same that :meth:`parts` is called with
        """

    async def parts(self, request: Request) -> Mapping[str, str]:
        """Return the HTML of each part by the id of its element; the page must have each.

        :param request: its query is that of the page, with the parts of the page's address, such as ``run_id``
        """


@runtime_checkable
class GoesStale(Protocol):
    """A view whose parts look different after a while although there was no event.

    :ivar fresh_seconds: how long they are good
    """

    fresh_seconds: float


@runtime_checkable
class HasExtra(Protocol):
    """A view with further messages on the same stream."""

    def extra(self, request: Request) -> AsyncIterator[ServerEvent]:
        """Yield messages; they wait for a viewer that is slow.

        :param request: ``request.state.cursor`` says where the page is, and whether it wants no more than there is
            now. It is called again after the kernel was away
        """
