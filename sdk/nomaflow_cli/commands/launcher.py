"""``nomaflow launcher``."""

from __future__ import annotations

import os

from nomaflow_cli.invocation import Directory, Invocation, local_command, require_extra
from nomaflow_cli.project import require_project
from nomaflow_cli.up.kept_running import part_command


@local_command("launcher")
def launcher(*, invocation: Invocation, directory: Directory = None) -> None:
    """Start instances of hosts on Slurm, Kubernetes or Ray when steps wait for them. \\[launcher] says which."""
    require_extra("slurm")
    project = require_project(directory or invocation.project, invocation.trust)
    command = part_command("launchers", project)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted
