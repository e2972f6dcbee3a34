"""``nomaflow store``: moving a history to another database, and taking it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import print_json
from nomaflow_cli.project import project_around, working_directory
from nomaflow_cli.store_tool import run_store_tool
from nomaflow_cli.wording import amount, count, duration, printable

__all__ = ["register"]

_URL = "sqlite:///PATH, relative to the project, or postgresql+asyncpg://USER:PASSWORD@HOST/NAME."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True)
    group.command("copy")(local_command(copy))
    group.command("reclaim")(local_command(reclaim))
    app.add_typer(group, name="store", help="Move a history to another database, or reclaim a moved one.")


def copy(
    *,
    invocation: Invocation,
    source: Annotated[str, typer.Argument(metavar="FROM", help=f"The store: {_URL}")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The new store: a file that does not exist yet, or an empty database.")
    ],
) -> None:
    """Move a history to an empty store while its kernel is stopped. Kernels then start only on the new store."""
    require_extra("kernel")
    done = run_store_tool("copy", source, "--to", target, project=_project(invocation), shows_progress=True)
    if invocation.as_json:
        print_json({**done, "seconds": round(done["seconds"], 3)})
        return
    rows = done["rows"]
    print(f"{printable(done['target'])}: {count(rows['runs'], 'run')}, {count(rows['events'], 'event')}")
    print(f"{amount(sum(rows.values()))} rows copied and compared, in {duration(done['seconds'])}")
    print("start the kernel with that store: [kernel] store, or --store")
    print(f"! kernels no longer start on {printable(done['source'])}; to undo the move: nomaflow store reclaim")


def reclaim(
    *, invocation: Invocation, store: Annotated[str, typer.Argument(metavar="STORE", help=f"The store: {_URL}")]
) -> None:
    """Reclaim a history that was moved, as it was before the move. Nothing starts until nomaflow resume."""
    require_extra("kernel")
    done = run_store_tool("reclaim", store, project=_project(invocation))
    if invocation.as_json:
        print_json(done)
        return
    print(f"{printable(done['store'])}: a kernel may start on it again")
    print(f"! make sure that no kernel runs on {printable(done['moved_to'])}: schedules would fire twice")
    print("! everything is paused: start the kernel, check nomaflow runs, then run nomaflow resume")


def _project(invocation: Invocation) -> Path:
    """Return where relative paths begin: no project is needed for stores named in full."""
    return invocation.project or project_around() or working_directory()
