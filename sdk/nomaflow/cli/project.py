"""Which project a command is about: the directory that holds its files."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any

from nomaflow.cli.errors import CliError

__all__ = ["MARKERS", "find_project", "read_settings", "require_project"]

MARKERS = ("nomaflow.toml", "jobs.toml", ".nomaflow")
"""What makes a directory a project."""


def find_project(start: Path) -> Path | None:
    """Return the nearest directory at or above ``start`` that is a project, None where there is none."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if any((folder / marker).exists() for marker in MARKERS):
            return folder
    return None


def require_project(given: Path | None) -> Path:
    """Return the project that was named, or the one that the working directory lies in.

    :raises CliError: where there is none
    """
    if given is not None:
        if not given.is_dir():
            raise CliError(
                f"no such directory: {str(given)!r}",
                reason="NO_PROJECT",
                fix=f"name a project's directory, or make one with: nomaflow init {shlex.quote(str(given))}",
            )
        return given.absolute()
    found = find_project(Path.cwd())
    if found is None:
        raise CliError(
            f"no project here: neither {', '.join(MARKERS)} in {str(Path.cwd())!r} nor above",
            reason="NO_PROJECT",
            fix="go to a project's directory, name one with --project, or make one with: nomaflow init DIR",
        )
    return found


def read_settings(project: Path) -> dict[str, Any]:
    """Return what nomaflow.toml says.

    :raises OSError: where it cannot be read, or is a pipe, say: that would wait for whoever writes into it
    :raises ValueError: where it is no TOML
    """
    path = project / "nomaflow.toml"
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return tomllib.load(stream)
