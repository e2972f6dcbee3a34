"""``nomaflow check``, ``schedule`` and ``cron``: the content of the project's files, mostly without a kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import moment
from nomaflow_cli.invocation import Directory, Invocation, local_command, remote_command, require_extra
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.options import argument, flag, option, repeated
from nomaflow_cli.output import answer, print_warnings, say
from nomaflow_cli.parsers import parse_instant
from nomaflow_cli.project import project_of
from nomaflow_project.reading.project_files import ProjectFiles

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import FirePageView
    from nomaflow_project.check.project import CheckReport
    from nomaflow_project.reading.problems import Problem

_MANIFEST_SECONDS = 90
_LIVE_DAYS = 31
_MOST_FIRES = 10_000


@local_command("check", needs=("kernel",))
def check(
    *,
    invocation: Invocation,
    directory: Directory = None,
    no_import: bool = flag("Check the files only; do not import the plugins."),
    from_original: bool = flag("Show, for each job, what differs from the original's behaviour."),
) -> ExitCode:
    """Check the project's files and callables.

    Exits with 1 if there is an error.
    """
    project = project_of(invocation, directory, runs_code=True)
    files = ProjectFiles(project, os.environ)
    report = _report(files, importing=not no_import, from_original=from_original)
    report = replace(report, problems=(*report.problems, *_metrics_problems(files), *_pitfalls(report, project)))
    answer(invocation, report.to_json(), lambda: pages.findings.check_page(report))
    return ExitCode.of(report.ok)


def _report(files: ProjectFiles, *, importing: bool, from_original: bool) -> CheckReport:
    """Return the problems of the files, and of the callables if the files let the plugins be imported.

    :raises CliError: if the plugins cannot be imported although the files are in order
    """
    from nomaflow_project.check.project import check_files
    from nomaflow_project.reading.problems import Place

    try:
        manifest = _manifest(files.root) if importing else None
    except CliError:
        report = check_files(files, from_original=from_original)
        if report.ok:
            raise
        unseen = Place("").warning(
            "not_imported",
            "the plugins were not imported, so the callables were not checked",
            fix="correct the errors above, then check again",
        )
        return replace(report, problems=(*report.problems, unseen))
    return check_files(files, manifest=manifest, from_original=from_original)


def _pitfalls(report: CheckReport, project: Path) -> Sequence[Problem]:
    """Return warnings about the code of the callables that a report's jobs name."""
    from nomaflow_cli.lint.project import lint_project

    named = [step.callable for job in report.jobs if job.definition for step in job.definition.steps if step.callable]
    return lint_project(project, named)


def _metrics_problems(files: ProjectFiles) -> Iterator[Problem]:
    """Yield an error for each process that would not start with its settings of metrics."""
    from nomaflow_project.models.settings_file import HostSection, KernelSection
    from nomaflow_project.reading.files import SETTINGS_FILE
    from nomaflow_project.reading.lines import with_lines
    from nomaflow_project.reading.problems import Place
    from nomaflow_telemetry.metrics_address import MetricsAddressRefused, MetricsPlace, checked_address

    models: Mapping[str, type[KernelSection | HostSection]] = {"kernel": KernelSection, "host": HostSection}
    for name, model in models.items():
        section, problems = files.section(model, name)
        if section is None or problems or not section.metrics:
            continue
        try:
            checked_address(MetricsPlace.of(files.root, section))
        except MetricsAddressRefused as error:
            refused = Place(SETTINGS_FILE, f"{name}.metrics").error("bad_metrics", str(error))
            yield from with_lines([refused], files.root)


def _manifest(project: Path) -> dict[str, Any]:
    """Return the manifest of the project's host, made in a separate process: plugin code never runs in this one.

    :raises CliError: if there is none
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


@remote_command("schedule")
def schedule(
    *,
    invocation: Invocation,
    directory: Directory = None,
    days: int = option("Number of days to show.", default=7, min=1, max=366),
    start: str = option("Start of the period, as an ISO 8601 time; default: now.", "--from"),
    job: list[str] = repeated("Show only this job; repeatable."),
    live: bool = flag("Ask the kernel: the jobs of all hosts, with pauses, usual times and collisions; 31 days."),
    host: str = option("With --live: show only jobs of this host."),
    tag: str = option("With --live: show only jobs with this tag."),
) -> None:
    """Show when the project's jobs will fire, and mark collisions.

    With --live: the jobs of a kernel.
    """
    begin = parse_instant(start, option="--from") or datetime.now(UTC)
    try:
        end = begin + timedelta(days=days)
    except OverflowError:
        raise CliError("the calendar ends before that period", fix="give an earlier --from, or fewer --days") from None
    if live:
        if days > _LIVE_DAYS:
            raise CliError(f"--live shows at most {_LIVE_DAYS} days", fix=f"give --days {_LIVE_DAYS} or less")
        named = replace(invocation, project=directory or invocation.project)
        _show_fires(named, begin, end, jobs=job, host=host, tag=tag)
        return
    if host or tag:
        raise CliError("--host and --tag need --live", fix="add --live to ask the kernel")
    require_extra("kernel")
    from nomaflow_project.check.planning import schedule_table
    from nomaflow_project.check.project import check_project
    from nomaflow_project.reading.problems import did_you_mean

    report = check_project(project_of(invocation, directory))
    known = {each.job_id: each for each in report.jobs}
    unknown = [name for name in job if name not in known]
    if unknown:
        raise CliError(
            f"no job {unknown[0]!r} in {report.root!r}",
            reason="JOB_NOT_FOUND",
            fix=did_you_mean(unknown[0], known, noun="job"),
        )
    shown = [each for name, each in known.items() if not job or name in job]
    broken = [each.job_id for each in shown if not each.valid]
    unread = [each for each in report.problems if each.is_error]
    table = schedule_table([each.definition for each in shown if each.valid and each.definition], begin, end)
    shape = {**table.to_json(), "broken": broken, "problems": [each.to_json() for each in unread]}
    answer(invocation, shape, lambda: pages.jobs.schedule_page(table, broken, unread))


def _show_fires(
    invocation: Invocation, begin: datetime, end: datetime, *, jobs: Sequence[str], host: str, tag: str
) -> None:
    if len(jobs) > 1:
        raise CliError("--live takes one --job", fix="give one, or none")
    job_id = jobs[0] if jobs else ""

    async def ask(kernel: KernelClient) -> FirePageView:
        found = await kernel.list_fires(since=begin, until=end, host=host, tag=tag, job_id=job_id, limit=_MOST_FIRES)
        if not found.fires and not found.frequent:
            await kernel.check_names(job_id=job_id, host=host, tag=tag)
        return found

    found = talk(invocation, ask)
    answer(invocation, found.to_json(), lambda: pages.jobs.fires_page(found))
    if found.listed_until is not None and found.listed_until < end:
        more = f"there are more fires from {moment(found.listed_until)} on; ask for fewer days"
        print_warnings([more], as_json=invocation.as_json)


@local_command("cron", needs=("kernel",))
def cron(
    *,
    invocation: Invocation,
    expression: str = argument(
        "Cron expression of five or six fields, or a name such as @daily; quote it.", default=""
    ),
    tz: str = option("IANA time zone.", default="UTC"),
    start: str = option("Start, as an ISO 8601 time; UTC if it has no zone; default: now.", "--from"),
    count: int = option("Number of fires to print.", "-n", "--count", default=5, min=1, max=10_000),
    batch: bool = flag("Read JSON lines {expr, tz, from, n} from standard input and print one line for each."),
) -> None:
    """Print the next fires of a cron expression, in UTC."""
    from nomaflow_project.check.planning import cron_batch, cron_fires
    from nomaflow_project.cron import CronError

    if batch == bool(expression):
        raise CliError(
            "cron takes an expression or --batch, and not both", fix="give one, as in: nomaflow cron '*/5 * * * *'"
        )
    if batch:
        for line in cron_batch(sys.stdin, now=lambda: datetime.now(UTC)):
            say(line)
        return
    # Everything that this command prints is UTC, so a time without a zone is, too.
    begin = parse_instant(start, option="--from", zone=UTC) or datetime.now(UTC)
    try:
        fires = cron_fires(expression, tz, begin, count)
    except CronError as error:
        raise CliError(str(error), reason="BAD_CRON") from None
    answer(invocation, {"expression": expression, "timezone": tz, "fires": fires}, "\n".join(fires))
