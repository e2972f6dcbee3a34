"""The page of all jobs: what needs a person, what runs, and each job."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/", placeholder),
]
