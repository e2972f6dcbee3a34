"""Pages and parts of pages, from templates."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from nomaflow_console.assets import asset
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.views import deeds, durations, hosts, run_words, schedule, sentences, states, times
from nomaflow_telemetry.visible_text import visible

__all__ = ["NAVIGATION", "THEMES", "THEME_COOKIE", "asset", "environment", "fragment", "page"]

_HERE = Path(__file__).parent
NAVIGATION = (
    ("Jobs", "/"),
    ("Runs", "/runs"),
    ("Schedule", "/schedule"),
    ("Hosts", "/hosts"),
    ("Activity", "/activity"),
)
"""The pages of the header: name and address."""
_LIVE_NAMES = frozenset({"view", "after", "once"})
THEME_COOKIE = "theme"
THEMES = ("light", "dark")
"""The cookie of the choice between light and dark; without it the page is as the system says."""


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
        finalize=_visible,
    )
    made.globals.update(asset=asset, **_words())
    return made


def _visible(value: Any) -> Any:
    """Return text with its controls and marks of direction spelled out; what is HTML already stays as it is."""
    return visible(value) if type(value) is str else value


def _words() -> dict[str, Any]:
    """Return what templates call: ``when``, ``took``, ``state_badge``."""
    return {
        **times.words(),
        **run_words.words(),
        **deeds.words(),
        **hosts.words(),
        **schedule.words(),
        "amount": sentences.amount,
        "counted": sentences.counted,
        "rough": durations.rough,
        "state_badge": states.state_badge,
        "ticking": durations.ticking,
        "took": durations.took,
        "who": sentences.who,
    }


def page(
    request: Request, template: str, *, status: int = 200, live: str = "", log_seq: int = 0, **context: Any
) -> HTMLResponse:
    """Return a whole page.

    :param template: a file of ``templates``
    :param status: the HTTP status
    :param live: the name of its live view; without one only the line about the kernel is live
    :param log_seq: the newest line of a log that it shows
    """
    html = fragment(request, template, live=_live_address(request, live, log_seq), **context)
    return HTMLResponse(html, status_code=status)


def _live_address(request: Request, view: str, log_seq: int) -> str:
    """Return the address of a page's stream: it goes on after what the page shows, and knows the page's query."""
    kernel: KernelStatus = getattr(request.state, "kernel", KernelStatus())
    own = [(name, value) for name, value in request.query_params.multi_items() if name not in _LIVE_NAMES]
    place = [(name, str(value)) for name, value in request.path_params.items()]
    after = f"{kernel.last_event_seq}.{log_seq}"
    return f"/live?{urlencode([('view', view), ('after', after), *place, *own])}"


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
        "live": "",
        "reload_when_back": False,
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
    }
    return environment().get_template(template).render({**shared, **context})
