"""The page of one host, and its actions."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/hosts/{name}", placeholder),
    Route("/hosts/{name}/reload", placeholder, methods=["POST"]),
    Route("/hosts/{name}/forget", placeholder, methods=["POST"]),
]
