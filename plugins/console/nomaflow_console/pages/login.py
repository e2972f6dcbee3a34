"""Login by a link or a token, and logout."""

from __future__ import annotations

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow_console.access.links import LinkRefused, LoginLinks
from nomaflow_console.access.sessions import Session, Sessions
from nomaflow_console.rendering import page

__all__ = ["ROUTES", "own_address"]


async def show(request: Request) -> Response:
    """Return the page to which a login link leads; its script posts the code, which no server has seen until then."""
    return page(
        request, "login.html", title="Log in", next=own_address(request.query_params.get("next", "")), problem=""
    )


async def log_in(request: Request) -> Response:
    """Start a session for a code."""
    form: ImmutableMultiDict[str, str] = request.state.form
    links: LoginLinks = request.app.state.links
    sessions: Sessions = request.app.state.sessions
    target = own_address(form.get("next", ""))
    try:
        name = links.use(form.get("code", ""))
    except LinkRefused as error:
        return page(request, "login.html", status=403, title="Log in", next=target, problem=str(error))
    cookie = sessions.set_cookie(sessions.start(name=name, principal="owner"))
    return RedirectResponse(target, status_code=303, headers={"set-cookie": cookie})


async def log_out(request: Request) -> Response:
    """End the session."""
    session: Session = request.state.session
    sessions: Sessions = request.app.state.sessions
    return RedirectResponse("/login", status_code=303, headers={"set-cookie": sessions.end(session)})


def own_address(target: str) -> str:
    """Return an address of this console to go to: the one given, unless it leads elsewhere."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


ROUTES = [
    Route("/login", show),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]
