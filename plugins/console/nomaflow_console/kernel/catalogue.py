"""Jobs and hosts as a page needs them beside something else: for zones of times, filters and the name of an address."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from rapidfuzz import process
from starlette.requests import Request

from nomaflow.client import NotFound
from nomaflow.client.values import CatalogueView, HostView, JobView
from nomaflow_console.kernel.calls import kernel_of

__all__ = ["known_host", "known_jobs"]

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


async def known_host(request: Request, name: str) -> HostView:
    """Return a host.

    :raises NotFound: if there is none of this name; it tells similar ones
    """
    hosts = await kernel_of(request).list_hosts()
    found = next((host for host in hosts if host.name == name), None)
    if found is not None:
        return found
    near = [match for match, _, _ in process.extract(name, [host.name for host in hosts], limit=3, score_cutoff=60)]
    fix = f"did you mean {' or '.join(near)}?" if near else "the page Hosts lists all that have ever attached"
    raise NotFound(f"there is no host {name!r}", reason="UNKNOWN_HOST", fix=fix)
