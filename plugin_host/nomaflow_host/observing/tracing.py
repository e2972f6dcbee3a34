"""The spans of attempts and their callables, made in the host's main process when an attempt has ended.

Workers export none of them: a template that has loaded an exporter, with its thread, could not be forked. A worker
only makes the callable's span the current one, so that spans of plugin code are its children.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from nomaflow_api.v1.letters import CallOutcome, DispatchOrder, Finished, FinishedState, LogChunk, Progress, Started
from nomaflow_api.v1.letters import replace as letter_with
from nomaflow_api.v1.sealing import LetterError, open_order, open_outcome
from nomaflow_host.attempt.messages import AttemptSink
from nomaflow_telemetry.trace_context import TraceContext, callable_span_id, span_id_of, trace_id_of
from nomaflow_telemetry.tracing import SpanRecord, Tracing

__all__ = ["AttemptTracer"]


@dataclass(slots=True)
class _Traced:
    """An attempt from its order to its end."""

    order: DispatchOrder
    parent_id: str
    context: TraceContext
    accepted_us: int
    started: Started | None = None


class AttemptTracer:
    """Exports two spans of each attempt.

    An ``AttemptSink`` in front of another one, which sees each order before the supervisor does.

    :param sink: receives every event
    """

    def __init__(self, *, sink: AttemptSink, tracing: Tracing) -> None:
        self._sink = sink
        self._tracing = tracing
        self._held: dict[str, _Traced] = {}

    def accepting(self, order: DispatchOrder) -> DispatchOrder:
        """Begin the spans of an attempt; return its order with the callable's span as the trace's context."""
        key = order.attempt_key
        parent = TraceContext.parse(order.traceparent)
        context = self._tracing.context_below(parent, trace_id=trace_id_of(order.run_id), span_id=span_id_of(key))
        parent_id = "" if parent is None else parent.span_id
        self._held[key] = _Traced(order, parent_id, context, time.time_ns() // 1000)
        return letter_with(order, traceparent=replace(context, span_id=callable_span_id(key)).header)

    def refused(self, attempt_key: str) -> None:
        """Forget an attempt that the supervisor refused."""
        self._held.pop(attempt_key, None)

    def started(self, attempt_key: str, event: Started) -> None:
        """Record the start of the call."""
        held = self._held.get(attempt_key)
        if held is not None:
            held.started = event
        self._sink.started(attempt_key, event)

    def log(self, attempt_key: str, event: LogChunk) -> None:
        """Pass the event on."""
        self._sink.log(attempt_key, event)

    def progress(self, attempt_key: str, event: Progress) -> None:
        """Pass the event on."""
        self._sink.progress(attempt_key, event)

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Export the spans."""
        held = self._held.pop(attempt_key, None)
        if held is not None:
            self._export(held, event)
        self._sink.finished(attempt_key, event)

    def may_read(self, *, exclusive: bool) -> bool:
        """Pass the question on."""
        return self._sink.may_read(exclusive=exclusive)

    def _export(self, held: _Traced, event: Finished) -> None:
        started, order = held.started, open_order(held.order.order)
        outcome = _outcome_of(event)
        failed = event.state is FinishedState.FAILED
        told = outcome.error or event.error or event.reason or "the attempt failed"
        error = told.partition("\n")[0][:500] if failed else ""
        attributes: dict[str, str | int | bool] = {
            "nomaflow.run_id": order.run_id,
            "nomaflow.job_id": order.job_id,
            "nomaflow.step": order.step,
            "nomaflow.attempt": order.attempt,
            "nomaflow.state": str(event.state),
            "nomaflow.reason": event.reason_code or outcome.reason_code,
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


def _outcome_of(event: Finished) -> CallOutcome:
    """Return the worker's outcome; an empty one if there is none, or it cannot be read."""
    try:
        return open_outcome(event.outcome)
    except LetterError:
        return CallOutcome(state=event.state)
