"""A finding: one thing that was looked at, what was seen, and what mends it."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding", "Level", "fine", "problem", "warning"]


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check has found.

    :param check: stable name, ``area.what``
    :param fix: the command or the change that mends it, empty where there is nothing to mend
    """

    check: str
    level: Level
    message: str
    fix: str = ""

    @property
    def area(self) -> str:
        """What it is about: machine, project, store, kernel, hosts or runs."""
        return self.check.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the finding in the shape of docs/cli.md."""
        return {**asdict(self), "level": self.level.value, "fix": self.fix or None}


def fine(check: str, message: str) -> Finding:
    """Return a finding with nothing to mend."""
    return Finding(check=check, level=Level.OK, message=message)


def warning(check: str, message: str, fix: str) -> Finding:
    """Return a finding that works and should be looked at."""
    return Finding(check=check, level=Level.WARNING, message=message, fix=fix)


def problem(check: str, message: str, fix: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(check=check, level=Level.PROBLEM, message=message, fix=fix)
