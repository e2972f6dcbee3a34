"""``nomaflow jobs`` and ``job``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import CatalogueView, JobView, RefusedLoadView, RunView

__all__ = ["register"]

_RECENT = 5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("jobs")(remote_command(jobs))
    app.command("job")(remote_command(job))


def jobs(
    *,
    invocation: Invocation,
    host: Annotated[str, typer.Option("--host", help="Show only jobs of this host.")] = "",
    tag: Annotated[str, typer.Option("--tag", help="Show only jobs with this tag.")] = "",
    all_: Annotated[
        bool, typer.Option("--all", help="Also show jobs that were removed from their host's files.")
    ] = False,
) -> None:
    """List all known jobs, valid or not, with their next fire and last run."""

    async def ask(kernel: KernelClient) -> tuple[CatalogueView, CatalogueView, dict[str, RefusedLoadView]]:
        found = await kernel.list_jobs(host=host, tag=tag, include_removed=all_)
        nothing = (host or tag) and not found.jobs
        whole = await kernel.list_jobs(include_removed=all_) if nothing else found
        hosts = [one for one in await kernel.list_hosts() if host in ("", one.name)]
        return found, whole, {one.name: one.refused_load for one in hosts if one.refused_load is not None}

    found, whole, refused = talk(invocation, ask)
    if invocation.as_json:
        print_json({**found.to_json(), "refused_loads": {name: load.to_json() for name, load in refused.items()}})
        return
    from nomaflow_cli.pages.tables import jobs_page, no_such_jobs

    if whole.jobs and not found.jobs:
        console().print(no_such_jobs(whole, host=host, tag=tag))
    else:
        console().print(jobs_page(found, refused))


def job(*, invocation: Invocation, job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Show one job: its steps, next fires, recent runs, problems, and why it is not running."""

    async def ask(kernel: KernelClient) -> tuple[JobView, list[RunView]]:
        view = await kernel.get_job(job)
        recent: list[RunView] = []
        async for run in kernel.list_runs(job_id=job, page_size=_RECENT):
            recent.append(run)  # stops early
            if len(recent) == _RECENT:
                break
        return view, recent

    view, recent = talk(invocation, ask)
    if invocation.as_json:
        print_json({**view.to_json(), "recent_runs": [run.to_json() for run in recent]})
        return
    from nomaflow_cli.pages.job_page import job_page

    console().print(job_page(view, recent))
