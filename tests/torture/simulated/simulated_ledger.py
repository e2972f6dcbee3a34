"""The simulated parts' own records: every start of every attempt, and every promise."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass, field

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_kernel.engine.commands import TriggerOutcome

__all__ = ["AckedTrigger", "Execution", "Ledger", "rows_of"]


def rows_of(attempt_key: str) -> int:
    """Return the row count that the code of an attempt returns: no two attempts return the same."""
    return zlib.crc32(attempt_key.encode())


@dataclass(kw_only=True)
class Execution:
    """One execution of code.

    :param ended: virtual seconds; None while it runs
    :param lines: bodies of its log chunks, in order
    :param state: the outcome its host knows of; None if the host died first
    """

    attempt_key: str
    incarnation: str
    started: float
    ended: float | None = None
    lines: list[bytes] = field(default_factory=list)
    state: FinishedState | None = None


@dataclass(frozen=True, kw_only=True)
class AckedTrigger:
    """A trigger whose caller has its answer."""

    job_id: str
    request_id: str
    outcome: TriggerOutcome
    at: float


@dataclass(kw_only=True)
class Ledger:
    """Kept beside the store, and never read by the kernel."""

    executions: list[Execution] = field(default_factory=list)
    triggers: list[AckedTrigger] = field(default_factory=list)
    cancels: dict[str, float] = field(default_factory=dict)
    slots: set[str] = field(default_factory=set)
    own_instances: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    taken_back: int = 0

    def take_back(self, turns: int) -> None:
        """Count turns that a kernel decided ahead of a commit, and then once more."""
        self.taken_back += turns

    def say(self, text: str) -> None:
        """Put a line into the timeline."""
        self.timeline.append(f"{asyncio.get_running_loop().time():9.3f}  {text}")

    def complain(self, text: str) -> None:
        """Record a broken promise."""
        self.say(f"BROKEN: {text}")
        self.complaints.append(text)
