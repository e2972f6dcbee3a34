"""Findings: one checked thing, its state, and its remedy."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any


class Level(enum.StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check.

    :param check: stable name, ``area.what``
    :param fix: the command or the change that repairs it, empty if nothing needs repair
    """

    check: str
    level: Level
    message: str
    fix: str = ""

    @property
    def area(self) -> str:
        """Its subject: machine, project, isolation, store, kernel, hosts, runs, access or alerts."""
        return self.check.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the finding in the shape of docs/cli.md."""
        return {**asdict(self), "level": self.level.value, "fix": self.fix or None}


def fine(check: str, message: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(check=check, level=Level.OK, message=message)


def warning(check: str, message: str, fix: str) -> Finding:
    """Return a finding about something that works but needs attention."""
    return Finding(check=check, level=Level.WARNING, message=message, fix=fix)


def problem(check: str, message: str, fix: str) -> Finding:
    """Return a finding about something that does not work."""
    return Finding(check=check, level=Level.PROBLEM, message=message, fix=fix)
