"""The jobs as a page needs them beside something else: for zones of times, and for what a filter may be set to."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.requests import Request

from nomaflow.client.values import CatalogueView, JobView
from nomaflow_console.kernel.calls import kernel_of

__all__ = ["known_jobs"]

_FRESH_SECONDS = 5.0


@dataclass(kw_only=True, slots=True)
class _Kept:
    read_at: float = float("-inf")
    catalogue: CatalogueView = field(default_factory=CatalogueView)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


async def known_jobs(request: Request) -> dict[str, JobView]:
    """Return the jobs by id, removed ones included, as they were at most five seconds ago.

    Everybody with the same token sees the same jobs, so that one answer serves all.
    """
    state = request.app.state
    if not hasattr(state, "known_jobs"):
        state.known_jobs = {}
    kept: _Kept = state.known_jobs.setdefault(request.state.session.token, _Kept())
    async with kept.reading:
        if time.monotonic() - kept.read_at > _FRESH_SECONDS:
            kept.catalogue = await kernel_of(request).list_jobs(include_removed=True)
            kept.read_at = time.monotonic()
    return {job.job_id: job for job in kept.catalogue.jobs}
