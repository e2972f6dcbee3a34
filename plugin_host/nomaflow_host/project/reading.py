"""Reads one TOML file of a project, and says so in a form for people where that fails."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MAX_FILE_BYTES", "FileProblem", "read_toml", "shown_path"]

MAX_FILE_BYTES = 1 << 20
"""The size that a file may have."""

_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileProblem:
    """Why a file could not be read.

    :param code: ``missing_file``, ``unreadable_file`` or ``bad_toml``
    :param line: counts from 1; 0 where there is none
    """

    code: str
    message: str
    fix: str
    line: int = 0
    column: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as the manifest has it."""
        return {
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "line": self.line,
            "column": self.column,
        }


def read_toml(path: Path) -> dict[str, Any] | FileProblem:
    """Return the parsed file, or why there is none."""
    try:
        body = _read(path)
    except FileNotFoundError:
        return FileProblem(
            code="missing_file", message="there is no such file", fix="create it, or correct config_path"
        )
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return FileProblem(
            code="unreadable_file", message=f"it cannot be read: {reason}", fix="make it a readable file"
        )
    if len(body) > MAX_FILE_BYTES:
        message = f"it is larger than {MAX_FILE_BYTES} bytes"
        return FileProblem(code="unreadable_file", message=message, fix="split it: plugins/*/jobs.toml are read too")
    try:
        return tomllib.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return FileProblem(code="bad_toml", message="it is not UTF-8 text", fix="save it as UTF-8", line=line, column=1)
    except RecursionError:
        return FileProblem(code="bad_toml", message="it is nested too deeply", fix="nest at most 64 levels")
    except ValueError as error:
        return _syntax_problem(str(error), body)


def _read(path: Path) -> bytes:
    """Return the first bytes of a file, one more than may be.

    :raises OSError: where it cannot be read, or is a pipe, say: that would wait for whoever writes into it
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read(MAX_FILE_BYTES + 1)


def shown_path(path: Path, root: Path) -> str:
    """Return how to call a file in messages and in the manifest: relative to the project where it lies in it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _syntax_problem(said: str, body: bytes) -> FileProblem:
    fix = "correct the line; values are quoted text, numbers, true, false, dates, [lists] and {tables}"
    position = _POSITION.search(said)
    if position is not None:
        message = _lowered(said[: position.start()])
        line, column = int(position[1]), int(position[2])
        return FileProblem(code="bad_toml", message=message, fix=fix, line=line, column=column)
    line = body.count(b"\n") + 1 if said.endswith(_AT_END) else 0
    return FileProblem(code="bad_toml", message=_lowered(said.removesuffix(_AT_END)), fix=fix, line=line)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
