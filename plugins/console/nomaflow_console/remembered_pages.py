"""Pages as they were shown last: what a person reads while the kernel is away."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

from starlette.requests import Request

_log = logging.getLogger(__name__)

STREAM_NAMES = frozenset({"after", "once", "as_of"})
"""Names in the address of a stream that are about the stream, and not about its page."""
_MOST_CHARACTERS = 8_000_000
_Key: TypeAlias = tuple[str | None, str, str]


def stream_of(request: Request) -> str:
    """Return what a stream's address says of its page."""
    return urlencode([(name, value) for name, value in request.query_params.multi_items() if name not in STREAM_NAMES])


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPage:
    """One page, with what it takes to render it again for another session of the same principal.

    :param live: the address of its stream, which goes on after what the page shows
    :param stream: what that address says of the page
    :param as_of: when the kernel was asked last
    :param characters: the length of its HTML
    """

    template: str
    context: Mapping[str, Any]
    live: str
    stream: str
    as_of: datetime
    characters: int


class PageMemory:
    """Remembers the pages that were read last, by principal, zone and address.

    All who call the kernel with the same token may read the same, as long as the kernel takes it: their pages are
    forgotten when it does not, and when nobody watches any more whether it does. The content of a page is about as
    large as its HTML, which therefore bounds the memory: a page leaves out of it what it does not show.

    :param most: characters of HTML of all pages together
    """

    def __init__(self, most: int = _MOST_CHARACTERS) -> None:
        self._most = most
        self._pages: OrderedDict[_Key, ShownPage] = OrderedDict()
        self._streams: dict[_Key, _Key] = {}
        self._characters = 0

    def keep(self, request: Request, shown: ShownPage) -> None:
        """Remember a page, unless it is too large; the oldest ones are forgotten where all become too much."""
        self._put(_key(request, _address(request)), shown)

    def renew(self, request: Request, context: Mapping[str, Any], characters: int) -> None:
        """Take over what a stream has read anew for its page.

        :param characters: the length of its HTML
        """
        key = self._streams.get(_key(request, stream_of(request)))
        if key is not None:
            shown = self._pages[key]
            whole, most = {**shown.context, **context}, max(shown.characters, characters)
            self._put(key, replace(shown, context=whole, as_of=datetime.now(UTC), characters=most))

    def of(self, request: Request) -> ShownPage | None:
        """Return the page of a request's address as it was shown last; None if it never was."""
        return self._pages.get(_key(request, _address(request)))

    def forget(self, token: str | None) -> None:
        """Forget all pages of a principal: it may have lost its access, and nobody would notice."""
        keys = [key for key in self._pages if key[0] == token]
        for key in keys:
            self._forget(key)
        if keys:
            _log.info("%d pages that were shown by a token are no longer remembered", len(keys))

    def _put(self, key: _Key, shown: ShownPage) -> None:
        self._forget(key)
        if shown.characters > self._most:
            return
        self._pages[key] = shown
        self._streams[(*key[:2], shown.stream)] = key
        self._characters += shown.characters
        while self._characters > self._most:
            self._forget(next(iter(self._pages)))

    def _forget(self, key: _Key) -> None:
        shown = self._pages.pop(key, None)
        if shown is not None:
            self._characters -= shown.characters
            stream = (*key[:2], shown.stream)
            if self._streams.get(stream) == key:
                del self._streams[stream]


def _key(request: Request, place: str) -> _Key:
    session = request.state.session
    return session.token, session.zone, place


def _address(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}"
