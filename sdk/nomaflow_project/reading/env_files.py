"""``[host] env_file``: files of ``NAME=value`` lines with the variables of a project."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow_api.bounds import PROBLEMS_OF_TABLE
from nomaflow_api.credential_signs import names_credential, url_password
from nomaflow_project.reading.environment import resolve_text
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import others_may_open, read_regular, reason_of, shown_path
from nomaflow_project.reading.sources import ReferenceMissing, VariablesOnly

_ENTRY = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\n'"][^\n]*|) )
    (?P<rest>[^\n]*)(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[ \t\r]*(?:\#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t])\#.*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectVariables:
    """The variables from a project's files.

    :param given: variables from the files alone; a later file wins over an earlier one
    :param environ: the process's own variables laid over them
    :param files: their paths, whether there are such files or not
    :param certain: those of `environ` that no file with an error may set otherwise, and the first such file
    :param undoubted: those that neither such a file nor one without any text may set otherwise, and the first of these
    :param states: ``text``, ``empty`` or ``unread`` for each file, by its path relative to the project
    """

    given: Mapping[str, str]
    environ: Mapping[str, str]
    certain: VariablesOnly
    undoubted: VariablesOnly
    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)


def project_variables(root: Path, settings: Mapping[str, Any], environ: Mapping[str, str]) -> ProjectVariables:
    """Return the variables of a project's ``[host] env_file``.

    :param settings: the tree of nomaflow.toml
    :param environ: the process's own variables, which win
    """
    problems: list[Problem] = []
    files: list[str] = []
    states: dict[str, str] = {}
    read: list[tuple[str, str, dict[str, str]]] = []
    for place, name in _named(settings):
        try:
            path = root / resolve_text(name, environ)
        except ReferenceMissing as error:
            problems.append(place.error("unset_variable", error.problem, fix=error.fix))
            read.append((name, "unread", {}))
            continue
        files.append(str(path))
        shown = shown_path(path, root)
        text, found, told = _read(path, Place(shown), named_at=place)
        problems += told
        states[shown] = "text" if text.strip() else "empty"
        if any(each.is_error for each in told):
            states[shown] = "unread"
        read.append((name, states[shown], found))
    given = _merged(read, unless=())
    unread = next((f"{name!r}, which may set it, cannot be read" for name, state, _ in read if state == "unread"), "")
    empty = next((f"{name!r}, which may set it, is empty" for name, state, _ in read if state == "empty"), "")
    return ProjectVariables(
        given=given,
        environ={**given, **environ},
        certain=VariablesOnly({**_merged(read, unless=("unread",)), **environ}, unread=unread),
        undoubted=VariablesOnly({**_merged(read, unless=("unread", "empty")), **environ}, unread=empty),
        problems=tuple(problems),
        files=tuple(files),
        states=states,
    )


def _merged(read: Sequence[tuple[str, str, Mapping[str, str]]], *, unless: Collection[str]) -> dict[str, str]:
    """Return the variables of files; none of a file before one in such a state, which may set them otherwise."""
    merged: dict[str, str] = {}
    for _, state, found in read:
        merged = {} if state in unless else {**merged, **found}
    return merged


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield place and path of each file that nomaflow.toml names; entries that are no path are reported elsewhere."""
    host = settings.get("host")
    named = host.get("env_file") if isinstance(host, dict) else None
    place = Place("nomaflow.toml", "host.env_file")
    if isinstance(named, str):
        yield from ((place, named),) if named else ()
    elif isinstance(named, Sequence):
        yield from ((place / index, each) for index, each in enumerate(named) if isinstance(each, str) and each)


def _read(path: Path, place: Place, *, named_at: Place) -> tuple[str, dict[str, str], list[Problem]]:
    """Return the text of a file, its variables, and its problems."""
    try:
        if not path.is_file():
            name = repr(place.file)
            message = f"{name} is not a file" if path.exists() else f"there is no file {name}"
            return "", {}, [named_at.error("missing_file", message, fix="create it, or correct env_file")]
        text = read_regular(path).decode("utf-8-sig")  # editors of Windows begin a file with a byte order mark
    except OSError as error:
        reason = reason_of(error)
        if error.errno == errno.EFBIG:
            return "", {}, [place.error("unreadable_file", reason, fix="split it")]
        return "", {}, [place.error("unreadable_file", f"it cannot be read: {reason}", fix="make it a readable file")]
    except UnicodeDecodeError:
        return "", {}, [place.error("unreadable_file", "it is not UTF-8 text", fix="save it as UTF-8")]
    found, problems = _parsed(text, place)
    secret = next((name for name, value in found.items() if names_credential(name) or url_password(value)), "")
    if secret and (mode := others_may_open(path)):
        problems.append(
            (place / secret).warning(
                "open_credential",
                f"it is a credential, and others may read or write the file (its mode is {mode:04o})",
                fix="chmod 600 it",
            )
        )
    return text, found, problems


def _parsed(text: str, place: Place) -> tuple[dict[str, str], list[Problem]]:
    """Return the variables of a file and the problems of bad lines. No message quotes a line: it may be a secret."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = max(blank.end(), at + 1)
            continue
        entry = _ENTRY.match(text, at)
        if entry is None or not _BLANK.fullmatch(entry["rest"]):
            end, wrong = text.find("\n", at) + 1 or len(text), "is not NAME=value"
            fix = "close its quotes, or put # before a comment"
        elif "\0" in (value := _value(entry)):  # the system takes no such variable
            end, wrong, fix = entry.end(), "has a NUL byte in its value", "delete the byte"
        else:
            found[entry["name"]], at = value, entry.end()
            continue
        if len(problems) < PROBLEMS_OF_TABLE:
            line = text.count("\n", 0, at) + 1
            problems.append(place.error("bad_variable", f"line {line} {wrong}", fix=fix))
        at = end
    return found, problems


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), entry["double"])
    return _COMMENT.sub("", entry["bare"]).strip()
