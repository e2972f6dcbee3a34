"""Facts about all jobs that pages need, and the host that an address names.

Pages ask for single jobs anew. The counts of all may be some seconds old; what the filters of runs offer, and the zones
of jobs, some minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from starlette.requests import Request

from nomaflow.client import NotFound, PermissionDenied
from nomaflow.client.values import HostView, JobPageView
from nomaflow_api.near_names import near_names
from nomaflow_console.kernel.calls import kernel_of, principal_of
from nomaflow_console.kernel.kept_answers import KeptAnswers
from nomaflow_console.kernel.overview import jobs_named

_COUNTS_SECONDS, _CHOICES_SECONDS, _ZONE_SECONDS = 5.0, 60.0, 60.0
_MOST_ZONES = 2_000


async def job_counts(request: Request) -> JobPageView:
    """Return the counts of all jobs, without the jobs."""
    kept = _kept(request, "counts of jobs", _COUNTS_SECONDS)
    return await kept.of("", lambda: kernel_of(request).list_jobs_page(page_size=1, with_counts=True))


async def job_choices(request: Request) -> JobPageView:
    """Return the first 500 jobs, and the counts of all, removed ones included: what the filters of runs offer."""
    kept = _kept(request, "choices of jobs", _CHOICES_SECONDS)
    return await kept.of("", lambda: kernel_of(request).list_jobs_page(with_counts=True, include_removed=True))


def _kept(request: Request, what: str, seconds: float) -> KeptAnswers[JobPageView]:
    return principal_of(request).kept(what, lambda: KeptAnswers(JobPageView(), least_seconds=seconds))


async def job_zones(request: Request, job_ids: Iterable[str]) -> dict[str, str]:
    """Return the time zones of jobs by id, of the first 500 at most; that of a job without one is empty."""
    known: dict[str, tuple[float, str]] = principal_of(request).kept("zones of jobs", dict)
    now = time.monotonic()
    found, missing = {}, []
    for job_id in dict.fromkeys(job_ids):
        until, zone = known.get(job_id, (now, ""))
        if until > now:
            found[job_id] = zone
        else:
            missing.append(job_id)
    jobs = await jobs_named(kernel_of(request), missing)
    if len(known) > _MOST_ZONES:
        known.clear()
    for job_id in missing:
        found[job_id] = jobs[job_id].timezone if job_id in jobs else ""
        known[job_id] = (now + _ZONE_SECONDS, found[job_id])
    return found


async def unknown_names(request: Request, *, job: str, host: str, tag: str = "") -> list[str]:
    """Return the problem of filters that keep nothing because one of these names does not exist."""
    try:
        await kernel_of(request).check_names(job_id=job, host=host, tag=tag)
    except (NotFound, PermissionDenied) as error:
        return [error.advice]
    return []


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
