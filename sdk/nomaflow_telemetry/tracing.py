"""OpenTelemetry spans of this process, if the extra ``otel`` is installed and the OTEL_* variables request them.

Our spans are created when they have ended, with ids derived from keys; nothing is held while they are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Any

from nomaflow_telemetry.trace_context import TraceContext, span_id_of, trace_id_of

_LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 3.0
_PATIENCE_SECONDS = 1.0
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_tracing_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's variables request traces: by an endpoint, or an exporter's name."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" and bool(exporter or any(environ.get(name) for name in _ENDPOINTS))


class Tracing:
    """Exports spans, from a thread the SDK's provider.

    :param provider: the SDK's provider
    :param ids: the provider's generator of ids
    """

    def __init__(self, *, provider: Any, ids: Any) -> None:
        self._provider = provider
        self._ids = ids
        self._tracer = provider.get_tracer("nomaflow")

    @classmethod
    def start(cls, service: str, environ: Mapping[str, str]) -> Tracing | None:
        """Return the tracing of this process; None if it is not requested, or not installed.

        :param service: the service's name, if OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES set none
        """
        if not is_tracing_wanted(environ):
            return None
        try:
            from nomaflow_telemetry.otel_sdk import ChosenIds, make_provider
        except ModuleNotFoundError as error:
            _LOG.warning("no traces: %s is not installed; pip install 'nomaflow[otel]'", error.name)
            return None
        ids = ChosenIds()
        provider = make_provider(service, environ, ids=ids)
        return None if provider is None else cls(provider=provider, ids=ids)

    def place(self, traceparent: str, *, run_id: str, key: str) -> tuple[TraceContext, str]:
        """Return the context of a span of ours and the id of its parent, empty for the first span of a trace.

        For the first span of a trace the sampler decides; below a parent its caller has decided.

        :param traceparent: the parent's header; empty or malformed for none
        :param key: key of the span's id: a run's id or an attempt's key
        """
        parent = TraceContext.parse(traceparent)
        if parent is not None:
            return TraceContext(parent.trace_id, span_id_of(key), parent.sampled), parent.span_id
        trace_id = trace_id_of(run_id)
        decided = self._provider.sampler.should_sample(None, int(trace_id, 16), "run")
        return TraceContext(trace_id, span_id_of(key), decided.decision.is_sampled()), ""

    def emit(
        self,
        name: str,
        context: TraceContext,
        *,
        parent_id: str,
        start_us: int,
        end_us: int,
        kind: str = "INTERNAL",
        attributes: Mapping[str, str | int | bool],
        error: str = "",
    ) -> None:
        """Export a span that has ended, unless its trace is not sampled.

        :param context: the span's own context
        :param parent_id: id of the parent span; empty for the first of a trace
        :param kind: ``INTERNAL`` or ``CONSUMER``
        :param attributes: by name, without the prefix ``nomaflow.``
        :param error: the error, of which the first line is exported; empty if there was none
        """
        if not context.sampled:
            return
        from opentelemetry import trace

        self._ids.choose(context)
        above = TraceContext(context.trace_id, parent_id) if parent_id else None
        made = self._tracer.start_span(
            name,
            context=_current_context(above),
            kind=trace.SpanKind[kind],
            attributes={f"nomaflow.{name}": value for name, value in attributes.items()},
            start_time=start_us * 1000,
        )
        if error:
            made.set_status(trace.StatusCode.ERROR, error.partition("\n")[0][:500])
        made.end(end_time=max(start_us, end_us) * 1000)

    async def close(self) -> None:
        """Export the remaining spans, within three seconds: no longer for a collector that does not answer."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="nomaflow-traces", daemon=True).start()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await done.wait()
        except TimeoutError:
            _LOG.warning("the last spans could not be exported within %g s", _CLOSE_SECONDS)


def trace_globally(service: str, environ: Mapping[str, str]) -> None:
    """Have OpenTelemetry's API in this process export its spans, if the variables request it; for our programs.

    The remaining spans are exported when the process ends. A person waits for that: if the collector does not answer
    within a second (or OTEL_EXPORTER_OTLP_TIMEOUT), the spans are dropped silently.
    """
    if not is_tracing_wanted(environ):
        return
    try:
        from opentelemetry import trace

        from nomaflow_telemetry.otel_sdk import make_provider
    except ModuleNotFoundError:
        return
    logging.getLogger("opentelemetry").propagate = False
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    patience = None if any(environ.get(name) for name in _TIMEOUTS) else _PATIENCE_SECONDS
    provider = make_provider(service, environ, timeout=patience)
    if provider is not None:
        trace.set_tracer_provider(provider)


def attach(traceparent: str) -> None:
    """Make a span the current one of OpenTelemetry in this context, if its API is installed."""
    parent = TraceContext.parse(traceparent)
    if parent is None:
        return
    try:
        from opentelemetry import context
    except ModuleNotFoundError:
        return
    context.attach(_current_context(parent))


def _current_context(parent: TraceContext | None) -> Any:
    from opentelemetry import trace
    from opentelemetry.context import Context

    if parent is None:
        return Context()
    span = trace.SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(parent.sampled)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())
