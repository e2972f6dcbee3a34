"""Metrics, traces and the state dump of a host's process, set up together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from nomaflow_api.v1.letters import Finished, LogChunk, Started
from nomaflow_host.attempt.messages import AttemptSink
from nomaflow_host.observing.metrics import HOST_METRICS, HostMetrics
from nomaflow_host.observing.state_dump import host_state
from nomaflow_host.observing.tracing import AttemptTracer
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_telemetry.metrics import Reading
from nomaflow_telemetry.metrics_address import MetricsPlace
from nomaflow_telemetry.process_log import write_state
from nomaflow_telemetry.tracing import Tracing

if TYPE_CHECKING:
    from nomaflow_telemetry.endpoint import MetricsEndpoint


class HostObservation:
    """Observes a host and reports on request. Without metrics and traces it costs nothing.

    :param sink: receives the supervisor's events
    :param metrics: the place that serves the metrics; without an address, none are served
    :param environ: its OTEL_* variables ask for traces
    :raises MetricsAddressRefused: if metrics may not or cannot be served there
    :ivar sink: for the supervisor: passes events on to *sink*, through the observers if there are any
    :ivar orders: for the runner; None if nothing observes orders
    """

    def __init__(
        self,
        *,
        sink: AttemptSink,
        metrics: MetricsPlace,
        environ: Mapping[str, str],
    ) -> None:
        self._observed: tuple[Supervisor, HostSession] | None = None
        self._tracing = Tracing.start("nomaflow-host", environ)
        self._metrics = HostMetrics()
        self._endpoint: MetricsEndpoint | None = None
        if metrics.address:
            from nomaflow_telemetry.endpoint import MetricsEndpoint  # an HTTP server, which most processes do not need

            self._endpoint = MetricsEndpoint(metrics, metrics=HOST_METRICS, read=self._reading)
        self.orders = None if self._tracing is None else AttemptTracer(self._tracing)
        observed = self.orders is not None or self._endpoint is not None
        self.sink = _ObservedSink(sink, metrics=self._metrics, tracer=self.orders) if observed else sink

    @contextlib.asynccontextmanager
    async def of(self, supervisor: Supervisor, session: HostSession) -> AsyncIterator[None]:
        """Observe a host and serve its metrics until the exit, which exports the remaining traces.

        :raises MetricsAddressTaken: if another process listens there
        """
        self._observed = (supervisor, session)
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
        assert self._observed is not None
        write_state(host_state(*self._observed))

    def _reading(self) -> Reading:
        assert self._observed is not None
        return self._metrics.reading(*self._observed)


class _ObservedSink:
    """An ``AttemptSink`` that shows metrics and traces the events on their way to another one."""

    def __init__(self, sink: AttemptSink, *, metrics: HostMetrics, tracer: AttemptTracer | None) -> None:
        self._sink = sink
        self._metrics = metrics
        self._tracer = tracer
        self.progress, self.stopping, self.may_read = sink.progress, sink.stopping, sink.may_read

    def started(self, attempt_key: str, event: Started) -> None:
        self._metrics.started(attempt_key, event)
        if self._tracer is not None:
            self._tracer.started(attempt_key, event)
        self._sink.started(attempt_key, event)

    def log(self, attempt_key: str, event: LogChunk) -> None:
        self._metrics.log(event)
        self._sink.log(attempt_key, event)

    def finished(self, attempt_key: str, event: Finished) -> None:
        self._metrics.finished(attempt_key, event)
        if self._tracer is not None:
            self._tracer.finished(attempt_key, event)
        self._sink.finished(attempt_key, event)
