"""The newest commits, to show what the kernel was doing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nomaflow_kernel.history.port import ApplyResult
from nomaflow_kernel.history.transitions import Transition

__all__ = ["Commit", "CommitLog"]

_KEPT = 20


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the engine: its time, its duration, its number of transitions."""

    at: float
    seconds: float
    transitions: int


class CommitLog:
    """Remembers the last twenty commits. A ``CommitObserver`` of the store."""

    def __init__(self) -> None:
        self.newest: deque[Commit] = deque(maxlen=_KEPT)
        self.count = 0

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, *, seconds: float) -> None:
        """Record a commit."""
        self.count += 1
        self.newest.append(Commit(time.time(), seconds, len(transitions)))
