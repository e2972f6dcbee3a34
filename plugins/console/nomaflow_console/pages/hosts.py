"""The page of all hosts: who is attached, silent, outdated or broken."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import job_counts
from nomaflow_console.live import LiveView, of_kinds, rendered
from nomaflow_console.rendering import page

HEARD_SECONDS = 5.0
"""How often a page of hosts looks again: a heartbeat is no event."""


async def _context(request: Request) -> dict[str, Any]:
    kernel = kernel_of(request)
    about, hosts, jobs = await asyncio.gather(kernel.get_kernel(), kernel.list_hosts(), jobs_of_hosts(request))
    return {"about": about, "hosts": hosts, **jobs}


async def jobs_of_hosts(request: Request) -> dict[str, Any]:
    """Return the jobs that cannot run as they should, and how many job ids belong to each host."""
    troubled, every = await asyncio.gather(
        kernel_of(request).list_jobs_page(conditions=["DISABLED", "KEPT"]), job_counts(request)
    )
    return {"troubled": troubled.jobs, "owned": {each.owner: each.jobs for each in every.counts if each.owner}}


async def show(request: Request) -> Response:
    """Return the page."""
    return page(request, "hosts.html", title="Hosts", live="hosts", **await _context(request))


async def as_json(request: Request) -> Response:
    """Return the hosts in the shape of ``nomaflow hosts -o json``."""
    return JsonAnswer({"hosts": [host.to_json() for host in await kernel_of(request).list_hosts()]})


LIVE = {
    "hosts": LiveView(
        concerns=of_kinds("host.", "pause.", "job.changed"),
        parts=rendered({"hosts-list": "parts/hosts_list.html"}, _context),
        fresh_seconds=lambda _: HEARD_SECONDS,
    )
}
ROUTES = [Route("/hosts", show), Route("/hosts.json", as_json)]
