"""The pages of ``nomaflow check`` and ``nomaflow doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from nomaflow_cli.doctor.findings import Finding, Level
from nomaflow_cli.formatting import count
from nomaflow_cli.pages.cells import problem_lines
from nomaflow_cli.wrapping import Hanging
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow_project.check.project import CheckReport
    from nomaflow_project.jobs.loaded import LoadedJob


_SIGNS = {Level.OK: ("✔", "green"), Level.WARNING: ("▲", "yellow"), Level.PROBLEM: ("✘", "red")}


def check_page(report: CheckReport) -> RenderableType:
    """Return each job with its verdict, then every problem with file, path and the way out; the errors come last."""
    lines: list[RenderableType] = [_job(job) for job in report.jobs]
    for problem in sorted(report.all_problems(), key=lambda problem: problem.is_error):
        lines += [Text("")] if lines else []
        lines.append(Hanging(problem_lines(problem, job_id=problem.job_id)))
    lines += _changes(report)
    return Group(*lines, Text(f"\n{_check_verdict(report)}", style="green" if report.ok else "red"))


def _job(job: LoadedJob) -> Text:
    warnings = sum(not problem.is_error for problem in job.problems)
    if not job.valid:
        sign, style, told = "✘", "red", "  would be disabled"
    elif warnings:
        sign, style, told = "!", "yellow", f"  {count(warnings, 'warning')}"
    else:
        sign, style, told = "✔", "green", ""
    return Text.assemble((f"{sign} ", style), printable(job.job_id), (told, style))


def _changes(report: CheckReport) -> Iterator[RenderableType]:
    """Yield what differs from the original's behaviour, job by job."""
    for job_id, changes in groupby(report.changes, key=lambda change: change.job_id):
        yield Text(f"\n{printable(job_id) or 'all jobs'}: differences from the original", style="bold")
        for change in changes:
            yield Text.assemble(
                ("  ~ ", "yellow"), printable(f"{change.topic}: {change.there} in the original; {change.here} here")
            )
            for number, line in enumerate(change.line.splitlines()):
                yield Text(f"      {'     ' if number else 'add  '}{printable(line)}", style="cyan")


def _check_verdict(report: CheckReport) -> str:
    named = printable(", ".join(report.files))
    files = f"{count(len(report.files), 'file')} read" + (f": {named}" if named else "")
    jobs = count(len(report.jobs), "job")
    found = report.all_problems()
    errors = count(sum(problem.is_error for problem in found), "error")
    if warned := sum(not problem.is_error for problem in found):
        files = f"{count(warned, 'warning')}; {files}"
    if report.ok:
        return f"{jobs} in order; {files}"
    disabled = sum(not job.valid for job in report.jobs)
    if not report.jobs:
        return f"{errors}, and no job was found; {files}"
    return f"{errors}; {f'{disabled} of {jobs} would be disabled' if disabled else f'{jobs} in order'}; {files}"


def doctor_page(findings: Sequence[Finding]) -> RenderableType:
    """Return every finding under its subject, with its remedy, and a verdict."""
    lines: list[RenderableType] = []
    for area, group in groupby(findings, key=lambda finding: finding.area):
        lines.append(Text(area, style="bold"))
        for finding in group:
            sign, style = _SIGNS[finding.level]
            lines.append(Hanging(Text.assemble("  ", (sign, style), f" {printable(finding.message)}")))
            if finding.fix:
                lines.append(Hanging(Text(f"    → {printable(finding.fix)}", style="dim")))
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    warnings = count(sum(finding.level is Level.WARNING for finding in findings), "warning")
    if problems:
        verdict = Text(f"{count(problems, 'problem')}, {warnings}", style="red")
    elif any(finding.level is Level.WARNING for finding in findings):
        verdict = Text(f"no problem, {warnings}", style="yellow")
    else:
        verdict = Text("no problems found", style="green")
    return Group(*lines, Text(""), verdict)
