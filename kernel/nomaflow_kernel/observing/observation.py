"""All observers of a kernel's process, over all its terms of leadership."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nomaflow_kernel.history.lookups import ApplyResult, CommitObserver
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.observing.metrics import KERNEL_METRICS, KernelMetrics
from nomaflow_kernel.observing.state_dump import CommitLog, kernel_state
from nomaflow_kernel.observing.tracing import RunTracer
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_telemetry.metrics_address import MetricsPlace
from nomaflow_telemetry.process_log import write_state
from nomaflow_telemetry.tracing import Tracing

if TYPE_CHECKING:
    from nomaflow_telemetry.endpoint import MetricsEndpoint


class Observation:
    """Knows the parts to observe, and reports on them when asked.

    :param metrics: the place that serves the metrics; without an address, none are served
    :param environ: its OTEL_* variables ask for traces
    :raises MetricsAddressRefused: if they must not, or cannot, be served there
    """

    def __init__(self, *, metrics: MetricsPlace, environ: Mapping[str, str]) -> None:
        self._commits = CommitLog()
        self._observers: list[CommitObserver] = [self._commits.applied]
        self._metrics: KernelMetrics | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._view: KernelParts | None = None
        self._tracing = Tracing.start("nomaflow-kernel", environ)
        self._tracer: RunTracer | None = None
        if self._tracing is not None:
            self._tracer = RunTracer(self._tracing)
            self._observers.append(self._tracer.applied)
        if metrics.address:
            from nomaflow_telemetry.endpoint import MetricsEndpoint  # an HTTP server, which most processes do not need

            counted = self._metrics = KernelMetrics()
            self._observers.append(counted.applied)
            self._endpoint = MetricsEndpoint(metrics, metrics=KERNEL_METRICS, read=lambda: counted.reading(self._view))

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve the metrics for as long as this is entered, and export the remaining traces at the end.

        :raises MetricsAddressTaken: if another process listens there
        """
        if self._endpoint is not None:
            self._endpoint.start()
        try:
            yield
        finally:
            if self._endpoint is not None:
                await self._endpoint.stop()
            if self._tracing is not None:
                await self._tracing.close()

    @property
    def traceparent(self) -> Callable[[RunRecord], str] | None:
        """The function that returns a run's trace context; None if this kernel does not trace."""
        return None if self._tracer is None else self._tracer.traceparent

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, seconds: float) -> None:
        """Pass a commit on to all commit observers."""
        for observer in self._observers:
            observer(transitions, result, seconds)

    def commit_failed(self) -> None:
        """Count a commit of the engine that failed."""
        if self._metrics is not None:
            self._metrics.failed()

    def begin(self, view: KernelParts) -> None:
        """Start observing a kernel that begins to lead."""
        self._view = view
        if self._tracer is not None:
            self._tracer.begin(view.store)
        if self._metrics is not None:
            self._metrics.begin(view)

    async def end(self) -> None:
        """Stop observing: the kernel no longer leads. Ending twice is allowed."""
        if self._tracer is not None:
            await self._tracer.end()
        self._view = None

    def dump(self) -> None:
        """Write the state of the kernel into the process's log."""
        write_state(kernel_state(self._view, commits=self._commits))
