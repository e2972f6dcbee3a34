"""The page of all hosts: who is attached, silent, outdated or broken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client.values import EventView
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.catalogue import job_counts
from nomaflow_console.live.views import LiveView
from nomaflow_console.rendering import live_part, page

__all__ = ["HEARD_SECONDS", "LIVE", "ROUTES", "jobs_of_hosts"]

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


class HostsView:
    """The live part of the page: the list."""

    fresh_seconds = HEARD_SECONDS

    def concerns(self, event: EventView, request: Request) -> bool:
        """Return True for events of hosts and pauses."""
        del request
        return event.kind.startswith(("host.", "pause.", "job.changed"))

    async def parts(self, request: Request) -> Mapping[str, str]:
        """Return the list."""
        return {"hosts-list": live_part(request, "parts/hosts_list.html", **await _context(request))}


LIVE: Mapping[str, LiveView] = {"hosts": HostsView()}
ROUTES = [Route("/hosts", show), Route("/hosts.json", as_json)]
