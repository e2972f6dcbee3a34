"""Cancels a run."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/runs/{run_id}/cancel", placeholder),
    Route("/runs/{run_id}/cancel", placeholder, methods=["POST"]),
]
