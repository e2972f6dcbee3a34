"""Gives every request of a session the line about the kernel, a deadline, and a page for an error."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomaflow.client import KernelUnreachable
from nomaflow_api.deadlines import patience_seconds
from nomaflow_console.access.sessions import Session
from nomaflow_console.error_pages import of_error
from nomaflow_console.kernel.calls import Kernels
from nomaflow_console.remembered_pages import PageMemory
from nomaflow_console.rendering import remembered

_READ_SECONDS, _CHANGE_SECONDS = 10.0, patience_seconds("ReloadHost")
"""Until an answer begins; a reload of a host takes the longest of all changes."""
_WITHOUT_KERNEL = ("/login", "/logout", "/preferences", "/live", "/static/")


class Answering:
    """Answers each request, whatever happens."""

    def __init__(self, app: ASGIApp, *, kernels: Kernels, pages: PageMemory) -> None:
        self._app = app
        self._kernels = kernels
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        begun = False
        reads = request.method in ("GET", "HEAD")

        async def sending(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                deadline.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(_READ_SECONDS if reads else _CHANGE_SECONDS) as deadline:
                await self._know_kernel(request, reads=reads)
                await self._app(scope, receive, sending)
        except Exception as error:
            if begun:
                raise  # too late for a page: the connection ends
            response = await self._as_it_was(request, error) or await of_error(request, error)
            await response(scope, receive, send)

    async def _know_kernel(self, request: Request, *, reads: bool) -> None:
        """Give the request the line about the kernel.

        :raises KernelUnreachable: for a page that would ask a kernel that is known to be away
        """
        session: Session | None = request.state.session
        if session is None or request.url.path.startswith("/static/"):
            return
        status = await self._kernels.principal(session.token).status()
        request.state.kernel = status
        if status.away_since is not None and reads and not request.url.path.startswith(_WITHOUT_KERNEL):
            raise KernelUnreachable("the kernel does not answer")

    async def _as_it_was(self, request: Request, error: Exception) -> Response | None:
        """Return the page as it was shown last, if the kernel is away and the page was ever shown."""
        if not isinstance(error, KernelUnreachable | TimeoutError) or request.method not in ("GET", "HEAD"):
            return None
        session: Session | None = request.state.session
        if session is None or (shown := self._pages.of(request)) is None:
            return None
        status = await self._kernels.principal(session.token).status()
        if status.away_since is None:
            if isinstance(error, TimeoutError):
                return None  # it is there, and slow
            status = replace(status, away_since=datetime.now(UTC))
        request.state.kernel = status
        return remembered(request, shown)
