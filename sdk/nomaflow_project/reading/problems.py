"""Problems: errors in a file, worded so that its author can fix them."""

from __future__ import annotations

import datetime as dt
import enum
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Self

from nomaflow_project.reading.misspelt_names import misspelt_name
from nomaflow_project.reading.records import Record
from nomaflow_project.reading.work_time import may_search, nearest

_PART = re.compile(r'"(?:[^"\\]|\\.)*"(?:\[\d+\])*|[^."]+')
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 80
_LINES = 2**31
_LISTED = 30


class Severity(enum.StrEnum):
    """The effect of a problem: an error disables the job it is about, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem(Record):
    """A problem, its place, and the way out. ``str()`` is the form for a terminal.

    :param code: stable, listed in docs/configuration.md
    :param file: path as known to the reader of the file; may be empty
    :param path: place in the file, such as ``jobs[2].steps[0].callable``; may be empty
    :param message: the problem and the expectation
    :param fix: the way out; may be empty
    :param job_id: the job it is about; empty if it is about the file
    :param line: line of the file, from 1; 0 if unknown; `nomaflow_project.reading.lines` finds most
    """

    severity: Severity
    code: str
    message: str
    file: str = ""
    path: str = ""
    fix: str = ""
    job_id: str = ""
    line: int = 0

    @property
    def is_error(self) -> bool:
        """True if it disables its job."""
        return self.severity is Severity.ERROR

    @property
    def subject(self) -> tuple[str, str, str]:
        """Code, file and path: the same for all who find it, however they word it."""
        return self.code, self.file, self.path

    @property
    def place(self) -> str:
        """The file with the line, such as ``jobs.toml:7``; empty for no file."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    @property
    def sentence(self) -> str:
        """The problem in one line, for logs and messages: place, what is wrong, and the way out in brackets."""
        said = ": ".join(part for part in (self.place, self.path, self.message) if part)
        return f"{said} ({self.fix})" if self.fix else said

    def __str__(self) -> str:
        head = f"{self.severity}: {self.place or 'jobs'}"
        if self.path:
            parts = _PART.findall(self.path)
            if self.job_id:
                parts[0] += f' "{self.job_id}"'
            head += ": " + " › ".join(parts)
        lines = [head, f"  {self.message}"]
        if self.fix:
            lines.append(f"  way out: {self.fix}")
        return "\n".join(lines)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return a problem that `to_json` wrote, or one from a manifest."""
        texts = {name: str(data.get(name, "")) for name in ("code", "file", "path", "message", "fix", "job_id")}
        severity = Severity.WARNING if data.get("severity") == "warning" else Severity.ERROR
        line = data.get("line")
        return cls(severity=severity, line=line if isinstance(line, int) and 0 < line < _LINES else 0, **texts)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file; ``place / "steps" / 0`` goes deeper."""

    file: str
    path: str = ""
    job_id: str = ""

    def __truediv__(self, part: str | int) -> Place:
        if isinstance(part, int):
            return Place(self.file, f"{self.path}[{part}]", self.job_id)
        key = part if _BARE_KEY.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return Place(self.file, f"{self.path}.{key}" if self.path else key, self.job_id)

    def error(self, code: str, message: str, *, fix: str = "", line: int = 0) -> Problem:
        """Return an error at this place."""
        at = {"file": self.file, "path": self.path, "job_id": self.job_id}
        return Problem(severity=Severity.ERROR, code=code, message=message, fix=fix, line=line, **at)

    def warning(self, code: str, message: str, *, fix: str = "", line: int = 0) -> Problem:
        """Return a warning at this place."""
        return replace(self.error(code, message, fix=fix, line=line), severity=Severity.WARNING)


def once(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems without repeats, such as one of a file that each of its jobs has; the first of each stays."""
    return list({(each.subject, each.message): each for each in reversed(problems)}.values())[::-1]


def did_you_mean(name: str, known: Iterable[str], *, noun: str = "key", otherwise: str = "") -> str:
    """Return the fix for a misspelt name: the nearest known name, or the list of known names.

    :param known: only looked at while there is time to search
    :param otherwise: the fix if no known name is near, in place of the list
    """
    if not may_search():
        return otherwise or f"correct the {noun}"
    candidates = sorted(known) if isinstance(known, AbstractSet) else list(known)  # for one answer
    begins = [each for each in candidates if each.startswith(f"{name}_")]  # "timeout" means "timeout_seconds"
    longer = begins or [each for each in candidates if f"_{name}_" in f"_{each}_"]  # "job" means "target_job_id"
    match = misspelt_name(name, candidates) or (longer[0] if len(longer) == 1 else nearest(name, candidates))
    if match:
        return f"did you mean {match!r}?"
    if otherwise:
        return otherwise
    if not candidates:
        return f"add that {noun}, or correct the name"
    listed = ", ".join(heapq.nsmallest(_LISTED, candidates)) + (" …" if len(candidates) > _LISTED else "")
    return f"the known {noun}s are {listed}"


def within_sentence(message: str) -> str:
    """Return a message as it stands after a colon: with a small letter first, unless an abbreviation begins it."""
    return message if message[:2].isupper() else message[:1].lower() + message[1:]


def kind_of(value: object) -> str:
    """Return a value that may be a credential as shown in a message: its kind alone."""
    if isinstance(value, str):
        return "a text"
    return "a number" if type(value) in (int, float) else shown(value)


def shown(value: object) -> str:
    """Return a value as shown in a message: short, in TOML notation."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict() if len(value) == 1 and next(iter(value)) in ("$date", "$time", "$datetime"):
            return f"the date or time {next(iter(value.values()))}"
        case dt.date() | dt.time():
            return f"the date or time {value.isoformat()}"
        case dict():
            return "a table"
        case list():
            return "an array"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
