"""``nomaflow jobs``, ``job``, ``pause`` and ``resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from nomaflow_cli import pages
from nomaflow_cli.formatting import moment, subject
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import first, talk, why_none
from nomaflow_cli.options import argument, flag, option
from nomaflow_cli.output import answer
from nomaflow_cli.parsers import parse_end, parse_target
from nomaflow_cli.project import known_project, with_lines_of_files
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import CatalogueView, JobStatsView, JobView, RefusedLoadView, RunView

_NO_JOBS = "no jobs: no host brings any; nomaflow hosts lists the hosts"
_RECENT = 5
_MEASURED = 50
"""Newest runs that the usual figures are of."""
_ONE_OR_ALL = argument("The job's id; default: everything, unless --host is given.", default="")


@remote_command("jobs")
def jobs(
    *,
    invocation: Invocation,
    host: str = option("Show only jobs of this host."),
    tag: str = option("Show only jobs with this tag."),
    all_: bool = flag("Also show jobs that were removed from their host's files.", "--all"),
) -> None:
    """List jobs with their next fire and last run.

    Jobs that are not valid are listed, too.
    """

    async def ask(kernel: KernelClient) -> tuple[CatalogueView, dict[str, RefusedLoadView], str]:
        found = await kernel.list_jobs(host=host, tag=tag, include_removed=all_)
        if not found.jobs:
            await kernel.check_names(host=host, tag=tag)
        hosts = [one for one in await kernel.list_hosts() if host in ("", one.name)]
        refused = {one.name: one.refused_load for one in hosts if one.refused_load is not None}
        nothing = "" if found.jobs or found.problems else await why_none(kernel, "jobs", _NO_JOBS)
        return found, refused, "no jobs match" if nothing and (host or tag) else nothing

    found, refused, nothing = talk(invocation, ask)
    found = replace(found, jobs=with_lines_of_files(found.jobs, known_project(invocation)))
    shape = {**found.to_json(), "refused_loads": {name: load.to_json() for name, load in refused.items()}}
    answer(invocation, shape, lambda: nothing or pages.jobs.jobs_page(found, refused))


@remote_command("job")
def job(*, invocation: Invocation, job: str = argument("The job's id.")) -> None:
    """Show one job, and why it is not running.

    Its steps, next fires, recent runs and problems.
    """

    async def ask(kernel: KernelClient) -> tuple[JobView, list[RunView], JobStatsView | None]:
        if ":" in job:  # no id has one: it is the place that `jobs` shows where a file gives no good id
            for view in (await kernel.list_jobs_page(text=job)).jobs:
                if view.job_id == job:
                    return view, [], None
        view = await kernel.get_job(job)
        recent = await first(_RECENT, kernel.list_runs(job_id=job, page_size=_RECENT))
        return view, recent, (await kernel.job_stats([job], last=_MEASURED)).get(job)

    view, recent, stats = talk(invocation, ask)
    [view] = with_lines_of_files([view], known_project(invocation))
    recent_runs = [run.to_json() for run in recent]
    shape = {**view.to_json(), "recent_runs": recent_runs, "usual": {} if stats is None else stats.usual()}
    answer(invocation, shape, lambda: pages.jobs.job_page(view, recent, stats))


@remote_command("pause")
def pause(
    *,
    invocation: Invocation,
    job: str = _ONE_OR_ALL,
    host: str = option("Pause all jobs of this host."),
    why: str = option("The reason; shown for everything that waits for the pause to end."),
    until: str = option("End the pause at this ISO 8601 time."),
    span: str = option("End the pause after this time, for example 30m or 2h.", "--for"),
) -> None:
    """Pause a job, a host or everything.

    Schedules do not fire and runs do not start.
    """
    target, end = parse_target(job, host), parse_end(until, span)
    found = talk(invocation, lambda kernel: kernel.pause(why=why, until=end, **target))
    words = f" --host {host}" if host else f" {job}" if job else ""
    ending = f" until {moment(found.until)}" if found.until else f"; to end that: nomaflow resume{words}"
    told = printable(f"paused {subject(job, host)}{ending}")
    answer(invocation, found.to_json(), told)


@remote_command("resume")
def resume(
    *,
    invocation: Invocation,
    job: str = _ONE_OR_ALL,
    host: str = option("Resume this host."),
) -> None:
    """End a pause."""
    name, target = subject(job, host), parse_target(job, host)
    was_paused = talk(invocation, lambda kernel: kernel.resume(**target))
    told = f"resumed {name}" if was_paused else f"there was no pause of {name}"
    answer(invocation, {**target, "was_paused": was_paused}, told)
