"""The page of one job: its runs, values, definition and callables."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client import KernelClient, NotFound
from nomaflow.client.values import EventView, JobView, RunPageView
from nomaflow_console.forms.fields import Layers, build_form
from nomaflow_console.forms.merging import Wanted
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.signatures import signatures_of
from nomaflow_console.live import LiveView, rendered
from nomaflow_console.rendering import page
from nomaflow_console.views.calendar import recent_days
from nomaflow_console.views.job_rows import fires_ahead, job_sign, last_run
from nomaflow_console.views.needs_you import job_address
from nomaflow_console.views.run_filters import RunQuery
from nomaflow_console.views.run_grid import run_grid
from nomaflow_console.views.run_rows import run_rows
from nomaflow_console.views.sentences import now_sentence
from nomaflow_console.views.times import Zone
from nomaflow_console.views.tries import without_values

_GRID = 30
_ROWS = 20
_DAYS = 35
_MOST_OF_DAYS = 500


def _id(request: Request) -> str:
    found: str = request.path_params.get("job_id") or request.query_params.get("job_id", "")
    return found


async def _days(kernel: KernelClient, job_id: str, now: datetime) -> tuple[RunPageView, RunPageView]:
    """Return the runs of recent days, and again those that did not run, of which there may be more."""
    since = now - timedelta(days=_DAYS + 6)
    return await asyncio.gather(
        kernel.list_runs_page(job_id=job_id, since=since, page_size=_MOST_OF_DAYS),
        kernel.list_runs_page(job_id=job_id, since=since, page_size=_MOST_OF_DAYS, states=["MISSED", "SKIPPED"]),
    )


async def _load_runs(request: Request, job: JobView, now: datetime) -> dict[str, Any]:
    kernel = kernel_of(request)
    recent, stats, (all_days, not_run) = await asyncio.gather(
        kernel.list_runs_page(job_id=job.job_id, page_size=_GRID, with_steps=True),
        kernel.job_stats([job.job_id], last=100),
        _days(kernel, job.job_id, now),
    )
    runs = [without_values(run) for run in recent.runs]
    zone, _ = Zone.of_cookie(request.state.session.zone).for_job(job.timezone)
    whole_since = all_days.runs[-1].queued_at if all_days.next_page_token and all_days.runs else None
    of_days = {run.run_id: run for run in (*all_days.runs, *not_run.runs)}
    query = RunQuery(job=job.job_id, since="ever")
    return {
        "job": job,
        "here": job_address(job.job_id),
        "sign": job_sign(job, last_run(job, runs)),
        "fires": fires_ahead(job),
        "now_text": now_sentence(job),
        "query": query,
        "rows": run_rows(runs[:_ROWS], {job.job_id: job.timezone}, query),
        "grid": run_grid(runs, job.step_names, now),
        "weeks": recent_days(of_days.values(), now=now, zone=zone, days=_DAYS, whole_since=whole_since),
        "stats": stats.get(job.job_id),
        "more_runs": bool(recent.next_page_token) or len(runs) > _ROWS,
    }


async def show(request: Request) -> Response:
    """Return the page."""
    kernel, now = kernel_of(request), datetime.now(UTC)
    job = await kernel.get_job(_id(request))
    definition = job.definition or {}
    runs, signatures = await asyncio.gather(_load_runs(request, job, now), signatures_of(kernel, job.host, definition))
    form = build_form(Layers(definition=definition), signatures, Wanted())
    return page(
        request, "job.html", title=job.job_id, live="job", definition=definition, form=form, signatures=signatures,
        **runs,
    )  # fmt: skip


async def show_json(request: Request) -> Response:
    """Return the job in the shape of ``nomaflow job -o json``.

    The page of a job whose id ends with ``.json`` is there, too.
    """
    kernel = kernel_of(request)
    try:
        job = await kernel.get_job(_id(request))
    except NotFound as unknown:
        request.path_params["job_id"] += ".json"
        try:
            return await show(request)
        except NotFound:
            raise unknown from None
    recent = await kernel.list_runs_page(job_id=job.job_id, page_size=5)
    stats = (await kernel.job_stats([job.job_id])).get(job.job_id)
    usual = {} if stats is None else stats.usual()
    return JsonAnswer({**job.to_json(), "recent_runs": [run.to_json() for run in recent.runs], "usual": usual})


def _concerns(event: EventView, request: Request) -> bool:
    """Return True for events of the job, and for those of hosts and pauses that are of no job."""
    about = event.kind.startswith(("run.", "attempt.", "job.", "pause.", "host."))
    return about and event.job_id in ("", _id(request))


async def _load(request: Request) -> dict[str, Any]:
    """Return what the job does now, and its runs."""
    job = await kernel_of(request).get_job(_id(request))
    return await _load_runs(request, job, datetime.now(UTC))


LIVE = {
    "job": LiveView(
        concerns=_concerns,
        parts=rendered({f"job-{name}": f"parts/job_{name}.html" for name in ("head", "runs", "fires")}, _load),
    )
}
ROUTES = [
    Route("/jobs/{job_id}.json", show_json),
    Route("/jobs/{job_id}", show),
]
