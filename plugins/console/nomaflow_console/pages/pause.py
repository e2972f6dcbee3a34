"""Pauses and resumes a job, a host, or everything."""

from __future__ import annotations

from starlette.routing import Route

from nomaflow_console.pages.placeholder import placeholder

__all__ = ["ROUTES"]

ROUTES = [
    Route("/pause", placeholder),
    Route("/pause", placeholder, methods=["POST"]),
    Route("/resume", placeholder, methods=["POST"]),
    Route("/jobs/{job_id}/pause", placeholder),
    Route("/jobs/{job_id}/pause", placeholder, methods=["POST"]),
    Route("/jobs/{job_id}/resume", placeholder, methods=["POST"]),
    Route("/hosts/{name}/pause", placeholder),
    Route("/hosts/{name}/pause", placeholder, methods=["POST"]),
    Route("/hosts/{name}/resume", placeholder, methods=["POST"]),
]
