"""The form that replays a run."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/runs/{run_id}/replay", placeholder),
    Route("/runs/{run_id}/replay", placeholder, methods=["POST"]),
]
