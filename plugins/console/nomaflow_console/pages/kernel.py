"""The page of the kernel: what it is, whether it can work, its limits, and what the caller may do."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.live import LiveView, of_kinds, rendered
from nomaflow_console.rendering import page


async def _context(request: Request) -> dict[str, Any]:
    kernel = kernel_of(request)
    about, serving = await asyncio.gather(kernel.get_kernel(), kernel.is_serving())
    return {"about": about, "serving": serving}


async def show(request: Request) -> Response:
    """Return the page."""
    return page(request, "kernel.html", title="Kernel", live="kernel", **await _context(request))


async def as_json(request: Request) -> Response:
    """Return the kernel in the shape of its value."""
    return JsonAnswer((await kernel_of(request).get_kernel()).to_json())


LIVE = {
    "kernel": LiveView(
        concerns=of_kinds("kernel."),
        parts=rendered({"kernel-page": "parts/kernel_page.html"}, _context),
        fresh_seconds=lambda _: 10.0,
    )
}
ROUTES = [Route("/kernel", show), Route("/kernel.json", as_json)]
