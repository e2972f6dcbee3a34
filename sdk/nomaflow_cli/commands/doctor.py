"""``nomaflow doctor``: what is wrong with a project and with what runs of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.errors import ExitCode
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.output import console, print_json
from nomaflow_cli.project import require_project

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(remote_command(doctor))


def doctor(
    *,
    invocation: Invocation,
    directory: Annotated[
        Path | None, typer.Argument(help="Project directory; default: found from the working directory.")
    ] = None,
    store: Annotated[str, typer.Option("--store", help="The kernel's store, if it was started with --store.")] = "",
    deep: Annotated[
        bool, typer.Option("--deep", help="Check the whole history for damage; slow if it is large.")
    ] = False,
) -> None:
    """Examine a project and its processes, and print each problem with its fix. Exits with 1 if there is a problem."""
    require_extra("kernel")
    project = require_project(directory or invocation.project)
    from nomaflow_cli.doctor import Level, examine

    findings = list(examine(replace(invocation, project=project), project, store=store, deep=deep))
    ok = all(finding.level is not Level.PROBLEM for finding in findings)
    if invocation.as_json:
        shape = [finding.to_json() for finding in findings]
        print_json({"ok": ok, "project": str(project), "findings": shape})
    else:
        from nomaflow_cli.pages.doctor_page import doctor_page

        console().print(doctor_page(findings))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)
