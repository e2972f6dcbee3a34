"""``nomaflow doctor``, which finds problems of a project and of its processes, and ``version``."""

from __future__ import annotations

import os
import platform
from dataclasses import replace

from nomaflow_api.version import VERSION
from nomaflow_cli import pages
from nomaflow_cli.doctor.examination import examine
from nomaflow_cli.doctor.findings import Level
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Directory, Invocation, local_command, remote_command
from nomaflow_cli.options import flag, option
from nomaflow_cli.output import answer
from nomaflow_cli.project import project_of


@remote_command("doctor", needs=("kernel",))
def doctor(
    *,
    invocation: Invocation,
    directory: Directory = None,
    store: str = option("The kernel's store, if it was started with --store."),
    deep: bool = flag("Check the whole history for damage; slow if it is large."),
) -> ExitCode:
    """Find problems of a project and its processes, with their fixes.

    Exits with 1 if there is a problem.
    """
    project = project_of(invocation, directory)
    state = project / ".nomaflow"
    if state.is_dir() and not os.access(state, os.R_OK | os.X_OK):
        raise CliError(
            f"cannot read {str(state)!r}: permission denied", fix="run it as the user whom the project belongs to"
        )
    findings = list(examine(replace(invocation, project=project), project, store=store, deep=deep))
    ok = all(finding.level is not Level.PROBLEM for finding in findings)
    shape = {"ok": ok, "project": str(project), "findings": [finding.to_json() for finding in findings]}
    answer(invocation, shape, lambda: pages.findings.doctor_page(findings))
    return ExitCode.of(ok)


@local_command("version")
def version(*, invocation: Invocation) -> None:
    """Print the version."""
    shape = {"version": VERSION, "python": platform.python_version()}
    answer(invocation, shape, f"nomaflow {VERSION}")
