"""Composition root of the console: builds every part and connects them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nomaflow_console.access.gate import Gate
from nomaflow_console.access.headers import IMMUTABLE
from nomaflow_console.access.links import LoginLinks
from nomaflow_console.access.origins import Origins
from nomaflow_console.access.secret import ConsoleSecret
from nomaflow_console.access.sessions import Sessions
from nomaflow_console.kernel.calls import Kernels
from nomaflow_console.pages import ALL_ROUTES
from nomaflow_console.problems import PROBLEMS
from nomaflow_console.rendering import STATIC, asset
from nomaflow_console.settings import ConsoleSettings

__all__ = ["build_app"]


def build_app(settings: ConsoleSettings, *, secret: ConsoleSecret, origins: Origins) -> ASGIApp:
    """Return the console as an ASGI application.

    :param origins: where browsers see it, which is known once it listens
    """
    kernels = Kernels(settings)
    sessions = Sessions(secret=secret, ended_file=settings.state_folder / "console-ended", secure=settings.secure)

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await kernels.close()

    routes = [*ALL_ROUTES, Route("/static/{digest}/{path:path}", static)]
    app = Starlette(routes=routes, lifespan=life, exception_handlers=PROBLEMS)
    app.add_middleware(WithStatus, kernels=kernels)
    app.state.kernels, app.state.sessions = kernels, sessions
    app.state.links = LoginLinks(secret=secret, started=time.time())
    return Gate(app, origins=origins, sessions=sessions)


class WithStatus:
    """Gives each page of a session the line about the kernel."""

    def __init__(self, app: ASGIApp, *, kernels: Kernels) -> None:
        self._app = app
        self._kernels = kernels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        session = scope.get("state", {}).get("session")
        if scope["type"] == "http" and session is not None and not scope["path"].startswith("/static/"):
            scope["state"]["kernel"] = await self._kernels.principal(session.token).status()
        await self._app(scope, receive, send)


async def static(request: Request) -> Response:
    """Return a file of ``static`` at the address that has its hash."""
    path = request.path_params["path"]
    file = (STATIC / path).resolve()
    if not file.is_relative_to(STATIC) or not file.is_file() or asset(path) != request.url.path:
        return Response("no such file\n", status_code=404, media_type="text/plain")
    return FileResponse(file, headers={"cache-control": IMMUTABLE})
