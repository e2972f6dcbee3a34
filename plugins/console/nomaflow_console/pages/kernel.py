"""The page of the kernel: what it is, whether it can work, its limits, and what the caller may do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client.values import EventView
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.live.views import LiveView
from nomaflow_console.rendering import live_part, page

__all__ = ["LIVE", "ROUTES"]


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


class KernelPage:
    """The live part of the page: all of it."""

    fresh_seconds = 10.0

    def concerns(self, event: EventView, request: Request) -> bool:
        """Return True for events of kernels."""
        del request
        return event.kind.startswith("kernel.")

    async def parts(self, request: Request) -> Mapping[str, str]:
        """Return the page's content."""
        return {"kernel-page": live_part(request, "parts/kernel_page.html", **await _context(request))}


LIVE: Mapping[str, LiveView] = {"kernel": KernelPage()}
ROUTES = [Route("/kernel", show), Route("/kernel.json", as_json)]
