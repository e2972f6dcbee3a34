"""The page of ``nomaflow check``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from nomaflow.client.values import ProblemView
from nomaflow_cli.pages.cells import problem_lines
from nomaflow_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nomaflow_project.check.project import CheckReport
    from nomaflow_project.reading.problems import Problem

__all__ = ["check_page"]


def check_page(report: CheckReport) -> RenderableType:
    """Return each job with its verdict, then every problem with file, path and the way out."""
    lines: list[RenderableType] = []
    for job in report.jobs:
        errors = sum(problem.is_error for problem in job.problems)
        warnings = len(job.problems) - errors
        if not job.valid:
            verdict = Text.assemble(("✘ ", "red"), job.job_id, ("  would be disabled", "red"))
        elif warnings:
            verdict = Text.assemble(("! ", "yellow"), job.job_id, (f"  {count(warnings, 'warning')}", "yellow"))
        else:
            verdict = Text.assemble(("✔ ", "green"), job.job_id)
        lines.append(verdict)
    for problem in report.all_problems():
        lines.append(Padding(problem_lines(_view(problem)), (1 if lines else 0, 0, 0, 0)))
    lines += _changes(report)
    return Group(*lines, Text(f"\n{_verdict(report)}", style="green" if report.ok else "red"))


def _changes(report: CheckReport) -> Iterator[RenderableType]:
    """Yield the entries that mean something else than in the original, job by job."""
    for job_id, changes in groupby(report.changes, key=lambda change: change.job_id):
        yield Text(f"\n{job_id or 'all jobs'}: what means something else here", style="bold")
        for change in changes:
            yield Text.assemble(
                ("  ~ ", "yellow"), f"{change.topic}: {change.there} in the original; {change.here} here"
            )
            for number, line in enumerate(change.line.splitlines()):
                yield Text(f"      {'add  ' if number == 0 else '     '}{line}", style="cyan")


def _view(problem: Problem) -> ProblemView:
    place = f"{problem.job_id}: {problem.path}" if problem.job_id and problem.path else problem.path
    return ProblemView(
        severity=problem.severity.value,
        code=problem.code,
        message=problem.message,
        file=problem.file,
        path=place,
        fix=problem.fix,
        line=problem.line,
    )


def _verdict(report: CheckReport) -> str:
    files = f"{count(len(report.files), 'file')} read" + (f": {', '.join(report.files)}" if report.files else "")
    disabled = sum(not job.valid for job in report.jobs)
    if report.ok:
        return f"{count(len(report.jobs), 'job')} in order; {files}"
    errors = count(sum(problem.is_error for problem in report.all_problems()), "error")
    if report.jobs and not disabled:
        return f"{errors}; {count(len(report.jobs), 'job')} in order; {files}"
    if not report.jobs:
        return f"{errors}, and no job was found; {files}"
    return f"{errors}; {disabled} of {count(len(report.jobs), 'job')} would be disabled; {files}"
