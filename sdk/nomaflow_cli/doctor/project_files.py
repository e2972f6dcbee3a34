"""Findings about a project's files: the result of check, and permissions."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.formatting import count
from nomaflow_cli.joined_host import JoinedHost
from nomaflow_project.reading.problems import Problem

_RENEWED_BEFORE = timedelta(days=7)  # a host renews ten days before the end


def examine_project(project: Path) -> Iterator[Finding]:
    """Yield the findings about a project's files. Imports none of its code."""
    from nomaflow_project.check.project import check_project

    report = check_project(project)
    has_code = (project / "jobs.toml").exists() or (project / "plugins").exists()
    problems = [each for each in report.all_problems() if has_code or each.file != "jobs.toml"]
    if has_code or any(each.is_error for each in problems):
        yield _jobs(project, count(len(report.jobs), "job"), problems)
    else:
        yield fine("project.files", "no jobs.toml and no plugins: this project is for a kernel only")
    yield from _permissions(project)
    yield from _identity(project)
    for each in report.all_problems():
        if each.code == "open_credential":
            told = f"{each.file!r} at {each.path}: {each.message}"
            fix = f"chmod 600 {shlex.quote(str(project / each.file))}, or write the credential as ${{NAME}}"
            yield (problem if each.is_error else warning)("project.credentials", told, fix)


def _jobs(project: Path, jobs: str, problems: Sequence[Problem]) -> Finding:
    command = f"nomaflow check {shlex.quote(str(project))}"
    errors = [each for each in problems if each.is_error]
    if errors:
        first = f"the first, in {errors[0].file or 'jobs'}: {errors[0].message}"
        return problem("project.files", f"{jobs}, {count(len(errors), 'error')}; {first}", command)
    if problems:
        return warning("project.files", f"{jobs} in order, {count(len(problems), 'warning')}", command)
    return fine("project.files", f"{jobs} in order (nomaflow check imports the code, too)")


def _permissions(project: Path) -> Iterator[Finding]:
    state = project / ".nomaflow"
    if state.exists() and not state.is_dir():
        text = f"{str(state)!r} is not a directory; the history and the kernel's address are stored there"
        yield problem("project.state", text, f"mv {shlex.quote(str(state))} elsewhere")
        return
    private = (
        (state, "contains the history and the kernel's socket", 0o700),
        (state / "identity.json", "holds the key that proves the host's identity", 0o600),
        (state / "pki", "holds the key of the kernel's authority", 0o700),
        (state / "kernel.db", "contains the values given to jobs", 0o600),
        (state / "alerts.db", "contains messages about runs", 0o600),
        (state / "run", "is the only protection of the kernel's socket", 0o700),
        *((each, "contains what a host has not reported yet", 0o700) for each in sorted(state.glob("host-*/"))),
    )
    wrong = [finding for path, why, mode in private if (finding := _private(path, why, mode)) is not None]
    yield from wrong or [fine("project.permissions", "private files can be read only by their owner")]


def _identity(project: Path) -> Iterator[Finding]:
    joined = JoinedHost.of(project)
    if joined is None:
        return
    left = joined.expires_at - datetime.now(UTC)
    shown = f"host {joined.host} has joined {', '.join(joined.addresses)}; its certificate"
    again = f"on the kernel's machine: nomaflow token create --host {joined.host}; here: nomaflow host --join FILE"
    if left < timedelta():
        yield problem("project.identity", f"{shown} has expired on {joined.expires_at:%Y-%m-%d}", again)
    elif left < _RENEWED_BEFORE:
        told = f"{shown} ends on {joined.expires_at:%Y-%m-%d} and should have been renewed"
        yield warning("project.identity", told, f"the host's log says why not; or {again}")
    else:
        yield fine(
            "project.identity", f"{shown} is good until {joined.expires_at:%Y-%m-%d}, and the host renews it before"
        )


def _private(path: Path, why: str, mode: int) -> Finding | None:
    as_owner = "run the command as the project's owner"
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return problem("project.permissions", f"{str(path)!r}: {error.strerror}", as_owner)
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        return warning("project.owner", f"{str(path)!r} belongs to uid {found.st_uid}", as_owner)
    if stat.S_IMODE(found.st_mode) & 0o077 == 0:
        return None
    shown = f"{str(path)!r} {why} and is open to others (mode {stat.S_IMODE(found.st_mode):o})"
    fix = f"chmod {mode:o} {shlex.quote(str(path))}"
    # A socket directory that others can enter lets them drive the kernel; the kernel refuses to start with one.
    return (problem if path.name == "run" else warning)("project.permissions", shown, fix)
