"""Asks the kernel for all that the first page shows: a fixed number of calls at once, however many jobs there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from msgspec import structs

from nomaflow.client import KernelClient
from nomaflow.client.values import JobPageView, JobView, RunCountView, RunView
from nomaflow_console.kernel.figures import KeptFigures
from nomaflow_console.kernel.kept_steps import MOST_OPEN, KeptSteps
from nomaflow_console.views.job_rows import PAGE, JobQuery
from nomaflow_console.views.situation import Situation
from nomaflow_console.views.tries import without_values

_MOST_UNHAPPY, _MOST_ASKED = 60, 5
_MOST_LEFT_OUT = 100
"""Jobs that the kernel leaves out of a list at once."""
_MOST_NAMED = 500
_MOST_TROUBLED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The state of a project.

    :param page: the jobs that the page shows
    :param counts: runs by state since the beginning of the tally
    :param more_open: True if there are more open runs than are shown
    """

    situation: Situation
    page: JobPageView
    counts: Sequence[RunCountView]
    more_open: bool = False

    def seen_at(self, now: datetime) -> Overview:
        """Return the same state at a later moment, from which durations and waits are counted."""
        return replace(self, situation=replace(self.situation, now=now))

    @property
    def running(self) -> list[RunView]:
        """The runs that run, the oldest first."""
        return sorted(
            (run for run in self.situation.open if run.state == "RUNNING"),
            key=lambda run: run.started_at or run.queued_at or self.situation.now,
        )


async def load_overview(
    kernel: KernelClient, query: JobQuery, figures: KeptFigures, steps: KeptSteps, *, now: datetime, since: datetime
) -> Overview:
    """Return the state of a project: of its jobs those of one page, those in trouble, and those of the runs told of.

    :param since: the beginning of the tally, and of what is told of past runs
    """
    jobs = asyncio.gather(
        _jobs_of_page(kernel, query),
        kernel.list_jobs_page(conditions=["DISABLED", "KEPT"], page_size=_MOST_TROUBLED),
    )
    (page, troubled), hosts, (unhappy, more_unhappy), (waiting, more_waiting), running, counts = await asyncio.gather(
        jobs,
        kernel.list_hosts(),
        newest_runs(kernel, ["FAILED", "MISSED"], since=since, page_size=_MOST_UNHAPPY),
        newest_runs(kernel, ["QUEUED"], page_size=MOST_OPEN),
        kernel.list_runs_page(states=["RUNNING"], page_size=MOST_OPEN, with_steps=True),
        kernel.summarize_runs(since=since),
    )
    known = {job.job_id: job for job in (*page.jobs, *troubled.jobs)}
    now_open = (*waiting, *map(without_values, running.runs))
    told = (*unhappy, *now_open)
    known |= await jobs_named(kernel, [run.job_id for run in told if run.job_id not in known])
    unhappy = _not_made_good(unhappy, known.values())
    failed, stats = await asyncio.gather(
        steps.into(kernel, newest_of_each_job(unhappy)),
        figures.of(kernel, known, [*(job.job_id for job in page.jobs), *(run.job_id for run in told)]),
    )
    with_steps = {run.run_id: run for run in failed}
    situation = Situation(
        now=now,
        jobs=known,
        problems=troubled.problems,
        more_troubled=troubled.total - len(troubled.jobs),
        pauses=troubled.pauses,
        hosts=hosts,
        unhappy=[with_steps.get(run.run_id, run) for run in unhappy],
        open=now_open,
        more_of=more_unhappy | more_waiting,
        stats=stats,
    )
    more_open = bool(more_waiting or running.next_page_token)
    return Overview(situation=situation, page=page, counts=counts, more_open=more_open)


async def newest_runs(
    kernel: KernelClient, states: Sequence[str], *, page_size: int, since: datetime | None = None
) -> tuple[list[RunView], set[str]]:
    """Return runs of some states, newest first, and the jobs that may have more of them.

    There are some of each job, unless hundreds of runs of many jobs have such a state: a job that fails every minute,
    or has a long queue, fills an answer; the next one is about the others.
    """
    found: list[RunView] = []
    more_of: set[str] = set()
    for _ in range(_MOST_ASKED):
        without = {run.job_id for run in found}
        if len(without) > _MOST_LEFT_OUT:
            break
        answer = await kernel.list_runs_page(states=states, since=since, page_size=page_size, exclude_job_ids=without)
        found += answer.runs
        if not answer.next_page_token:
            break
        more_of |= {run.job_id for run in answer.runs}
    return found, more_of


async def _jobs_of_page(kernel: KernelClient, query: JobQuery) -> JobPageView:
    """Return the jobs of a page; large ones come in several answers."""
    ask = partial(
        kernel.list_jobs_page, host=query.host, tag=query.tag, text=query.q, conditions=query.conditions, page_size=PAGE
    )
    found = await ask(skip=(query.page - 1) * PAGE)
    while found.next_page_token and len(found.jobs) < PAGE:
        more = await ask(page_size=PAGE - len(found.jobs), page_token=found.next_page_token)
        found = structs.replace(found, jobs=(*found.jobs, *more.jobs), next_page_token=more.next_page_token)
    return found


async def jobs_named(kernel: KernelClient, job_ids: Iterable[str]) -> dict[str, JobView]:
    """Return jobs by id, of the first 500 at most; unknown ones are left out."""
    wanted = list(dict.fromkeys(job_ids))[:_MOST_NAMED]
    if not wanted:
        return {}
    found = await kernel.list_jobs_page(job_ids=wanted, include_removed=True)
    return {job.job_id: job for job in found.jobs}


def newest_of_each_job(runs: Sequence[RunView]) -> list[RunView]:
    """Return the runs that tell of a step on the first page, of runs newest first: the last failed one of each job."""
    newest: dict[str, RunView] = {}
    for run in runs:
        if run.state == "FAILED":
            newest.setdefault(run.job_id, run)
    return list(newest.values())


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
