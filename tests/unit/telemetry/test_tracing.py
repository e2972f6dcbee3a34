"""Trace contexts: the accepted forms, their effects, and no cost for processes that do not trace."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nomaflow.client.requests import trigger_span
from nomaflow_telemetry.otel_sdk import ChosenIds
from nomaflow_telemetry.trace_context import TraceContext, callable_span_id, span_id_of, trace_id_of
from nomaflow_telemetry.tracing import Tracing, is_tracing_wanted
from waiting import PATIENCE

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"])
def test_a_header_is_read_and_written(header: str) -> None:
    """The flag says whether the trace is kept."""
    context = TraceContext.parse(header)
    assert context == TraceContext(TRACE, SPAN, sampled=header.endswith("01"))
    assert context.header == header


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """A later version may have more fields, as the standard allows; they are not passed on."""
    context = TraceContext.parse(f"01-{TRACE}-{SPAN}-01-more")
    assert context is not None
    assert context.header == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        "٠" * 55,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 300,
    ],
)
def test_a_malformed_header_counts_as_none(header: str) -> None:
    """No part of a malformed header is kept or passed on."""
    assert TraceContext.parse(header) is None


def test_ids_follow_from_keys() -> None:
    """The same for every process, valid, and different for a run, its attempts and their callables."""
    ids = {span_id_of("run_1"), span_id_of("run_1/a/1"), span_id_of("run_1/a/2"), callable_span_id("run_1/a/1")}
    assert len(ids) == 4
    assert TraceContext.parse(TraceContext(trace_id_of("run_1"), span_id_of("run_1")).header) is not None
    assert span_id_of("run_1") == "342134a40a309a78", "another value would break traces over an upgrade"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
    ],
)
def test_the_standard_variables_ask_for_traces(environ: dict[str, str], wanted: bool) -> None:
    """An endpoint or an exporter does, unless traces are switched off."""
    assert is_tracing_wanted(environ) is wanted


def kept() -> tuple[Tracing, InMemorySpanExporter]:
    """Return tracing that keeps its spans in memory."""
    exporter, ids = InMemorySpanExporter(), ChosenIds()
    provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider=provider, ids=ids), exporter


def exported(exporter: InMemorySpanExporter) -> Sequence[ReadableSpan]:
    """Return what was exported."""
    return exporter.get_finished_spans()


def test_a_span_has_the_ids_times_and_parent_that_were_chosen() -> None:
    """The span ignores OpenTelemetry's current context, since a caller's must not leak in."""
    tracing, exporter = kept()
    context = TraceContext(TRACE, span_id_of("run_1"))
    stranger = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(stranger):
        tracing.emit("a", context, parent_id=SPAN, start_us=5, end_us=7, attributes={"step": "x"}, error="no\nway")
        tracing.emit("b", context, parent_id="", start_us=5, end_us=3, attributes={})
    below, first = exported(exporter)
    assert (f"{below.context.trace_id:032x}", f"{below.context.span_id:016x}") == (TRACE, context.span_id)
    assert below.parent is not None
    assert f"{below.parent.span_id:016x}" == SPAN
    assert (below.start_time, below.end_time, below.status.description) == (5000, 7000, "no")
    assert below.attributes == {"nomaflow.step": "x"}
    assert first.parent is None
    assert f"{first.context.trace_id:032x}" == TRACE
    assert first.end_time == first.start_time, "clocks part; no span is shorter than nothing"


def test_a_trace_that_is_not_sampled_has_no_spans_of_ours() -> None:
    """The caller has decided it; the context is passed on with its flag."""
    tracing, exporter = kept()
    context, parent_id = tracing.place(f"00-{TRACE}-{SPAN}-00", run_id="run_1", key="x")
    tracing.emit("a", context, parent_id=parent_id, start_us=1, end_us=2, attributes={})
    assert exported(exporter) == ()
    assert context.header.endswith("-00")


async def test_a_collector_that_does_not_answer_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing gives up after its time, and says so."""
    monkeypatch.setattr("nomaflow_telemetry.tracing._CLOSE_SECONDS", 0.1)
    tracing, _ = kept()
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Stuck:
        def get_tracer(self, _: str) -> Any:
            return None

        def shutdown(self) -> None:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(600)

    async with asyncio.timeout(PATIENCE):
        await Tracing(provider=Stuck(), ids=None).close()
        assert caplog.messages == ["the last spans could not be exported within 0.1 s"]
        await tracing.close()
    release.set()


def test_the_client_sends_the_context_of_its_span() -> None:
    """The context is a child of the application's own span; without tracing there is no header."""
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("app").start_as_current_span("request") as own, trigger_span("trigger a") as header:
        context = TraceContext.parse(header)
        assert context is not None
        assert context.trace_id == f"{own.get_span_context().trace_id:032x}"
    with trigger_span("trigger a") as header:
        assert header == ""


def test_who_does_not_trace_loads_nothing() -> None:
    """Kernel, host and client import OpenTelemetry and the metrics library only on request."""
    code = (
        "import sys, nomaflow.client, nomaflow_kernel.app, nomaflow_host.app, nomaflow_host.worker.process\n"
        "from nomaflow_kernel.observing.observation import Observation\n"
        "from nomaflow_telemetry.metrics_address import MetricsPlace\n"
        "Observation(metrics=MetricsPlace(), environ={})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
