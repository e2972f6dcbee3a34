"""The one stream of a tab: parts of the page that changed, and further messages of the page's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from nomaflow.client import ClientError, KernelUnreachable
from nomaflow.client.values import EventView
from nomaflow_api.event_loop import happens_within
from nomaflow_console.access.sessions import Session, Sessions
from nomaflow_console.kernel.calls import Principal
from nomaflow_console.kernel.hub import Subscription
from nomaflow_console.live.encoding import encode, parts_html, read_cursor, read_moment
from nomaflow_console.live.views import Cursor, LiveView, ServerEvent
from nomaflow_console.rendering import fragment
from nomaflow_console.views.times import Zone, seconds_to_midnight

_log = logging.getLogger(__name__)

MOST_STREAMS = 20
"""Streams of one session at once."""
_UPDATE_SECONDS = 0.25
"""The least time between two updates."""
_REST = 3
"""The pause after an update that took long to make, as a multiple of that time."""
_HEARTBEAT_SECONDS = 10.0
"""The longest time without a message; a page that hears nothing for much longer says that nobody answers."""
_AGAIN_SECONDS = 1.0
"""The pause before a kernel that is away is asked again."""
_WAITING = 2
"""Messages that wait for a slow viewer; then their source waits, and the next one has what is new by then."""


def _heartbeat() -> bytes:
    """Return the message that says how soon there is another: a browser's script sees messages, and no comments."""
    return encode(f"{_HEARTBEAT_SECONDS}", event="heartbeat")


async def _no_parts(request: Request) -> Mapping[str, str]:
    """Return nothing."""
    del request
    return {}


_LINE_ALONE = LiveView(concerns=lambda *_: False, parts=_no_parts)
"""The view of a page that has only the line about the kernel."""


@dataclass(kw_only=True)
class Streams:
    """All open streams of the console; they end at once when it stops.

    :param views: by the name that ``/live?view=`` gives
    """

    views: Mapping[str, LiveView]
    sessions: Sessions
    _open: set[_Stream] = field(default_factory=set)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def stopping(self) -> bool:
        """True once the console stops."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every stream."""
        self._stopped.set()
        for stream in self._open:
            stream.wake.set()

    async def unless_stopped(self, making: Coroutine[Any, Any, bytes]) -> bytes:
        """Return a message that takes some time to make; empty if the console stops meanwhile."""
        made, stopped = asyncio.create_task(making), asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({made, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return made.result() if made.done() else b""
        finally:
            made.cancel()
            stopped.cancel()
            await asyncio.gather(made, stopped, return_exceptions=True)

    def open(self, request: Request, principal: Principal) -> Response:
        """Return the stream that a request asks for; with ``once=1`` in its query it ends with what there is now."""
        session: Session = request.state.session
        if self.stopping or sum(each.session.id == session.id for each in self._open) >= MOST_STREAMS:
            text = "the console stops" if self.stopping else f"a session has at most {MOST_STREAMS} streams"
            return PlainTextResponse(text + "\n", status_code=503, headers={"retry-after": "5"})
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        event_seq, log_seq = read_cursor(last)
        once = request.query_params.get("once") == "1"
        request.state.cursor = Cursor(event_seq=event_seq, log_seq=log_seq, once=once)
        request.state.as_of = read_moment(request.query_params.get("as_of", ""))
        view = self.views.get(request.query_params.get("view", ""), _LINE_ALONE)
        stream = _Stream(streams=self, request=request, view=view, principal=principal, session=session)
        headers = {"x-accel-buffering": "no"}  # a proxy must not hold it back
        return StreamingResponse(self._counted(stream), media_type="text/event-stream", headers=headers)

    async def _counted(self, stream: _Stream) -> AsyncIterator[bytes]:
        self._open.add(stream)
        try:
            async with contextlib.aclosing(stream.messages()) as messages:
                async for message in messages:
                    yield message
        finally:
            self._open.discard(stream)


@dataclass(kw_only=True, eq=False)
class _Stream:
    """One stream."""

    streams: Streams
    request: Request
    view: LiveView
    principal: Principal
    session: Session
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._extra: deque[ServerEvent] = deque()
        self._room = asyncio.Event()
        self._may_go = 0.0
        cursor: Cursor = self.request.state.cursor
        self._event_seq, self._log_seq, self._once = cursor.event_seq, cursor.log_seq, cursor.once

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages until the viewer goes, the session is over, or the console stops."""
        stale_at = time.monotonic() + self._fresh_seconds()
        source = asyncio.create_task(self._read_extra())
        source.add_done_callback(lambda _: self.wake.set())
        try:
            with self.principal.hub.subscribe(self._event_seq, self._concerns, self.wake.set) as seen:
                seen.line(await self.principal.status())
                yield _heartbeat()
                while not self.streams.stopping:
                    if not self.streams.sessions.is_valid(self.session):
                        yield encode("", event="session-over")
                        return
                    while self._extra:
                        yield self._encoded(self._extra.popleft())
                        self._room.set()
                    began = time.monotonic()
                    if seen.changed or began >= stale_at:
                        seen.changed, stale_at = True, math.inf
                    if seen.pending and began >= self._may_go:
                        renewed = seen.changed
                        message = await self.streams.unless_stopped(self._update(seen))
                        rest = max(_UPDATE_SECONDS, (1 + _REST) * (time.monotonic() - began))
                        self._may_go = max(self._may_go, began + rest)
                        stale_at = began + self._fresh_seconds() if renewed else stale_at
                        yield message or _heartbeat()
                    if self._once and source.done() and not self._extra:
                        return
                    until = min(stale_at, self._may_go) if seen.pending else stale_at
                    if not await self._woken(until - time.monotonic()):
                        yield _heartbeat()
        finally:
            source.cancel()
            await asyncio.gather(source, return_exceptions=True)

    def _concerns(self, event: EventView) -> bool:
        return self.view.concerns(event, self.request)

    def _fresh_seconds(self) -> float:
        """Return how long the parts are good although there is no event: at midnight *06:02* is that of yesterday."""
        return min(self.view.fresh_seconds(self.request), seconds_to_midnight(Zone.of_cookie(self.session.zone).info))

    async def _woken(self, seconds: float) -> bool:
        """Wait for something to send, for so long at most; return False if there was nothing for a while."""
        woken = await happens_within(self.wake, min(_HEARTBEAT_SECONDS, max(seconds, 0.0)))
        self.wake.clear()
        return woken or seconds < _HEARTBEAT_SECONDS

    async def _update(self, seen: Subscription) -> bytes:
        """Return the message of what has changed; empty if that cannot be said now."""
        seq, changed, status = seen.take()
        parts: dict[str, str] = {}
        if status is not None:
            self.request.state.kernel = status
            for id, template in (("kernel-line", "parts/kernel_line.html"), ("hosts-badge", "parts/hosts_badge.html")):
                parts[id] = fragment(self.request, template)
        if changed:
            try:
                parts.update(await self.view.parts(self.request))
                self.request.state.as_of = None
            except KernelUnreachable:
                seen.changed = True
                self._may_go = time.monotonic() + _AGAIN_SECONDS
                seq = self._event_seq
            except ClientError as error:
                _log.info("no live parts of %s: %s", self.request.url.query, error)
            except Exception:  # noqa: BLE001  # a mistake in a part must not end the stream
                _log.exception("error %s in the live parts of %s", secrets.token_hex(4), self.request.url.query)
        self._event_seq = seq
        return self._encoded(ServerEvent(data=parts_html(parts))) if parts else b""

    def _encoded(self, message: ServerEvent) -> bytes:
        self._log_seq = message.log_seq or self._log_seq
        return encode(message.data, id=f"{self._event_seq}.{self._log_seq}", event=message.event)

    async def _read_extra(self) -> None:
        """Take the view's own messages, no faster than the viewer does."""
        if self.view.extra is None:
            return
        try:
            while True:
                try:
                    async for message in self.view.extra(self.request):  # noqa: S610  # no Django here
                        await self._queue(message)
                    return
                except KernelUnreachable:
                    if self._once:
                        return
                    await asyncio.sleep(_AGAIN_SECONDS)
        except ClientError as error:
            _log.info("no further messages of %s: %s", self.request.url.query, error)
        except Exception:  # noqa: BLE001  # the parts go on
            _log.exception("error %s in the messages of %s", secrets.token_hex(4), self.request.url.query)

    async def _queue(self, message: ServerEvent) -> None:
        """Keep a message for the viewer, and remember where its source would go on."""
        cursor: Cursor = self.request.state.cursor
        self.request.state.cursor = replace(cursor, log_seq=message.log_seq or cursor.log_seq)
        self._extra.append(message)
        self.wake.set()
        while len(self._extra) >= _WAITING:
            self._room.clear()
            await self._room.wait()
