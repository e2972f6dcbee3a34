"""The spans of runs come from the history, and never hold the kernel up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider

from nomaflow_kernel.history.lookups import ApplyResult, RunDetail
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import EventRecord, RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.observing.tracing import RunTracer
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_telemetry.trace_context import TraceContext, span_id_of, trace_id_of
from nomaflow_telemetry.tracing import Tracing
from waiting import eventually

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Exported(Tracing):
    """Tracing that keeps what it is given; every trace is sampled."""

    def __init__(self) -> None:
        super().__init__(provider=TracerProvider(shutdown_on_exit=False), ids=None)
        self.spans: list[SimpleNamespace] = []

    def emit(self, name: str, context: TraceContext, **fields: Any) -> None:
        self.spans.append(SimpleNamespace(name=name, context=context, **fields))


class History:
    """A store that holds some runs, or cannot be read."""

    def __init__(self, *runs: RunRecord) -> None:
        self.runs = {run.run_id: run for run in runs}
        self.broken = False

    async def run_details(self, run_ids: Sequence[str]) -> list[RunDetail]:
        await asyncio.sleep(0)
        if self.broken:
            raise StoreUnavailable("gone")
        return [RunDetail(run=self.runs[each], attempts=(), definition={}) for each in run_ids if each in self.runs]


def run(run_id: str, state: RunState, **fields: Any) -> RunRecord:
    """Return a run of history."""
    return RunRecord(
        run_id=run_id,
        job_id="job",
        host="team",
        state=state,
        trigger=RunTrigger(kind=TriggerKind.API),
        definition_digest="d",
        request=RunRequest(traceparent=fields.pop("traceparent", "")),
        queued_at_us=10,
        finished_at_us=30,
        **fields,
    )


def ended(*run_ids: str) -> ApplyResult:
    """Return a commit in which runs ended, and another thing happened."""
    events = [EventRecord(seq=1, at_us=1, kind="run.finished", run_id=each) for each in run_ids]
    return ApplyResult(events=[*events, EventRecord(seq=9, at_us=1, kind="run.started", run_id="run_9")])


async def test_a_run_that_has_ended_is_one_span() -> None:
    """The span has its times, its trigger as parent, and its error; an end waits for runs read last."""
    tracing = Exported()
    tracer = RunTracer(tracing)
    reason = Reason("step_failed", "step 'a' failed")
    history = History(
        run("run_1", RunState.FAILED, traceparent=PARENT, error="no rows\nat all", reason=reason),
        run("run_2", RunState.CANCELED, reason=Reason("canceled_by_user", "by ann")),
    )
    tracer.begin(cast("Any", history))
    tracer.applied((), ended("run_1", "run_2", "run_gone"), seconds=0.1)
    await tracer.end()
    await tracer.end()
    failed, canceled = tracing.spans
    assert failed.context == TraceContext("0af7651916cd43dd8448eb211c80319c", span_id_of("run_1"))
    assert (failed.parent_id, failed.start_us, failed.end_us) == ("b7ad6b7169203331", 10, 30)
    assert failed.error == "no rows\nat all"
    assert failed.attributes["reason"] == "step_failed"
    assert canceled.context == TraceContext(trace_id_of("run_2"), span_id_of("run_2"))
    assert (canceled.parent_id, canceled.error) == ("", "")


async def test_a_store_that_cannot_be_read_costs_spans_only(caplog: pytest.LogCaptureFixture) -> None:
    """The next runs have theirs."""
    tracing = Exported()
    tracer = RunTracer(tracing)
    history = History(run("run_2", RunState.SUCCEEDED))
    tracer.begin(cast("Any", history))
    history.broken = True
    tracer.applied((), ended("run_1"), seconds=0.1)
    await eventually(lambda: "not exported" in caplog.text)
    history.broken = False
    tracer.applied((), ended("run_2"), seconds=0.1)
    await tracer.end()
    assert [span.attributes["run_id"] for span in tracing.spans] == ["run_2"]


async def test_what_waits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """The oldest runs get no span if runs end faster than they can be read, and the log says so."""
    tracer = RunTracer(Exported())
    for first in range(0, 12_000, 1_000):
        tracer.applied((), ended(*(f"run_{number}" for number in range(first, first + 1_000))), seconds=0.1)
    assert len(tracer._ended) == 10_000
    assert tracer._ended[0] == "run_2000"
    assert "1024 have none" in caplog.text
