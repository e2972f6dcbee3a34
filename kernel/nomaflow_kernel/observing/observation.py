"""All that looks at a kernel's process, over every term in which it leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from nomaflow_kernel.domain.transitions import Transition
from nomaflow_kernel.observing.commits import CommitLog
from nomaflow_kernel.observing.state_dump import kernel_state
from nomaflow_kernel.observing.view import KernelView
from nomaflow_kernel.ports import ApplyResult, CommitObserver
from nomaflow_telemetry.process_log import write_state

__all__ = ["KernelView", "Observation", "ObservedStore"]


class ObservedStore(Protocol):
    """What is looked at of a store."""

    @property
    def waiting(self) -> int:
        """Operations that wait for the writer."""


class Observation:
    """Knows what to look at, and tells of it when asked. A ``CommitObserver`` of the store."""

    def __init__(self) -> None:
        self._commits = CommitLog()
        self._observers: list[CommitObserver] = [self._commits]
        self._view: KernelView | None = None
        self._store: ObservedStore | None = None

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, *, seconds: float) -> None:
        """Pass a commit on to all who look at commits."""
        for observer in self._observers:
            observer.applied(transitions, result, seconds=seconds)

    def begin(self, store: ObservedStore, view: KernelView) -> None:
        """Look at a kernel that begins to lead."""
        self._store, self._view = store, view

    def end(self) -> None:
        """Look at nothing: the kernel no longer leads. Doing it twice is legal."""
        self._store = self._view = None

    def dump(self) -> None:
        """Write the state into the process's log."""
        write_state(self.state())

    def state(self) -> dict[str, Any]:
        """Return the state of the kernel, JSON-ready."""
        waiting = 0 if self._store is None else self._store.waiting
        return kernel_state(self._view, commits=self._commits, waiting_writes=waiting)
