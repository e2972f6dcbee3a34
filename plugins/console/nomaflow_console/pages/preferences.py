"""The choices of a browser, kept in its cookies: the time zone, and light or dark."""

from __future__ import annotations

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow_console.access.sessions import ZONE_COOKIE
from nomaflow_console.pages.return_targets import target_of
from nomaflow_console.rendering import THEME_COOKIE, THEMES
from nomaflow_console.views.times import Zone

_YEAR = 365 * 24 * 3600


async def choose(request: Request) -> Response:
    """Keep a choice, and go back to the page it was made on."""
    form: ImmutableMultiDict[str, str] = request.state.form
    response = RedirectResponse(target_of(form, "/"), status_code=303)
    if "zone" in form:
        response.set_cookie(ZONE_COOKIE, Zone.of_cookie(form["zone"]).cookie, max_age=_YEAR, samesite="strict")
    if "theme" in form:
        theme = form["theme"] if form["theme"] in THEMES else ""
        response.set_cookie(THEME_COOKIE, theme, max_age=_YEAR if theme else 0, samesite="strict")
    return response


ROUTES = [Route("/preferences", choose, methods=["POST"])]
