"""The span of a trigger, and the header that carries it to the kernel, if this process traces with OpenTelemetry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["trigger_span"]


@contextlib.contextmanager
def trigger_span(name: str) -> Iterator[str]:
    """Hold a span open for a call, and yield its ``traceparent``; empty if this process does not trace.

    A process that traces has loaded OpenTelemetry's API. The client never loads it, so other processes pay nothing.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield ""
        return
    from opentelemetry import trace

    with trace.get_tracer("nomaflow.client").start_as_current_span(name, kind=trace.SpanKind.PRODUCER) as span:
        context = span.get_span_context()
        flags = int(context.trace_flags) & 1
        yield f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}" if context.is_valid else ""
