"""What a page says of its live parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from nomaflow.client.values import EventView

__all__ = ["LiveView", "ServerEvent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerEvent:
    """One message of a stream.

    :param event: its name; empty for a message of parts
    :param log_seq: the last log line that the page has with it; 0 for unchanged
    """

    data: str
    event: str = ""
    log_seq: int = 0


class LiveView(Protocol):
    """The live parts of one page. May also have ``extra(request) -> AsyncIterator[ServerEvent]``."""

    def concerns(self, event: EventView) -> bool:
        """Return True if the parts may look different after an event."""

    async def parts(self, request: Request) -> Mapping[str, str]:
        """Return the HTML of each part by the id of its element.

        :param request: its query is that of the page, with ``view`` and ``after``
        """
