"""Facts about all jobs that pages need, and the host that an address names.

The cost grows with the jobs, so an answer serves all who have the same token, for five seconds at least, and for twenty
times as long as it took: it costs a twentieth of the kernel's time at most. Pages ask for single jobs anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from nomaflow.client import NotFound
from nomaflow.client.values import HostView, JobPageView
from nomaflow_api.near_names import near_names
from nomaflow_console.kernel.calls import kernel_of

__all__ = ["KeptJobs", "job_choices", "job_counts", "known_host"]

_FRESH_SECONDS, _FRESH_TIMES = 5.0, 20


@dataclass(kw_only=True, slots=True)
class KeptJobs:
    """One answer, and when it is asked for again."""

    until: float = float("-inf")
    page: JobPageView = field(default_factory=JobPageView)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, ask: Callable[[], Awaitable[JobPageView]]) -> JobPageView:
        """Return the answer, asked for now if the one that is kept is too old."""
        async with self.reading:
            began = time.monotonic()
            if began >= self.until:
                self.page = await ask()
                ended = time.monotonic()
                self.until = ended + max(_FRESH_SECONDS, _FRESH_TIMES * (ended - began))
            return self.page


async def job_counts(request: Request) -> JobPageView:
    """Return the counts of all jobs, without the jobs."""
    return await _kept(request, "counts").read(lambda: kernel_of(request).list_jobs_page(page_size=1, with_counts=True))


async def job_choices(request: Request) -> JobPageView:
    """Return the first 500 jobs, and the counts of all, removed ones included: what the filters of runs offer."""
    return await _kept(request, "choices").read(
        lambda: kernel_of(request).list_jobs_page(with_counts=True, include_removed=True)
    )


def _kept(request: Request, what: str) -> KeptJobs:
    known: dict[tuple[str | None, str], KeptJobs] = request.app.state.kept_jobs
    return known.setdefault((request.state.session.token, what), KeptJobs())


async def known_host(request: Request, name: str) -> HostView:
    """Return a host.

    :raises NotFound: if there is none of this name; it tells similar ones
    """
    hosts = await kernel_of(request).list_hosts()
    found = next((host for host in hosts if host.name == name), None)
    if found is not None:
        return found
    near = near_names(name, [host.name for host in hosts])
    fix = f"did you mean {' or '.join(near)}?" if near else "the page Hosts lists all that have ever attached"
    raise NotFound(f"there is no host {name!r}", reason="UNKNOWN_HOST", fix=fix)
