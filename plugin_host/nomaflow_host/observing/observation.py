"""All that looks at a host's process."""

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
    """Knows what to look at, and tells of it when asked.

    :param sink: where the supervisor's events go
    :param metrics_address: where metrics are served; empty for nowhere
    :param environ: its OTEL_* variables ask for traces
    :raises MetricsAddressRefused: where they must not be served there, or cannot be
    :ivar sink: give it to the supervisor: it looks at the events on their way, where anybody wants to know
    :ivar orders: give it to the runner; None where nobody wants to know
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
        """Look at a host, and serve its metrics, for as long as this is entered; export what is left of traces then.

        :raises MetricsAddressTaken: where somebody else listens there
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
