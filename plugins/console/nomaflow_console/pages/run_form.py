"""The form that runs a job."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/jobs/{job_id}/run", placeholder),
    Route("/jobs/{job_id}/run", placeholder, methods=["POST"]),
]
