"""All that looks at a kernel's process, over every term in which it leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from nomaflow_kernel.domain.transitions import Transition
from nomaflow_kernel.observing.commits import CommitLog
from nomaflow_kernel.observing.metrics import KERNEL_METRICS, KernelMetrics
from nomaflow_kernel.observing.state_dump import kernel_state
from nomaflow_kernel.observing.view import KernelView
from nomaflow_kernel.ports import ApplyResult, CommitObserver
from nomaflow_telemetry.endpoint import MetricsEndpoint
from nomaflow_telemetry.metrics import Reading
from nomaflow_telemetry.process_log import write_state

__all__ = ["KernelView", "Observation", "ObservedStore"]


class ObservedStore(Protocol):
    """What is looked at of a store."""

    @property
    def waiting(self) -> int:
        """Operations that wait for the writer."""


class Observation:
    """Knows what to look at, and tells of it when asked. A ``CommitObserver`` of the store.

    :param metrics_address: where metrics are served; empty for nowhere
    :raises MetricsAddressRefused: where they must not be served there, or cannot be
    """

    def __init__(self, *, metrics_address: str = "") -> None:
        self._commits = CommitLog()
        self._observers: list[CommitObserver] = [self._commits]
        self._metrics: KernelMetrics | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._view: KernelView | None = None
        self._store: ObservedStore | None = None
        if metrics_address:
            self._metrics = KernelMetrics()
            self._observers.append(self._metrics)
            self._endpoint = MetricsEndpoint(address=metrics_address, metrics=KERNEL_METRICS, read=self._reading)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve the metrics for as long as this is entered.

        :raises MetricsAddressTaken: where somebody else listens there
        """
        if self._endpoint is not None:
            self._endpoint.start()
        try:
            yield
        finally:
            if self._endpoint is not None:
                await self._endpoint.stop()

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, *, seconds: float) -> None:
        """Pass a commit on to all who look at commits."""
        for observer in self._observers:
            observer.applied(transitions, result, seconds=seconds)

    def commit_failed(self) -> None:
        """Take note of a commit of the engine that failed."""
        if self._metrics is not None:
            self._metrics.failed()

    def begin(self, store: ObservedStore, view: KernelView) -> None:
        """Look at a kernel that begins to lead."""
        self._store, self._view = store, view
        if self._metrics is not None:
            self._metrics.begin(view)

    def end(self) -> None:
        """Look at nothing: the kernel no longer leads. Doing it twice is legal."""
        self._store = self._view = None

    def dump(self) -> None:
        """Write the state into the process's log."""
        write_state(self.state())

    def state(self) -> dict[str, Any]:
        """Return the state of the kernel, JSON-ready."""
        return kernel_state(self._view, commits=self._commits, waiting_writes=self._waiting())

    def _reading(self) -> Reading:
        assert self._metrics is not None
        return self._metrics.reading(self._view, waiting_writes=self._waiting())

    def _waiting(self) -> int:
        return 0 if self._store is None else self._store.waiting
