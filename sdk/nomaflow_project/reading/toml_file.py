"""Reading one TOML file from the disk: its tree, or the error."""

from __future__ import annotations

import errno
import re
import tomllib
from pathlib import Path
from typing import Any

from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import read_regular, reason_of
from nomaflow_project.reading.toml_bounds import nested_too_deeply, outside_bounds

_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$")
_TWICE = re.compile(r"Cannot declare (\(.*\)) twice")
_TOO_LONG = re.compile(r"value has (\d+) digits")
_LONG_NUMBER = re.compile(rb"[0-9_]{4301}")
_AT_END = " (at end of document)"


def read_toml(path: Path, *, name: str = "") -> dict[str, Any] | Problem:
    """Return the parsed file, or a problem: ``missing_file``, ``unreadable_file`` or ``bad_toml``.

    :param name: the file's name in the problem; the path if empty
    """
    place = Place(name or str(path))
    try:
        body = read_regular(path)
    except FileNotFoundError:
        if path.is_symlink():
            message = "it is a link to a file that does not exist"
            return place.error("unreadable_file", message, fix="correct the link")
        return place.error("missing_file", "there is no such file", fix="create it, or correct the path")
    except OSError as error:
        reason = reason_of(error)
        if error.errno == errno.EFBIG:
            fix = "make it smaller; jobs may also be in the jobs.toml of each folder of plugins/"
            return place.error("unreadable_file", reason, fix=fix)
        fix = "make it a readable file, in a folder that may be entered"  # one that is closed hides whether it is there
        return place.error("unreadable_file", f"it cannot be read: {reason}", fix=fix)
    return parse_toml(body, place)


def parse_toml(body: bytes, place: Place) -> dict[str, Any] | Problem:
    """Return the tree of a TOML text, or a problem: ``bad_toml``. It is looked through before it is parsed."""
    try:
        text = body.decode("utf-8")
        if text.startswith("\ufeff"):
            message = "it begins with a byte order mark, which TOML does not allow"
            return place.error("bad_toml", message, fix="save it as UTF-8 without a byte order mark", line=1)
        outside = outside_bounds(text, place)
        if outside is not None:
            return outside
        tree = tomllib.loads(text)
        return nested_too_deeply(tree, place) or tree
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return place.error("bad_toml", "it is not UTF-8 text", fix="save it as UTF-8", line=line)
    except ValueError as error:  # a syntax error, an integer of more digits than Python reads, or an impossible date
        return _syntax_error(str(error), body, place)


def _syntax_error(said: str, body: bytes, place: Place) -> Problem:
    line = 0
    position = _POSITION.search(said)
    if position is not None:
        said, line = said[: position.start()], int(position[1])
    elif said.endswith(_AT_END):
        said, line = said.removesuffix(_AT_END) + " at the end of the file", body.rstrip().count(b"\n") + 1
    fix = "correct the line; values are quoted text, numbers, true, false, dates, [lists] and {tables}"
    if said.startswith("Cannot overwrite a value"):
        said, fix = "this key or table has a value already", "keep one of the two"
    if twice := _TWICE.match(said):
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        said, fix = f"the table [{name}] is given twice", "write its keys below one header"
    if digits := _TOO_LONG.search(said):
        line = next((n for n, text in enumerate(body.splitlines(), start=1) if _LONG_NUMBER.search(text)), 0)
        said, fix = f"an integer of {digits[1]} digits, expected at most 4300", "write it in quotes, as a text"
    return place.error("bad_toml", said[:1].lower() + said[1:], fix=fix, line=line)
