"""The page of one job: its runs, values, definition and callables."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/jobs/{job_id}", placeholder),
]
