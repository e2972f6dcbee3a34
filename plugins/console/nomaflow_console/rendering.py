"""Pages and parts of pages, from templates."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from nomaflow_console.kernel.calls import KernelStatus
from nomaflow_console.views import durations, sentences, states, times

__all__ = ["NAVIGATION", "STATIC", "THEMES", "THEME_COOKIE", "asset", "environment", "fragment", "page"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
NAVIGATION = (
    ("Jobs", "/"),
    ("Runs", "/runs"),
    ("Schedule", "/schedule"),
    ("Hosts", "/hosts"),
    ("Activity", "/activity"),
)
"""The pages of the header: name and address."""
THEME_COOKIE = "theme"
THEMES = ("light", "dark")
"""The cookie of the choice between light and dark; without it the page is as the system says."""


@cache
def asset(path: str) -> str:
    """Return the address of a file in ``static``; it changes with the file, so that browsers may keep it for ever.

    :raises FileNotFoundError: if there is no such file
    """
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
    return f"/static/{digest}/{path}"


@cache
def environment() -> Environment:
    """Return the environment of all templates. Text is always escaped, and a missing value is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(asset=asset, **_words())
    return made


def _words() -> dict[str, Any]:
    """Return what templates call: ``when``, ``took``, ``state_badge``."""
    return {
        **times.words(),
        "amount": sentences.amount,
        "counted": sentences.counted,
        "rough": durations.rough,
        "state_badge": states.state_badge,
        "ticking": durations.ticking,
        "took": durations.took,
    }


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a whole page.

    :param template: a file of ``templates``
    :param status: the HTTP status
    """
    return HTMLResponse(fragment(request, template, **context), status_code=status)


def fragment(request: Request, template: str, **context: Any) -> str:
    """Return the HTML of a part of a page; the template sees the same values as a page."""
    session = getattr(request.state, "session", None)
    shared = {
        "request": request,
        "session": session,
        "csrf": session.csrf if session else "",
        "zone": times.Zone.of_cookie(session.zone if session else ""),
        "theme": theme if (theme := request.cookies.get(THEME_COOKIE, "")) in THEMES else "",
        "now": datetime.now(UTC),
        "kernel": getattr(request.state, "kernel", KernelStatus()),
        "nav": NAVIGATION,
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
    }
    return environment().get_template(template).render({**shared, **context})
