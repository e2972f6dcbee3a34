"""Pages and parts of pages, from templates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Match

from nomaflow_api.byte_sizes import byte_size
from nomaflow_console.assets import asset
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.remembered_pages import STREAM_NAMES, PageMemory, ShownPage
from nomaflow_console.views.activity import deed_of, person
from nomaflow_console.views.durations import ticking, took
from nomaflow_console.views.figures_told import ended_ok
from nomaflow_console.views.fire_row import fire_row, runs_into
from nomaflow_console.views.hosts import (
    attempt_link,
    brought_by,
    exclusive_running,
    host_notes,
    host_sign,
    instance_notes,
    instance_sign,
    share,
    short_id,
)
from nomaflow_console.views.html_pieces import button, command, icon
from nomaflow_console.views.job_row import job_row
from nomaflow_console.views.needs_you import page_of_job
from nomaflow_console.views.run_rows import run_row
from nomaflow_console.views.run_words import clock, fires_of, hindrance
from nomaflow_console.views.schedule import strip
from nomaflow_console.views.sentences import amount, counted, problem_place, reason_sentence, told, who, with_runs
from nomaflow_console.views.states import state_badge
from nomaflow_console.views.times import Zone, city, day_title, until, when
from nomaflow_telemetry.visible_text import first_line, printable, visible

_Part = TypeVar("_Part", bytes, str)
_HERE = Path(__file__).parent
NAVIGATION = (
    ("Jobs", "/"),
    ("Runs", "/runs"),
    ("Schedule", "/schedule"),
    ("Hosts", "/hosts"),
    ("Activity", "/activity"),
)
"""The pages of the header: name and address."""
_LIVE_NAMES = STREAM_NAMES | {"view"}
THEME_COOKIE = "theme"
THEMES = ("light", "dark")
"""The cookie of the choice between light and dark; without it the page is as the system says."""
_WORDS: tuple[Callable[..., Any], ...] = (
    amount, asset, attempt_link, brought_by, button, byte_size, city, clock, command, counted, day_title, deed_of,
    ended_ok, exclusive_running, fire_row, fires_of, first_line, hindrance, host_notes, host_sign, icon,
    instance_notes, instance_sign, job_row, page_of_job, person, printable, problem_place, reason_sentence, run_row,
    runs_into, share, short_id, state_badge, strip, ticking, told, took, until, when, who, with_runs,
)  # fmt: skip
"""What templates call."""


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
    made.globals.update({word.__name__: word for word in _WORDS})
    return made


def _visible(value: Any) -> Any:
    """Return text with its controls and marks of direction spelled out; what is HTML already stays as it is."""
    return visible(value) if type(value) is str else value


def page(
    request: Request, template: str, *, status: int = 200, live: str = "", log_seq: int = 0, **context: Any
) -> HTMLResponse:
    """Return a whole page.

    :param template: a file of ``templates``
    :param status: the HTTP status
    :param live: the name of its live view; without one only the line about the kernel is live, and the page is not
        remembered
    :param log_seq: the newest line of a log that it shows
    """
    kernel: KernelStatus = getattr(request.state, "kernel", KernelStatus())
    stream = stream_address(request, live)
    address = f"/live?{stream}&after={kernel.last_event_seq}.{log_seq}"
    html = fragment(request, template, live=address, **context)
    if live and status == 200 and kernel.as_of is not None:
        shown = ShownPage(
            template=template, context=context, live=address, stream=stream, as_of=kernel.as_of, characters=len(html)
        )
        request.app.state.kernels.watch_for(request.state.session)
        _memory(request).keep(request, shown)
    return HTMLResponse(html, status_code=status)


def _shows(request: Request) -> bool:
    """Return whether the address of a form that was sent also shows a page: most show the form.

    A form that was refused before it reached the application shows none.
    """
    routes = [] if (app := request.scope.get("app")) is None else app.routes
    sent_to = next((route.path for route in routes if route.matches(request.scope)[0] is Match.FULL), "")
    return any(route.path == sent_to and "GET" in (route.methods or ()) for route in routes)


def stream_address(request: Request, view: str) -> str:
    """Return what the address of a page's stream says of the page: its view, its place and its query."""
    place = [(name, str(value)) for name, value in request.path_params.items()]
    taken = _LIVE_NAMES | request.path_params.keys()
    own = [(name, value) for name, value in request.query_params.multi_items() if name not in taken]
    return urlencode([("view", view), *place, *own])


def _memory(request: Request) -> PageMemory:
    memory: PageMemory = request.app.state.pages
    return memory


async def streamed(parts: AsyncIterator[_Part], **more: Any) -> StreamingResponse:
    """Return an answer whose parts come one by one. It begins with the first: what refuses that one is told on a page.

    :param more: of the response: its media type, its headers
    """
    first = [part] if (part := await anext(parts, None)) is not None else []

    async def all_parts() -> AsyncIterator[_Part]:
        for each in first:
            yield each
        async for each in parts:
            yield each

    return StreamingResponse(all_parts(), **more)


def remembered(request: Request, shown: ShownPage) -> HTMLResponse:
    """Return a page as it was shown last. Its stream brings what has changed since, once there is an answer."""
    request.state.as_of = shown.as_of
    live = f"{shown.live}&as_of={int(shown.as_of.timestamp())}"
    return HTMLResponse(fragment(request, shown.template, live=live, **shown.context))


def live_part(request: Request, template: str, **context: Any) -> str:
    """Return the HTML of a live part of a page, and remember what it is made of as the page's."""
    html = fragment(request, template, **context)
    _memory(request).renew(request, context, len(html))
    return html


def fragment(request: Request, template: str, **context: Any) -> str:
    """Return the HTML of a part of a page; the template sees the same values as a page."""
    session = getattr(request.state, "session", None)
    kernel: KernelStatus = getattr(request.state, "kernel", KernelStatus())
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    shared = {
        "request": request,
        "session": session,
        "csrf": session.csrf if session else "",
        "zone": Zone.of_cookie(session.zone if session else ""),
        "theme": theme if (theme := request.cookies.get(THEME_COOKIE, "")) in THEMES else "",
        "now": datetime.now(UTC),
        "kernel": kernel,
        "as_of": getattr(request.state, "as_of", None) or kernel.as_of,
        "nav": NAVIGATION,
        "live": "",
        "reload_when_back": False,
        "path": request.url.path,
        "here": here,
        "address": here if request.method == "POST" and _shows(request) else "",
    }
    return environment().get_template(template).render({**shared, **context})
