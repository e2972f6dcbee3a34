"""Metrics, traces and the state dump of a host's process, set up together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from nomaflow_host.attempt.messages import AttemptSink
from nomaflow_host.observing.metrics import HOST_METRICS, HostMetrics
from nomaflow_host.observing.state_dump import host_state
from nomaflow_host.observing.tracing import AttemptTracer
from nomaflow_host.observing.view import HostView
from nomaflow_telemetry.endpoint import MetricsEndpoint
from nomaflow_telemetry.metrics import Reading
from nomaflow_telemetry.process_log import write_state
from nomaflow_telemetry.tracing import Tracing

__all__ = ["HostObservation"]


class HostObservation:
    """Observes a host and reports on request.

    :param sink: receives the supervisor's events
    :param metrics_address: address to serve metrics on; empty for none
    :param environ: its OTEL_* variables ask for traces
    :raises MetricsAddressRefused: if metrics may not or cannot be served there
    :ivar sink: for the supervisor: passes events on to *sink*, through the observers if there are any
    :ivar orders: for the runner; None if nothing observes orders
    """

    def __init__(self, *, sink: AttemptSink, metrics_address: str, environ: Mapping[str, str]) -> None:
        self.sink = sink
        self.orders: AttemptTracer | None = None
        self._tracing = Tracing.start("nomaflow-host", environ)
        if self._tracing is not None:
            self.sink = self.orders = AttemptTracer(sink=self.sink, tracing=self._tracing)
        self._metrics: HostMetrics | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._view: HostView | None = None
        if metrics_address:
            self.sink = self._metrics = HostMetrics(sink=self.sink)
            self._endpoint = MetricsEndpoint(address=metrics_address, metrics=HOST_METRICS, read=self._reading)

    @contextlib.asynccontextmanager
    async def of(self, view: HostView) -> AsyncIterator[None]:
        """Observe a host and serve its metrics until the exit, which exports the remaining traces.

        :raises MetricsAddressTaken: if another process listens there
        """
        self._view = view
        if self._endpoint is not None:
            self._endpoint.start()
        try:
            yield
        finally:
            if self._endpoint is not None:
                await self._endpoint.stop()
            if self._tracing is not None:
                await self._tracing.close()

    def dump(self) -> None:
        """Write the host's state into the process's log."""
        assert self._view is not None
        write_state(host_state(self._view))

    def _reading(self) -> Reading:
        assert self._metrics is not None
        assert self._view is not None
        return self._metrics.reading(self._view)
