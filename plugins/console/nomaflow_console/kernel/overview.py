"""Asks the kernel for all that the first page shows: a fixed number of calls at once, however many jobs there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nomaflow.client.values import JobStatsView, JobView, RunCountView, RunView
from nomaflow_console.kernel.calls import KernelCalls
from nomaflow_console.views.needs_you import Situation

__all__ = ["MOST_OPEN", "Overview", "load_overview", "stats_of", "with_stats", "with_steps"]

MOST_OPEN = 50
"""Open runs that a page shows, with their steps; it says how many more there are."""
_MOST_UNHAPPY = 100
_MOST_STATS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The state of a project.

    :param counts: runs by state since the beginning of the tally
    :param more_open: True if there are more open runs than are shown
    """

    situation: Situation
    counts: Sequence[RunCountView]
    more_open: bool = False

    @property
    def running(self) -> list[RunView]:
        """The runs that run, the oldest first."""
        return sorted(
            (run for run in self.situation.open if run.state == "RUNNING"),
            key=lambda run: run.started_at or run.queued_at or self.situation.now,
        )


async def load_overview(kernel: KernelCalls, *, now: datetime, since: datetime) -> Overview:
    """Return the state of a project, without the figures of its jobs.

    :param since: the beginning of the tally, and of what is told of past runs
    """
    catalogue, hosts, unhappy, waiting, running, counts = await asyncio.gather(
        kernel.list_jobs(),
        kernel.list_hosts(),
        kernel.list_runs_page(states=["FAILED", "MISSED"], since=since, page_size=_MOST_UNHAPPY),
        kernel.list_runs_page(states=["QUEUED"], page_size=MOST_OPEN),
        kernel.list_runs_page(states=["RUNNING"], page_size=MOST_OPEN, with_steps=True),
        kernel.summarize_runs(since=since),
    )
    situation = Situation(
        now=now,
        catalogue=catalogue,
        hosts=hosts,
        unhappy=await with_steps(kernel, _not_made_good(unhappy.runs, catalogue.jobs)),
        open=(*waiting.runs, *running.runs),
    )
    return Overview(
        situation=situation, counts=counts, more_open=bool(waiting.next_page_token or running.next_page_token)
    )


def _not_made_good(runs: Sequence[RunView], jobs: Iterable[JobView]) -> list[RunView]:
    """Return the runs but the failed ones after which the newest run of their job has succeeded."""
    good = {
        job.job_id: job.last_run.queued_at
        for job in jobs
        if job.last_run is not None and job.last_run.state == "SUCCEEDED" and job.last_run.queued_at is not None
    }
    return [
        run
        for run in runs
        if run.state != "FAILED" or run.queued_at is None or good.get(run.job_id, run.queued_at) <= run.queued_at
    ]


async def with_steps(kernel: KernelCalls, runs: Sequence[RunView]) -> tuple[RunView, ...]:
    """Return runs, with the steps of those whose row tells of a step: the first 50 that run or have failed."""
    told = [run.run_id for run in runs if run.state in ("RUNNING", "FAILED")][:MOST_OPEN]
    if not told:
        return tuple(runs)
    found = await kernel.list_runs_page(run_ids=told, with_steps=True, page_size=MOST_OPEN)
    known = {run.run_id: run for run in found.runs}
    return tuple(known.get(run.run_id, run) for run in runs)


async def with_stats(kernel: KernelCalls, overview: Overview, shown: Iterable[str]) -> Overview:
    """Return an overview with the figures of the jobs that are shown, and of those whose runs are open or failed.

    :param shown: ids of jobs
    """
    situation = overview.situation
    of_runs = (run.job_id for run in (*situation.open, *situation.unhappy))
    stats = await stats_of(kernel, (*shown, *of_runs))
    return replace(overview, situation=replace(situation, stats=stats))


async def stats_of(kernel: KernelCalls, job_ids: Iterable[str], *, last: int = 20) -> Mapping[str, JobStatsView]:
    """Return the figures of jobs, of the first 400 at most."""
    wanted = list(dict.fromkeys(job_ids))[: 2 * _MOST_STATS]
    parts = [wanted[start : start + _MOST_STATS] for start in range(0, len(wanted), _MOST_STATS)]
    found: dict[str, JobStatsView] = {}
    for part in await asyncio.gather(*(kernel.job_stats(part, last=last) for part in parts)):
        found.update(part)
    return found
