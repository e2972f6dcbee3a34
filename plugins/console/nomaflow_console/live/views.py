"""Live parts of pages, as a page declares them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from nomaflow.client.values import EventView
from nomaflow_console.rendering import live_part


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveView:
    """The live parts of one page.

    The query of a request is that of the page, with the parts of the page's address, such as ``run_id``.

    :param concerns: returns True if the parts of a page may look different after an event
    :param parts: returns the HTML of each part by the id of its element; the page must have each
    :param fresh_seconds: returns how long the parts are good although there is no event
    :param extra: yields further messages on the same stream; they wait for a viewer that is slow.
        ``request.state.cursor`` says where the page is, and whether it wants no more than there is now. It is called
        again after the kernel was away
    """

    concerns: Callable[[EventView, Request], bool]
    parts: Callable[[Request], Awaitable[Mapping[str, str]]]
    fresh_seconds: Callable[[Request], float] = lambda _: math.inf
    extra: Callable[[Request], AsyncIterator[ServerEvent]] | None = None


def of_kinds(*beginnings: str) -> Callable[[EventView, Request], bool]:
    """Return what is True for events whose kind begins so."""
    return lambda event, _: event.kind.startswith(beginnings)


def rendered(
    templates: Mapping[str, str], context: Callable[[Request], Awaitable[Mapping[str, Any]]]
) -> Callable[[Request], Awaitable[Mapping[str, str]]]:
    """Return what renders parts that are made of the same.

    :param templates: by the ids of the elements
    """

    async def parts(request: Request) -> Mapping[str, str]:
        values = await context(request)
        return {id: live_part(request, template, **values) for id, template in templates.items()}

    return parts
