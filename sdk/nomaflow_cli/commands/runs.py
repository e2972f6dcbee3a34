"""``nomaflow runs``, ``show`` and ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli.errors import RUN_EXIT_CODES
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json
from nomaflow_cli.values import parse_instant

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.client import KernelClient
    from nomaflow.client.values import RunView

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("runs")(remote_command(runs))
    app.command("show")(remote_command(show))
    app.command("cancel")(remote_command(cancel))


def runs(
    *,
    invocation: Invocation,
    job: Annotated[str, typer.Argument(help="Show only runs of this job.")] = "",
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Show only runs in this state; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Show only runs of this host's jobs.")] = "",
    since: Annotated[str, typer.Option("--since", help="Show only runs queued at or after this ISO 8601 time.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Maximum number of runs.")] = 20,
) -> None:
    """List runs, newest first."""
    after = parse_instant(since, option="--since") if since else None

    async def ask(kernel: KernelClient) -> list[RunView]:
        found = await _newest(kernel, job=job, states=state or [], host=host, since=after, limit=limit)
        if job and not found:
            await kernel.get_job(job)  # A typo is told from a job that has not run.
        return found

    found = talk(invocation, ask)
    if invocation.as_json:
        print_json({"runs": [run.to_json() for run in found]})
        return
    from nomaflow_cli.pages.tables import runs_table

    narrowed = state or host or since
    nothing = f"no runs yet; start one with: nomaflow run {job or 'JOB'} --follow" if not narrowed else "no runs match"
    console().print(runs_table(found) if found else nothing)


async def _newest(
    kernel: KernelClient, *, job: str, states: list[str], host: str, since: datetime | None, limit: int
) -> list[RunView]:
    found: list[RunView] = []
    pages = kernel.list_runs(job_id=job, states=states, host=host, since=since, page_size=min(limit, 500))
    async for run in pages:
        found.append(run)
        if len(found) == limit:
            break
    return found


def show(*, invocation: Invocation, run: Annotated[str, typer.Argument(help="The run's id.")]) -> None:
    """Show one run: its steps with rows and extras, all attempts, and the reason for its state."""
    found = talk(invocation, lambda kernel: kernel.get_run(run))
    if invocation.as_json:
        print_json(found.to_json())
        return
    from nomaflow_cli.pages.run_page import run_page

    console().print(run_page(found))


def cancel(
    *,
    invocation: Invocation,
    run: Annotated[str, typer.Argument(help="The run's id.")],
    why: Annotated[str, typer.Option("--why", help="The reason; stored with the run.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run's code has stopped.")] = False,
) -> None:
    """Cancel a run. It becomes CANCELED once its code has stopped."""

    async def ask(kernel: KernelClient) -> RunView:
        canceled = await kernel.cancel(run, why=why)
        return await kernel.wait(run) if wait else canceled

    found = talk(invocation, ask, retry_seconds=300)
    if invocation.as_json:
        print_json(found.to_json())
    else:
        print(_cancel_answer(found))
    if wait and found.state not in ("CANCELED", "SUCCEEDED"):
        raise typer.Exit(RUN_EXIT_CODES.get(found.state, 1))


def _cancel_answer(run: RunView) -> str:
    if not run.terminal:
        return f"requested a cancel of {run.run_id}; nomaflow show {run.run_id} shows when it has stopped"
    return f"{run.run_id} is {run.state}"
