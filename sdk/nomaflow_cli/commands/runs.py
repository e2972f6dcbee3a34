"""``nomaflow runs``, ``show``, ``logs`` and ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli import pages
from nomaflow_cli.errors import RUN_EXIT_CODES, CliError
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import first, talk
from nomaflow_cli.output import answer, console, print_json_line
from nomaflow_cli.values import level_number, parse_instant
from nomaflow_cli.wording import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import RunView

_Run = Annotated[str, typer.Argument(help="The run's id.")]


@remote_command("runs")
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
        size = min(limit, 500)
        listed = kernel.list_runs(job_id=job, states=state or [], host=host, since=after, page_size=size)
        found = await first(limit, listed)
        if job and not found:
            await kernel.get_job(job)  # refuses a job that does not exist
        return found

    found = talk(invocation, ask)
    nothing = "no runs match"
    if not (state or host or since):
        nothing = f"no runs yet; start one with: nomaflow run {job or 'JOB'} --follow"
    shape = {"runs": [run.to_json() for run in found]}
    answer(invocation, shape, lambda: pages.runs_table(found) if found else nothing)


@remote_command("show")
def show(*, invocation: Invocation, run: _Run) -> None:
    """Show one run: its steps with rows and extras, all attempts, and the reason for its state."""
    found = talk(invocation, lambda kernel: kernel.get_run(run))
    answer(invocation, found.to_json(), lambda: pages.run_page(found))


@remote_command("logs")
def logs(
    *,
    invocation: Invocation,
    run: _Run,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until the run ends.")] = False,
    step: Annotated[str, typer.Option("--step", help="Show only lines of this step.")] = "",
    level: Annotated[str, typer.Option("--level", help="Show only lines of this level and above.")] = "",
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="Number of lines to show, from the end; 0 shows all.")
    ] = 0,
) -> None:
    """Print the log of a run. With -o json, each line is one object."""
    lowest = level_number(level) if level else 0

    async def ask(kernel: KernelClient) -> None:
        if step:
            _require_step(await kernel.get_run(run), step)
        out = None if invocation.as_json else console()
        async for block in kernel.read_log_blocks(run, follow=follow, step=step, min_level=lowest, tail=tail):
            if out is not None:
                pages.print_log(out, block)
            else:
                for line in block:
                    print_json_line(line.to_json())

    talk(invocation, ask, retry_seconds=300)


def _require_step(run: RunView, step: str) -> None:
    names = [one.name for one in run.steps]
    if step not in names:
        raise CliError(
            f"run {run.run_id} has no step {step!r}", fix=f"its steps are {', '.join(map(repr, names)) or 'none'}"
        )


@remote_command("cancel")
def cancel(
    *,
    invocation: Invocation,
    run: _Run,
    why: Annotated[str, typer.Option("--why", help="The reason; stored with the run.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run's code has stopped.")] = False,
) -> None:
    """Cancel a run. It becomes CANCELED once its code has stopped."""

    async def ask(kernel: KernelClient) -> RunView:
        canceled = await kernel.cancel(run, why=why)
        return await kernel.wait(run) if wait else canceled

    found = talk(invocation, ask, retry_seconds=300)
    run_id, now = printable(found.run_id), printable(found.state)
    text = f"requested a cancel of {run_id}; nomaflow show {run_id} shows when it has stopped"
    answer(invocation, found.to_json(), f"{run_id} is {now}" if found.terminal else text)
    if wait and found.state not in ("CANCELED", "SUCCEEDED"):
        raise typer.Exit(RUN_EXIT_CODES.get(found.state, 1))
