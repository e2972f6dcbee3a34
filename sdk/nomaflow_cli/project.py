"""Finds the project of a command: the directory that holds its files."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any

from nomaflow_cli.errors import CliError

__all__ = ["MARKERS", "find_project", "project_around", "read_settings", "require_project", "working_directory"]

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
    """Return the parsed nomaflow.toml.

    :raises OSError: if it cannot be read, or is for example a pipe, which would wait for a writer
    :raises ValueError: if it is not TOML
    """
    path = project / "nomaflow.toml"
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return tomllib.load(stream)
