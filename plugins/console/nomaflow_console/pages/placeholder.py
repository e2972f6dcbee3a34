"""A page that is not written yet."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nomaflow_console.rendering import page

__all__ = ["placeholder"]


async def placeholder(request: Request) -> Response:
    """Return an empty page."""
    return page(request, "placeholder.html", title=request.url.path)
