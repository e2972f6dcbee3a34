"""The page of coming fires."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/schedule", placeholder),
]
