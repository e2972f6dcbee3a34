"""Reading one TOML file from the disk: its tree, or the error."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["MAX_FILE_BYTES", "FileError", "read_body", "read_toml", "shown_path"]

MAX_FILE_BYTES = 1024 * 1024
"""The largest file that is read."""

_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileError:
    """The reason why a file could not be read. Lines and columns count from 1; 0 if there is none.

    :param code: ``missing_file``, ``unreadable_file`` or ``bad_toml``
    """

    message: str
    line: int = 0
    column: int = 0
    code: str = "bad_toml"
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the error in the form of a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return an error from a manifest."""
        return cls(
            message=str(data.get("message", "")),
            line=int(data.get("line") or 0),
            column=int(data.get("column") or 0),
            code=str(data.get("code") or "bad_toml"),
            fix=str(data.get("fix") or ""),
        )


def read_toml(path: Path) -> dict[str, Any] | FileError:
    """Return the parsed file, or the error."""
    try:
        body = _read(path)
    except FileNotFoundError:
        if path.is_symlink():
            return _unreadable("it is a link to a file that does not exist", "correct the link")
        return FileError(code="missing_file", message="there is no such file")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return _unreadable(f"it cannot be read: {reason}", "make it a readable file")
    if len(body) > MAX_FILE_BYTES:
        fix = "split it: the jobs.toml of each folder of plugins/ is read too"
        return _unreadable(f"it is larger than {MAX_FILE_BYTES} bytes", fix)
    return _parsed(body)


def read_body(path: Path) -> bytes | None:
    """Return a file's bytes; None if it is unreadable or too large."""
    try:
        body = _read(path)
    except OSError:
        return None
    return body if len(body) <= MAX_FILE_BYTES else None


def shown_path(path: Path, root: Path) -> str:
    """Return a file's name for messages and the manifest: relative to the project if it is inside it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _unreadable(message: str, fix: str) -> FileError:
    return FileError(code="unreadable_file", message=message, fix=fix)


def _read(path: Path) -> bytes:
    """Return the first bytes of a file, at most one more than the limit.

    :raises OSError: if it cannot be read, or is not a regular file, such as a pipe, which could block
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read(MAX_FILE_BYTES + 1)


def _parsed(body: bytes) -> dict[str, Any] | FileError:
    try:
        return tomllib.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return FileError(message="it is not UTF-8 text", fix="save it as UTF-8", line=line, column=1)
    except RecursionError:
        return FileError(message="it is nested too deeply", fix="nest at most 64 levels")
    except ValueError as error:  # a syntax error, an integer of more digits than Python reads, or an impossible date
        return _syntax_error(str(error), body)


def _syntax_error(said: str, body: bytes) -> FileError:
    fix = "correct the line; values are quoted text, numbers, true, false, dates, [lists] and {tables}"
    position = _POSITION.search(said)
    if position is not None:
        message = _lowered(said[: position.start()])
        return FileError(message=message, fix=fix, line=int(position[1]), column=int(position[2]))
    if said.endswith(_AT_END):
        message = _lowered(said.removesuffix(_AT_END)) + " at the end of the file"
        return FileError(message=message, fix=fix, line=body.rstrip().count(b"\n") + 1)
    return FileError(message=_lowered(said), fix=fix)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
