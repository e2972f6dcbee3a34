"""``nomaflow logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json_line
from nomaflow_cli.values import level_number

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import RunView

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("logs")(remote_command(logs))


def logs(
    *,
    invocation: Invocation,
    run: Annotated[str, typer.Argument(help="The run's id.")],
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
            _check_step(await kernel.get_run(run), step)
        blocks = kernel.read_log_blocks(run, follow=follow, step=step, min_level=lowest, tail=tail)
        if invocation.as_json:
            async for block in blocks:
                for line in block:
                    print_json_line(line.to_json())
            return
        from nomaflow_cli.pages.log_lines import LogPrinter

        printer = LogPrinter(console=console())
        async for block in blocks:
            printer.print(block)

    talk(invocation, ask, retry_seconds=300)


def _check_step(run: RunView, step: str) -> None:
    names = [one.name for one in run.steps]
    if step not in names:
        raise CliError(
            f"run {run.run_id} has no step {step!r}", fix=f"its steps are {', '.join(map(repr, names)) or 'none'}"
        )
