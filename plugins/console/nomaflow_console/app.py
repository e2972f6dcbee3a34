"""Composition root of the console: builds every part and connects them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow_console.access.gate import Gate
from nomaflow_console.access.links import LoginLinks
from nomaflow_console.access.origins import Origins
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import Sessions
from nomaflow_console.answering import Answering
from nomaflow_console.assets import serve_asset
from nomaflow_console.error_pages import refusal
from nomaflow_console.kernel.calls import Kernels, principal_of
from nomaflow_console.live import Streams
from nomaflow_console.pages import ALL_ROUTES, LIVE_VIEWS
from nomaflow_console.remembered_pages import PageMemory
from nomaflow_console.settings import ConsoleSettings


def build_app(settings: ConsoleSettings, *, secret: ConsoleSecret, origins: Origins) -> tuple[Gate, Streams]:
    """Return the console as an ASGI application, and its open streams.

    :param origins: where browsers see it, which is known once it listens
    """
    pages = PageMemory()
    kernels = Kernels(settings, unwatched=pages.forget if settings.takes_tokens else lambda _: None)
    sessions = Sessions(
        secret=secret,
        ended_file=settings.state_folder / "console-ended",
        secure=settings.secure,
        takes_tokens=settings.takes_tokens,
    )

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await kernels.close()

    routes = [*ALL_ROUTES, Route("/live", live), Route("/static/{digest}/{path:path}", serve_asset)]
    app = Starlette(routes=routes, lifespan=life, exception_handlers={HTTPException: raised})
    app.add_middleware(Answering, kernels=kernels, pages=pages)
    app.router.redirect_slashes = False
    app.state.kernels, app.state.sessions, app.state.settings = kernels, sessions, settings
    app.state.pages = pages
    app.state.streams = streams = Streams(views=LIVE_VIEWS, sessions=sessions)
    app.state.links = LoginLinks(secret=secret, started=time.time())
    gate = Gate(app, origins=origins, sessions=sessions, refusal=refusal, user_header=settings.user_header)
    return gate, streams


async def raised(request: Request, error: Exception) -> Response:
    """Let an unknown address be answered like every other error."""
    del request
    raise error


async def live(request: Request) -> Response:
    """Return the stream of a page."""
    streams: Streams = request.app.state.streams
    return streams.open(request, principal_of(request))
