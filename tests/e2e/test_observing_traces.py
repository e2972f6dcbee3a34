"""One trace from the trigger through kernel and host to what the callable traces itself, across real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project_system import CODE, ProjectSystem, open_system
from span_collector import Collector, ReceivedSpan, open_collector

from nomaflow_telemetry.trace_context import span_id_of
from real_system import eventually

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "traced"
steps = [{ callable = "team.code:traced" }, { callable = "team.code:traced_sync" }]

[[jobs]]
id = "fail"
retry = { attempts = 2, base_seconds = 0.01 }
steps = [{ callable = "team.code:fail" }]

[[jobs]]
id = "outer"
steps = [{ type = "call_job", name = "inner", target_job_id = "traced" }]

[[jobs]]
id = "waits"
steps = [{ callable = "team.code:wait_for", op_kwargs = { file = "@HERE@/go" } }]

[[jobs]]
id = "ticks"
schedule = "* * * * * *"
enabled = false
steps = [{ callable = "team.code:strict" }]

[[jobs]]
id = "spans"
steps = [{ callable = "team.code:current" }]
"""
MORE = '''

def _own_span(name):
    """Export a span as an author does: with a provider of the plugin's own, made in the worker."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "plugin"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    with provider.get_tracer("team").start_as_current_span(name):
        pass


async def traced():
    _own_span("own async")


def traced_sync():
    _own_span("own sync")


async def current():
    import sys
    return {"loaded": sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")}
'''


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Collect spans in memory."""
    with open_collector() as opened:
        yield opened


def ready(system: ProjectSystem, *flags: str) -> None:
    """Start kernel and host on the jobs."""
    system.write(JOBS.replace("@HERE@", str(system.project)), code=CODE + MORE)
    (system.project / "nomaflow.toml").write_text('[host]\nname = "team"\ndrain_seconds = 0.2\n')
    system.start_kernel(*flags)
    system.start_host()
    eventually(lambda: len(system.jobs()) == 6)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[ProjectSystem]:
    """Start kernel and host that export to the collector, as the command does too."""
    for opened in open_system(tmp_path_factory.mktemp("traces"), forks_templates=True):
        opened.environ = collector.environ
        ready(opened)
        yield opened


def spans_of(collector: Collector, trace_id: str, wanted: int) -> dict[str, ReceivedSpan]:
    """Wait until a trace has so many spans, and return them by name."""
    found = eventually(
        lambda: spans if len(spans := [s for s in collector.spans if s.trace_id == trace_id]) >= wanted else None
    )
    assert len(found) == wanted, [(span.service, span.name) for span in found]
    return {span.name: span for span in found}


def trace_of(collector: Collector, run_id: str) -> str:
    """Return the trace that the span of a run belongs to."""
    return eventually(lambda: next((s.trace_id for s in collector.spans if s.span_id == span_id_of(run_id)), ""))


def parents(spans: dict[str, ReceivedSpan]) -> dict[str, str]:
    """Return name of each span → name of the span above it."""
    names = {span.span_id: span.name for span in spans.values()}
    return {name: names.get(span.parent_id, span.parent_id) for name, span in spans.items()}


def test_one_trace_from_the_trigger_to_the_callable(system: ProjectSystem, collector: Collector) -> None:
    """The command's trigger, the kernel's run, the host's attempts, the callables, and their own spans below."""
    run = system.ask("run", "traced", "--wait")["run_id"]
    spans = spans_of(collector, trace_of(collector, run), 8)
    assert parents(spans) == {
        "trigger traced": "",
        "run traced": "trigger traced",
        "attempt traced": "run traced",
        "call team.code:traced": "attempt traced",
        "own async": "call team.code:traced",
        "attempt traced_sync": "run traced",
        "call team.code:traced_sync": "attempt traced_sync",
        "own sync": "call team.code:traced_sync",
    }
    services = {name: span.service for name, span in spans.items()}
    assert services["trigger traced"] == "nomaflow-cli"
    assert services["run traced"] == "nomaflow-kernel"
    assert services["attempt traced"] == services["call team.code:traced"] == "nomaflow-host"
    assert services["own async"] == "plugin"
    for child, parent in parents(spans).items():
        assert spans[child].start <= spans[child].end
        if parent and parent != "trigger traced":
            assert spans[parent].start <= spans[child].start
    assert spans["run traced"].attributes["nomaflow.run_id"] == run
    assert spans["call team.code:traced"].attributes["nomaflow.step"] == "traced"
    assert [span.name for span in spans.values() if span.failed is not None] == []


def test_errors_set_the_status(system: ProjectSystem, collector: Collector) -> None:
    """Each failed attempt is one, with its error; so is the run. Attempts have spans of their own."""
    run = system.ask("run", "fail", "--wait", code=1)["run_id"]
    trace = trace_of(collector, run)
    eventually(lambda: len([s for s in collector.spans if s.trace_id == trace]) == 6)
    found = [span for span in collector.spans if span.trace_id == trace]
    attempts = [span for span in found if span.name == "attempt fail"]
    assert [(span.attributes["nomaflow.attempt"], span.failed) for span in attempts] == [
        (1, "Flaky: try 1"), (2, "Flaky: try 2")
    ]  # fmt: skip
    assert len({span.span_id for span in attempts}) == 2
    (of_run,) = [span for span in found if span.name == "run fail"]
    assert of_run.failed is not None
    assert "try 2" in of_run.failed
    assert of_run.attributes["nomaflow.state"] == "FAILED"


def test_a_called_run_is_in_its_caller_s_trace(system: ProjectSystem, collector: Collector) -> None:
    """A called run's span is a child of its caller's span."""
    run = system.ask("run", "outer", "--wait")["run_id"]
    spans = spans_of(collector, trace_of(collector, run), 9)
    assert parents(spans)["run traced"] == "run outer"
    assert parents(spans)["attempt traced"] == "run traced"


def test_a_trace_survives_the_kernel(system: ProjectSystem, collector: Collector) -> None:
    """The kernel is killed while a step runs; the next one exports the run's span under the same trigger."""
    run = system.ask("run", "waits")["run_id"]
    system.until(run, "RUNNING")
    system.kill("kernel")
    system.start_kernel()
    (system.project / "go").touch()
    system.until(run, "SUCCEEDED")
    spans = spans_of(collector, trace_of(collector, run), 4)
    assert parents(spans) == {
        "trigger waits": "",
        "run waits": "trigger waits",
        "attempt wait_for": "run waits",
        "call team.code:wait_for": "attempt wait_for",
    }


def test_a_collector_that_is_away_is_not_the_command_s_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is started, and the command prints what it always prints, with nothing of the exporter's between."""
    for system in open_system(tmp_path / "p", forks_templates=True):
        ready(system)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        answer = system.cli("run", "spans", "-o", "json")
        assert answer.err == ""
        system.until(answer.json["run_id"], "SUCCEEDED")


def test_without_the_variables_nothing_is_loaded(tmp_path: Path) -> None:
    """Kernel, host and worker load nothing of OpenTelemetry, although it is installed."""
    for system in open_system(tmp_path / "p", forks_templates=True):
        ready(system)
        loaded: Any = system.ask("run", "spans", "--wait")["steps"][0]["extras"]["loaded"]
        assert loaded == []
        for part in ("kernel", "host"):
            assert "traces" not in system.log(part)
