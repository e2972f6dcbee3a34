"""``nomaflow check`` and ``schedule``: what the project's files say, without a kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow_cli.commands.processes import require_extra
from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import console, print_json
from nomaflow_cli.project import require_project
from nomaflow_cli.values import parse_instant

if TYPE_CHECKING:
    from nomaflow_project.check.project import CheckReport

__all__ = ["register"]

_MANIFEST_SECONDS = 90
_Directory = Annotated[
    Path | None, typer.Argument(help="Project directory; default: found from the working directory.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check")(local_command(check))
    app.command("schedule")(local_command(schedule))


def check(
    *,
    invocation: Invocation,
    directory: _Directory = None,
    no_import: Annotated[
        bool, typer.Option("--no-import", help="Check the files only; do not import the plugins.")
    ] = False,
    from_original: Annotated[
        bool, typer.Option("--from-original", help="Show, for each job, what differs from the original's behaviour.")
    ] = False,
) -> None:
    """Check the project's files and callables. Exits with 1 if there is an error."""
    require_extra("kernel")
    project = require_project(directory or invocation.project)
    report = _report(project, importing=not no_import, from_original=from_original)
    report = _with_pitfalls(report, project)
    if invocation.as_json:
        print_json(report.to_json())
    else:
        from nomaflow_cli.pages.check_page import check_page

        console().print(check_page(report))
    if not report.ok:
        raise typer.Exit(ExitCode.FAILED)


def _report(project: Path, *, importing: bool, from_original: bool) -> CheckReport:
    """Return what is wrong with the files, and with the callables where the files let the plugins be imported.

    :raises CliError: where the plugins cannot be imported although the files are in order
    """
    from nomaflow_project.check.project import check_project
    from nomaflow_project.reading.problems import Problem, Severity

    if not importing:
        return check_project(project, from_original=from_original)
    try:
        manifest = _manifest(project)
    except CliError:
        report = check_project(project, from_original=from_original)
        if report.ok:
            raise
        unseen = Problem(
            severity=Severity.WARNING,
            code="not_imported",
            file="",
            path="",
            message="the plugins could not be imported, so the callables were not checked",
            fix="correct the errors above, then check again",
        )
        return replace(report, problems=(*report.problems, unseen))
    return check_project(project, manifest=manifest, from_original=from_original)


def _with_pitfalls(report: CheckReport, project: Path) -> CheckReport:
    """Return the report with warnings about the code of the callables that its jobs name."""
    from nomaflow_cli.lint import lint_project
    from nomaflow_project.reading.problems import Problem, Severity

    named = [step.callable for job in report.jobs if job.definition for step in job.definition.steps if step.callable]
    pitfalls = (
        Problem(
            severity=Severity.WARNING,
            code=each.code,
            file=each.file,
            line=each.line,
            path="",
            message=each.message,
            fix=f"{each.fix}; if intended, add: # noqa: {each.code}",
        )
        for each in lint_project(project, named)
    )
    return replace(report, problems=(*report.problems, *pitfalls))


def _manifest(project: Path) -> dict[str, Any]:
    """Return what the project's host would offer, from a process of its own: plugin code never runs in this one.

    :raises CliError: where the host cannot say
    """
    require_extra("host")
    command = [sys.executable, "-P", "-m", "nomaflow_host", "--manifest", "--project", str(project)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_MANIFEST_SECONDS, check=False)
        if done.returncode == 0:
            manifest: dict[str, Any] = json.loads(done.stdout)
            return manifest
        why = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        why = f"importing the plugins took longer than {_MANIFEST_SECONDS} s"
    except ValueError as error:
        why = f"the host printed no manifest: {error}"
    raise CliError(
        "the plugins cannot be loaded:\n" + "\n".join(why.splitlines()[-15:]),
        reason="NO_MANIFEST",
        fix="correct the error, or check only the files: nomaflow check --no-import",
        exit_code=ExitCode.FAILED,
    )


def schedule(
    *,
    invocation: Invocation,
    directory: _Directory = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Number of days to show.")] = 7,
    start: Annotated[str, typer.Option("--from", help="Start of the period, as an ISO 8601 time; default: now.")] = "",
    job: Annotated[list[str] | None, typer.Option("--job", help="Show only this job; repeatable.")] = None,
) -> None:
    """Show when the project's jobs will fire, and mark fires at the same time."""
    require_extra("kernel")
    project = require_project(directory or invocation.project)
    from nomaflow_project.check.planning import schedule_table
    from nomaflow_project.check.project import check_project

    report = check_project(project)
    begin = parse_instant(start, option="--from") if start else datetime.now(UTC)
    table = schedule_table(_definitions(report, job or []), begin, days)
    if invocation.as_json:
        print_json(table.to_json())
        return
    from nomaflow_cli.pages.schedule_page import schedule_page

    console().print(schedule_page(table))


def _definitions(report: CheckReport, wanted: list[str]) -> list[Any]:
    known = {job.job_id: job for job in report.jobs}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CliError(
            f"no job {unknown[0]!r} in {report.root!r}",
            reason="JOB_NOT_FOUND",
            fix=f"known jobs: {', '.join(known) or 'none'}",
        )
    jobs = [job for name, job in known.items() if not wanted or name in wanted]
    return [job.definition for job in jobs if job.valid and job.definition is not None]
