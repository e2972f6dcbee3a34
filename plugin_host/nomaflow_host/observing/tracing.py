"""The spans of attempts and their callables, made in the host's main process when an attempt has ended.

Workers export none of them: a template that has loaded an exporter, with its thread, could not be forked. A worker
only makes the callable's span the current one, so that spans of plugin code are its children.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from msgspec.structs import replace as letter_with

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CallOutcome, DispatchOrder, Finished, Started
from nomaflow_api.v1.sealing import LetterError, open_order, open_outcome
from nomaflow_telemetry.trace_context import TraceContext, callable_span_id
from nomaflow_telemetry.tracing import Tracing


@dataclass(slots=True)
class _Traced:
    """An attempt from its order to its end."""

    order: DispatchOrder
    parent_id: str
    context: TraceContext
    accepted_us: int
    started: Started | None = None


class AttemptTracer:
    """Exports two spans of each attempt. It sees each order before the supervisor, and all starts and ends."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._held: dict[str, _Traced] = {}

    def accepting(self, order: DispatchOrder) -> DispatchOrder:
        """Begin the spans of an attempt; return its order with the callable's span as the trace's context."""
        key = order.attempt_key
        context, parent_id = self._tracing.place(order.traceparent, run_id=order.run_id, key=key)
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

    def finished(self, attempt_key: str, event: Finished) -> None:
        """Export the spans."""
        held = self._held.pop(attempt_key, None)
        if held is None:
            return
        order, started, context = open_order(held.order.order), held.started, held.context
        outcome = _outcome_of(event)
        failed = event.state is FinishedState.FAILED
        error = (outcome.error or event.error or event.reason or "the attempt failed") if failed else ""
        attributes: dict[str, str | int | bool] = {
            "run_id": order.run_id,
            "job_id": order.job_id,
            "step": order.step,
            "attempt": order.attempt,
            "state": str(event.state),
            "reason": event.reason_code or outcome.reason_code,
        }
        if started is not None:
            call: dict[str, str | int | bool] = {
                "worker_pid": started.worker_pid,
                "generation": started.generation,
                "callable": order.callable,
            }
            self._tracing.emit(
                f"call {order.callable}",
                replace(context, span_id=callable_span_id(order.attempt_key)),
                parent_id=context.span_id,
                start_us=started.at_us,
                end_us=event.at_us,
                attributes={**attributes, **call},
                error=error,
            )
        self._tracing.emit(
            f"attempt {order.step}",
            context,
            parent_id=held.parent_id,
            start_us=held.accepted_us,
            end_us=time.time_ns() // 1000,
            attributes=attributes,
            error=error,
        )


def _outcome_of(event: Finished) -> CallOutcome:
    """Return the worker's outcome; an empty one if there is none, or it cannot be read."""
    try:
        return open_outcome(event.outcome)
    except LetterError:
        return CallOutcome(state=event.state)
