"""The only module that imports OpenTelemetry's SDK; imported once traces are requested."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from nomaflow_telemetry.trace_context import TraceContext

_LOG = logging.getLogger(__name__)


class ChosenIds(RandomIdGenerator):
    """Gives the next span the ids that were chosen for it. For one thread."""

    def __init__(self) -> None:
        self._next: TraceContext | None = None

    def choose(self, context: TraceContext) -> None:
        """Choose the ids of the next span."""
        self._next = context

    def generate_span_id(self) -> int:
        """Return the chosen id, or a random one."""
        return super().generate_span_id() if self._next is None else int(self._next.span_id, 16)

    def generate_trace_id(self) -> int:
        """Return the chosen id, or a random one."""
        return super().generate_trace_id() if self._next is None else int(self._next.trace_id, 16)


def make_provider(
    service: str, environ: Mapping[str, str], *, ids: Any = None, timeout: float | None = None
) -> TracerProvider | None:
    """Return a provider that exports as the variables say; None, with a log line, for an unknown exporter.

    :param ids: id generator, for a process that shuts the provider down itself; None for random ids and a shutdown at
        exit
    :param service: the service's name, if the variables set none
    :param timeout: seconds for an export; None to use the variables

    Sampler, limits, headers, time limits and the batches are read from the OTEL_* variables by the SDK itself.
    """
    exporter = _exporter(environ.get("OTEL_TRACES_EXPORTER") or "otlp", timeout)
    if exporter is None:
        return None
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": service})
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=ids is None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str, timeout: float | None) -> SpanExporter | None:
    if name == "console":
        return ConsoleSpanExporter()
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(timeout=timeout)
    _LOG.warning("no traces: OTEL_TRACES_EXPORTER is %r, expected otlp, console or none", name)
    return None
