"""Finds jobs, hosts, callables and runs by any part of their names."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, KernelClient, KernelUnreachable
from nomaflow.client.values import HostView, RunPageView
from nomaflow_api.near_names import near_names
from nomaflow_console.json_answer import JsonAnswer
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.signatures import callables_called
from nomaflow_console.rendering import page
from nomaflow_console.views.needs_you import page_of_job

_RUN_PART = re.compile(r"run_[0-9a-z]{0,26}|[0-9a-z]{4,26}")
_MOST = 50


def _beginning(text: str) -> str:
    part = text.casefold()
    return part if part.startswith("run_") else f"run_{part}"


async def _runs(kernel: KernelClient, text: str) -> RunPageView:
    """Return the runs whose ids begin with a text, in small letters or capitals, with ``run_`` before it or without."""
    if not _RUN_PART.fullmatch(text.casefold()):
        return RunPageView()
    try:
        return await kernel.list_runs_page(run_id_prefix=_beginning(text), page_size=_MOST)
    except KernelUnreachable:
        raise
    except ClientError:
        return RunPageView()


async def _found(request: Request, text: str, runs: RunPageView) -> dict[str, Any]:
    kernel, needle = kernel_of(request), text.casefold()
    jobs, hosts = await asyncio.gather(
        kernel.list_jobs_page(text=text, page_size=_MOST, include_removed=True), kernel.list_hosts()
    )
    callables = await callables_called(kernel, hosts, needle) if needle else []
    of_hosts = [host for host in hosts if needle in host.name.casefold()]
    anything = jobs.jobs or of_hosts or callables or runs.runs
    near = [] if not text or anything else await _near(kernel, text, hosts)
    return {
        "runs": runs.runs,
        "more_runs": f"/runs?since=ever&id={_beginning(text)}" if runs.next_page_token else "",
        "jobs": jobs.jobs,
        "hosts": of_hosts[:_MOST],
        "callables": callables[:_MOST],
        "more": sum(max(0, number - _MOST) for number in (jobs.total, len(of_hosts), len(callables))),
        "near": near,
    }


async def _near(kernel: KernelClient, text: str, hosts: list[HostView]) -> list[str]:
    """Return names of jobs and hosts that are like a text that nothing has."""
    jobs = (await kernel.list_jobs(include_removed=True)).jobs
    return list(near_names(text, [*(job.job_id for job in jobs), *(host.name for host in hosts)]))


async def show(request: Request) -> Response:
    """Return what is found; go straight to the only run whose id begins so, and to a job if nothing else is found."""
    text = request.query_params.get("q", "").strip()
    runs = await _runs(kernel_of(request), text)
    if len(runs.runs) == 1:
        return RedirectResponse(f"/runs/{runs.runs[0].run_id}", status_code=303)
    found = await _found(request, text, runs)
    if text and len(found["jobs"]) == 1 and not (found["hosts"] or found["callables"] or found["runs"]):
        return RedirectResponse(page_of_job(found["jobs"][0]), status_code=303)
    return page(request, "search.html", title=f"Find {text}", q=text, **found)


async def show_json(request: Request) -> Response:
    """Return what is found, as names; with ``of=jobs`` jobs only, as a field asks for while one types."""
    text = request.query_params.get("q", "").strip()
    if request.query_params.get("of") == "jobs":
        jobs = await kernel_of(request).list_jobs_page(text=text, page_size=_MOST, include_removed=True)
        return JsonAnswer({"jobs": [job.job_id for job in jobs.jobs]})
    found = await _found(request, text, await _runs(kernel_of(request), text))
    shape = {
        "jobs": [job.job_id for job in found["jobs"]],
        "hosts": [host.name for host in found["hosts"]],
        "callables": [{"host": host, "reference": each.reference} for host, each in found["callables"]],
        "runs": [run.run_id for run in found["runs"]],
    }
    return JsonAnswer(shape)


ROUTES = [
    Route("/search", show),
    Route("/search.json", show_json),
]
