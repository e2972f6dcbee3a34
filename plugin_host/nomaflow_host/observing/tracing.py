"""The spans of attempts and their callables, made in the host's main process when an attempt has ended.

Workers export none of them: a template that has loaded an exporter, with its thread, could not be forked. A worker
only makes the callable's span the current one, so that spans of plugin code are its children.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from nomaflow_host.attempt.messages import (
    AttemptOrder,
    AttemptSink,
    Finished,
    FinishedState,
    Started,
)
from nomaflow_telemetry.trace_context import TraceContext, callable_span_id, span_id_of, trace_id_of
from nomaflow_telemetry.tracing import SpanRecord, Tracing

__all__ = ["AttemptTracer"]


@dataclass(slots=True)
class _Traced:
    """An attempt from its order to its end."""

    order: AttemptOrder
    parent_id: str
    context: TraceContext
    accepted_us: int
    started: Started | None = None


class AttemptTracer:
    """Exports two spans of each attempt. An ``AttemptSink`` in front of another one, which also sees orders.

    :param sink: receives every event
    """

    def __init__(self, *, sink: AttemptSink, tracing: Tracing) -> None:
        self._sink = sink
        self.log, self.progress, self.may_read = sink.log, sink.progress, sink.may_read  # not traced
        self._tracing = tracing
        self._held: dict[str, _Traced] = {}

    def accepting(self, order: AttemptOrder) -> AttemptOrder:
        """Begin the spans of an attempt; return its order with the callable's span as the trace's context."""
        key = order.attempt_key
        parent = TraceContext.parse(order.traceparent)
        context = self._tracing.context_below(parent, trace_id=trace_id_of(order.run_id), span_id=span_id_of(key))
        parent_id = "" if parent is None else parent.span_id
        self._held[key] = _Traced(order, parent_id, context, time.time_ns() // 1000)
        return replace(order, traceparent=replace(context, span_id=callable_span_id(key)).header)

    def refused(self, attempt_key: str) -> None:
        """Forget an attempt that the supervisor refused."""
        self._held.pop(attempt_key, None)

    def started(self, attempt_key: str, event: Started) -> None:
        """Record the start of the call."""
        held = self._held.get(attempt_key)
        if held is not None:
            held.started = event
        self._sink.started(attempt_key, event)

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Export the spans."""
        held = self._held.pop(attempt_key, None)
        if held is not None:
            self._export(held, event)
        self._sink.finished(attempt_key, event)

    def _export(self, held: _Traced, event: Finished) -> None:
        order, started = held.order, held.started
        failed = event.state is FinishedState.FAILED
        error = (event.error or event.reason or "the attempt failed").partition("\n")[0][:500] if failed else ""
        attributes: dict[str, str | int | bool] = {
            "nomaflow.run_id": order.run_id,
            "nomaflow.job_id": order.job_id,
            "nomaflow.step": order.step,
            "nomaflow.attempt": order.attempt,
            "nomaflow.state": str(event.state),
            "nomaflow.reason": event.reason_code,
        }
        if started is not None:
            where = {"nomaflow.worker_pid": started.worker_pid, "nomaflow.generation": started.generation}
            self._tracing.emit(
                SpanRecord(
                    name=f"call {order.callable}",
                    context=replace(held.context, span_id=callable_span_id(order.attempt_key)),
                    parent_id=held.context.span_id,
                    start_us=started.at_us,
                    end_us=event.at_us,
                    attributes={**attributes, **where, "nomaflow.callable": order.callable},
                    error=error,
                )
            )
        self._tracing.emit(
            SpanRecord(
                name=f"attempt {order.step}",
                context=held.context,
                parent_id=held.parent_id,
                start_us=held.accepted_us,
                end_us=time.time_ns() // 1000,
                attributes=attributes,
                error=error,
            )
        )
