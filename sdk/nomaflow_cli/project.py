"""Finds the project of a command: the directory that holds its files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from nomaflow_cli.errors import CliError
from nomaflow_project.reading.toml_file import FileError, read_toml

__all__ = [
    "MARKERS",
    "find_project",
    "host_table",
    "project_around",
    "read_settings",
    "require_project",
    "working_directory",
]

MARKERS = ("nomaflow.toml", "jobs.toml", ".nomaflow")
"""What makes a directory a project."""


def find_project(start: Path) -> Path | None:
    """Return the nearest project directory at or above ``start``, or None if there is none."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if any(_is_there(folder / marker) for marker in MARKERS):
            return folder
    return None


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


def project_around() -> Path | None:
    """Return the project around the working directory, or None if there is none or the directory no longer exists."""
    try:
        return find_project(Path.cwd())
    except OSError:
        return None


def require_project(given: Path | None) -> Path:
    """Return the named project, or the one around the working directory.

    :raises CliError: if there is none
    """
    if given is not None:
        if not given.is_dir():
            raise CliError(
                f"no such directory: {str(given)!r}",
                reason="NO_PROJECT",
                fix=f"name a project's directory, or create one with: nomaflow init {shlex.quote(str(given))}",
            )
        return given.absolute()
    here = working_directory()
    found = find_project(here)
    if found is None:
        raise CliError(
            f"no project here: {str(here)!r} and the directories above it have none of {', '.join(MARKERS)}",
            reason="NO_PROJECT",
            fix="change to a project's directory, name one with --project, or create one with: nomaflow init DIR",
        )
    return found


def read_settings(project: Path) -> dict[str, Any]:
    """Return the parsed nomaflow.toml, empty if there is none.

    :raises CliError: if it cannot be read
    """
    found = read_toml(project / "nomaflow.toml")
    if not isinstance(found, FileError):
        return found
    if found.code == "missing_file":
        return {}
    line = f"line {found.line}: " if found.line else ""
    raise CliError(f"nomaflow.toml cannot be read: {line}{found.message}", fix="find the error with: nomaflow check")


def host_table(project: Path) -> dict[str, Any]:
    """Return the table ``[host]`` of nomaflow.toml, empty if it is no table.

    :raises CliError: if the file cannot be read
    """
    table = read_settings(project).get("host")
    return table if isinstance(table, dict) else {}
