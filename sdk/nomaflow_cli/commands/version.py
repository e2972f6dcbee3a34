"""``nomaflow version``."""

from __future__ import annotations

import platform

import typer

from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import print_json
from nomaflow_cli.versions import installed_version

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("version")(local_command(version))


def version(*, invocation: Invocation) -> None:
    """Print the version."""
    if invocation.as_json:
        print_json({"version": installed_version(), "python": platform.python_version()})
    else:
        print(f"nomaflow {installed_version()}")
