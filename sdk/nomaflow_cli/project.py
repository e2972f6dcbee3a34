"""Finds the project of a command: the directory that holds its files."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nomaflow_cli.errors import CliError
from nomaflow_project.reading.files import parse_toml_file
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.names import JOB_ID
from nomaflow_project.reading.problems import Problem
from nomaflow_project.reading.project_files import ProjectFiles

if TYPE_CHECKING:
    from nomaflow.client.values import JobView
    from nomaflow_cli.invocation import Invocation

MARKERS = ("nomaflow.toml", "jobs.toml", ".nomaflow")
"""What makes a directory a project."""

_OWNED = (*MARKERS, "connectors.toml", "plugins", ".env")
"""What a command follows in a project: to plant one of them in a directory that others can write to is enough."""


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # a directory above that this user may not read


def working_directory() -> Path:
    """Return the directory that the command was started in.

    :raises CliError: if it no longer exists
    """
    try:
        return Path.cwd()
    except OSError:
        raise CliError(
            "the working directory cannot be found: it was removed, or this user may not enter it",
            reason="NO_PROJECT",
            fix="change to a project's directory, or name one with --project",
        ) from None


def known_project(invocation: Invocation) -> Path | None:
    """Return the project that a command names, or the one around the working directory.

    :return: None if there is none, it belongs to another user, or the directory no longer exists
    """
    with contextlib.suppress(CliError):
        return invocation.project or require_project(None, invocation.trust)
    return None


def project_of(invocation: Invocation, directory: Path | None = None, *, runs_code: bool = False) -> Path:
    """Return the project that a command is for, see `require_project`.

    :param directory: the one that its argument names, over the option
    :raises CliError: if there is none, or it is refused
    """
    return require_project(directory or invocation.project, invocation.trust, runs_code=runs_code)


def require_project(given: Path | None, trusted: Path | None = None, *, runs_code: bool = False) -> Path:
    """Return the named project, or the one around the working directory.

    A project of another user is refused if it was found and not named, or if its code is to run: others may have
    planted it, in a directory that this user happens to be in.

    :param trusted: a project that may belong to another user
    :raises CliError: if there is none, or it is refused
    """
    found = _named(given) if given is not None else _around()
    stranger = _stranger_in(found, trusted) if given is None or runs_code else None
    if stranger is None:
        return found
    raise CliError(
        f"{str(stranger)!r} belongs to {_user(stranger.lstat().st_uid)}, not to you: "
        "its settings and code would act as you",
        reason="NOT_YOURS",
        fix=f"if you trust that user with it: --trust {shlex.quote(str(found))}, or NOMAFLOW_TRUST",
    )


def _named(given: Path) -> Path:
    try:
        is_folder = stat.S_ISDIR(given.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise CliError(
            f"no such directory: {str(given)!r}",
            reason="NO_PROJECT",
            fix=f"name a project's directory, or create one with: nomaflow init {shlex.quote(str(given))}",
        ) from None
    except OSError as error:
        raise CliError(
            f"cannot enter {str(given)!r}: {(error.strerror or '').lower()}",
            reason="NO_PROJECT",
            fix="run it as the user whom the project belongs to",
        ) from None
    if not is_folder:
        raise CliError(
            f"not a directory: {str(given)!r}",
            reason="NO_PROJECT",
            fix=f"name the project's directory, such as {shlex.quote(str(given.parent))}",
        )
    return absolute(given)


def absolute(given: Path) -> Path:
    """Return a path that a command got, which is relative to the working directory, as an absolute one.

    :raises CliError: if that directory no longer exists
    """
    return given if given.is_absolute() else working_directory() / given


def _around() -> Path:
    """Return the nearest project directory at or above the working directory."""
    here = working_directory()
    for folder in (here, *here.parents):
        if any(_is_there(folder / marker) for marker in MARKERS):
            return folder
    raise CliError(
        f"no project here: {str(here)!r} and the directories above it have none of {', '.join(MARKERS)}",
        reason="NO_PROJECT",
        fix="change to a project's directory, name one with --project, or create one with: nomaflow init DIR",
    )


def _stranger_in(project: Path, trusted: Path | None) -> Path | None:
    """Return what of a project belongs neither to this user nor to root; None if nothing does."""
    if trusted is not None and trusted.resolve() == project.resolve():
        return None
    mine = {0, os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():
        mine.add(int(os.environ["SUDO_UID"]))
    for path in (project.resolve(), *(project / name for name in _OWNED)):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid not in mine:
                return path
    return None


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"uid {number}"


def wants_alerts(project: Path) -> bool:
    """Return whether ``[alerts]`` of nomaflow.toml says anything. Who reads the file itself reports a malformed one."""
    return bool(ProjectFiles(project, os.environ).settings.get("alerts"))


def host_table(project: Path) -> dict[str, Any]:
    """Return the table ``[host]`` of nomaflow.toml with the values that its host gets, empty if it is no table.

    :raises CliError: if the file cannot be read
    """
    files = ProjectFiles(project, os.environ)
    if files.error is not None:
        line = f"line {files.error.line}: " if files.error.line else ""
        why = f"nomaflow.toml cannot be read: {line}{files.error.message}"
        raise CliError(why, fix="find the error with: nomaflow check")
    table = files.table("host")
    return table if isinstance(table, dict) else {}


def with_lines_of_files(jobs: Iterable[JobView], project: Path | None) -> tuple[JobView, ...]:
    """Return the jobs, each problem with the line of its place if the job is in a file of this project.

    The kernel that finds a problem has no files, so it knows the place in the tree only.
    """
    jobs = tuple(jobs)
    if project is None:
        return jobs
    jobs_in = functools.cache(_jobs_in)
    here = [
        (job.job_id, each)
        for job in jobs
        for each in job.problems
        if not each.line and jobs_in(project, each.file).get(each.path.partition(".")[0]) == job.job_id
    ]
    try:
        placed = with_lines((Problem.from_json(each.to_json()) for _, each in here), project)
    except ImportError:  # the parser of the lines comes with the kernel and the host
        return jobs
    lines = {key: problem.line for key, problem in zip(here, placed, strict=True)}
    return tuple(
        replace(
            job,
            problems=tuple(replace(each, line=lines.get((job.job_id, each), each.line)) for each in job.problems),
        )
        for job in jobs
    )


def _jobs_in(project: Path, name: str) -> dict[str, str]:
    """Return the id of each job of a file, its place for none, by the path of its table such as ``jobs[2]``."""
    places = (at for at, _ in parse_toml_file(project / name, name=name).jobs())
    return {at.path: at.job_id if JOB_ID.fullmatch(at.job_id) else f"{name}:{at.path}" for at in places}
