"""The page of all jobs: what needs a person, what runs, and each job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client.values.alerts import IncidentView
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of, principal_of
from nomaflow_console.kernel.catalogue import job_counts
from nomaflow_console.kernel.figures import KeptFigures
from nomaflow_console.kernel.incidents import open_incidents
from nomaflow_console.kernel.kept_steps import kept_steps
from nomaflow_console.kernel.overview import Overview, load_overview
from nomaflow_console.kernel.until_changed import until_changed
from nomaflow_console.live import LiveView, rendered
from nomaflow_console.rendering import page
from nomaflow_console.views.incidents import with_incidents
from nomaflow_console.views.job_rows import STATES, JobPage, JobQuery, job_rows, page_of_jobs, tally
from nomaflow_console.views.needs_you import needs_you, usual_of
from nomaflow_console.views.times import Zone

SPANS = {"night": "last night", "24h": "last 24 h", "7d": "last 7 days"}
"""How far back *Needs you* and the tally look."""
_PARTS = {
    "needs": "parts/jobs_needs.html",
    "running": "parts/jobs_running.html",
    "tally": "parts/jobs_tally.html",
    "jobs": "parts/jobs_table.html",
}


def since_of(span: str, now: datetime, zone: Zone) -> datetime:
    """Return the beginning of a span: of the night, 18:00 of the day before in the page's zone."""
    if span in ("24h", "7d"):
        return now - timedelta(days=1 if span == "24h" else 7)
    yesterday = now.astimezone(zone.info).date() - timedelta(days=1)
    return datetime.combine(yesterday, time(18), zone.info).astimezone(UTC)


async def _load(request: Request) -> dict[str, Any]:
    query, now = JobQuery.of(request.query_params), datetime.now(UTC)
    since = since_of(query.since, now, Zone.of_cookie(request.state.session.zone))
    figures = principal_of(request).kept(KeptFigures, KeptFigures)

    async def load() -> Overview:
        return await load_overview(kernel_of(request), query, figures, kept_steps(request), now=now, since=since)

    overview, every, incidents = await asyncio.gather(
        until_changed(request, (query, since if query.since == "night" else ""), load),
        job_counts(request),
        open_incidents(request),
    )
    return _context(overview.seen_at(now), query, page_of_jobs(overview.page, every), since, incidents)


def _context(
    overview: Overview, query: JobQuery, jobs: JobPage, since: datetime, incidents: Sequence[IncidentView]
) -> dict[str, Any]:
    situation = overview.situation
    usual = {run.run_id: usual_of(situation.stats.get(run.job_id)) for run in overview.running}
    return {
        "query": query,
        "here": query.address(page=query.page),
        "since": since,
        "spans": SPANS,
        "needs": with_incidents(needs_you(situation), incidents),
        "running": overview.running,
        "usual": usual,
        "more_open": overview.more_open,
        "tally": tally(overview.counts),
        "jobs": jobs,
        "rows": job_rows(jobs.jobs, stats=situation.stats, open_runs=situation.open),
        "state_titles": STATES,
        "problems": situation.problems,
    }


async def show(request: Request) -> Response:
    """Return the page."""
    return page(request, "jobs.html", title="Jobs", live="jobs", **await _load(request))


async def show_json(request: Request) -> Response:
    """Return the jobs in the shape of ``nomaflow jobs -o json``."""
    kernel = kernel_of(request)
    query = JobQuery.of(request.query_params)
    found = await kernel.list_jobs(host=query.host, tag=query.tag, text=query.q, conditions=query.conditions)
    hosts = [one for one in await kernel.list_hosts() if query.host in ("", one.name)]
    refused = {one.name: one.refused_load.to_json() for one in hosts if one.refused_load is not None}
    return JsonAnswer({**found.to_json(), "refused_loads": refused})


LIVE = {
    # Every event may change what needs a person, or a row.
    "jobs": LiveView(concerns=lambda *_: True, parts=rendered(_PARTS, _load), fresh_seconds=lambda _: 20.0)
}
ROUTES = [
    Route("/", show),
    Route("/.json", show_json),
    Route("/jobs.json", show_json),
]
