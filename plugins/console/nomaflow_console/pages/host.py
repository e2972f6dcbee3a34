"""The page of one host: its instances, their workers, what is wrong with its code, its callables; and its actions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import known_host
from nomaflow_console.live import LiveView, of_kinds, rendered
from nomaflow_console.pages.hosts import HEARD_SECONDS, jobs_of_hosts
from nomaflow_console.rendering import page
from nomaflow_console.views.hosts import Load, load_of_event

_LOADS = ("host.reloaded", "host.reload_refused")
_MOST_CALLABLES = 500
"""The page of 20,000 has 21 MB, and takes 4.5 s of the one event loop."""


def _name(request: Request) -> str:
    """Return the host of a page, or of its live part, whose address has it in the query."""
    found: str = request.path_params.get("name") or request.query_params.get("name", "")
    return found


async def _top(request: Request) -> dict[str, Any]:
    """Return what the live part of the page shows."""
    kernel = kernel_of(request)
    name = _name(request)
    about, host, jobs, found = await asyncio.gather(
        kernel.get_kernel(),
        known_host(request, name),
        jobs_of_hosts(request),
        kernel.list_events(kinds=_LOADS, host=name, page_size=1),
    )
    return {
        "about": about,
        "host": host,
        **jobs,
        "loads": [load_of_event(each) for each in found.events],
    }


async def show(request: Request) -> Response:
    """Return the page."""
    return await _page(request, ())


async def _page(request: Request, loads: Sequence[Load], *, status: int = 200) -> Response:
    top = await _top(request)
    name = top["host"].name
    offered = await kernel_of(request).list_callables(name)
    part = request.query_params.get("callable", "")
    wanted = [each for each in offered.callables if part.casefold() in each.reference.casefold()]
    context = {
        **top,
        "loads": loads or top["loads"],
        "callables": wanted[:_MOST_CALLABLES],
        "callable_count": len(offered.callables),
        "part": part,
        "modules": [module for module in offered.modules if module.error],
        "step_types": offered.step_types,
        "address": f"/hosts/{quote(name)}" if request.method == "POST" else "",
    }
    return page(request, "host.html", title=f"Host {name}", status=status, live="host", **context)


async def as_json(request: Request) -> Response:
    """Return the host as ``nomaflow hosts -o json`` has it."""
    return JsonAnswer((await known_host(request, _name(request))).to_json())


async def reload(request: Request) -> Response:
    """Load the host's code anew. Its page says what came of it: an event does, but none of the kernel's own file."""
    name = request.path_params["name"]
    outcomes = await kernel_of(request).reload_host(name, force=request.state.form.get("force", "") == "1")
    if all(outcome.accepted or outcome.incarnation for outcome in outcomes):
        return RedirectResponse(f"/hosts/{quote(name)}#loads", status_code=303)
    return await _page(request, [Load(outcome=outcome) for outcome in outcomes], status=409)


async def forget(request: Request) -> Response:
    """Forget the host, and show the others."""
    await kernel_of(request).forget_host(request.path_params["name"])
    return RedirectResponse("/hosts", status_code=303)


LIVE = {
    "host": LiveView(
        concerns=of_kinds("host.", "pause.", "job."),
        parts=rendered({"host-top": "parts/host_top.html"}, _top),  # all but the callables
        fresh_seconds=lambda _: HEARD_SECONDS,
    )
}
ROUTES = [
    Route("/hosts/{name}.json", as_json),
    Route("/hosts/{name}", show),
    Route("/hosts/{name}/reload", reload, methods=["POST"]),
    Route("/hosts/{name}/forget", forget, methods=["POST"]),
]
