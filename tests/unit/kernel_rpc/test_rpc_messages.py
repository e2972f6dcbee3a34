"""Messages about hosts, runs and pauses, as a client reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from nomaflow.client import values
from nomaflow.client.values import from_micros
from nomaflow_api.v1.message_codec import decode
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, RefusedLoad, WorkerStatus
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import (
    AttemptRecord,
    CancelRequest,
    Fold,
    PauseRecord,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.rpc.messages import host_message, pause_message, run_detail_message, run_message
from nomaflow_project.reading.problems import Problem, Severity


def test_a_host_is_told_with_its_instances() -> None:
    """Hello, heartbeat and status make one instance."""
    problem = Problem(severity=Severity.ERROR, code="syntax", file="jobs.toml", path="", message="broken", line=3)
    hello = InstanceHello(
        host="team", incarnation="i-1", machine="m", pid=7, version="0.1",
        max_async=5, max_sync=2, isolation_mechanism="cgroup", python="3.11.2",
    )  # fmt: skip
    worker = WorkerStatus(
        pid=8, exclusive=True, generation=2, running=1, attempt_keys=("run_1/a/1",), rss_bytes=4 << 20,
        started_at_us=3_000_000,
    )  # fmt: skip
    status = Instance(
        hello=hello,
        attached_at_us=1_000_000,
        last_heartbeat_us=0,
        attempts={"run_1/a/1": True},
        heartbeat=HeartbeatInfo(
            generation=2,
            manifest_digest="new",
            workers=(worker,),
            saturated=True,
            newer_files=("plugins/a.py",),
            drain_deadline_us=9_000_000,
        ),
        unreachable_since_us=5_000_000,
        lost_at_us=6_000_000,
        clock_offset_us=-7,
        retried_on_lost=1,
        refused_load=RefusedLoad(at_us=2_000_000, message="no", problems=(problem,)),
    )
    engine: Any = SimpleNamespace(
        queued_count=lambda _: 4, absent_since_us=lambda _: None, is_launched=lambda _: False, pause_of=lambda *_: None
    )
    message = host_message("team", [status], catalogue=Catalogue(), engine=engine)
    host = decode(values.HostView, message)
    (instance,) = host.instances
    assert (host.state, host.queued, host.introduced_at, host.pause) == ("UNREACHABLE", 4, None, None)
    assert not message.HasField("introduced_at")
    assert (instance.pid, instance.max_sync, instance.isolation_mechanism, instance.running) == (7, 2, "cgroup", 1)
    assert (instance.generation, instance.manifest_digest, instance.saturated) == (2, "new", True)
    assert instance.attached_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert instance.last_heartbeat_at is None
    (told,) = instance.workers
    assert (told.pid, told.kind, told.generation, told.running) == (8, "exclusive", 2, 1)
    assert (told.attempt_keys, told.rss_bytes, told.started_at) == (("run_1/a/1",), 4 << 20, from_micros(3_000_000))
    assert (instance.python, instance.newer_files, instance.clock_offset_us) == ("3.11.2", ("plugins/a.py",), -7)
    times = (instance.unreachable_since, instance.lost_at, instance.drain_deadline)
    assert times == tuple(map(from_micros, (5_000_000, 6_000_000, 9_000_000)))
    assert instance.retried_on_lost == 1
    assert host.refused_load is not None
    assert host.refused_load.problems[0].place == "jobs.toml:3"
    assert host.to_json()["instances"][0]["refused_load"]["at"] == "1970-01-01T00:00:02.000000Z"


def test_a_run_is_told_as_it_is_listed() -> None:
    """Trigger, cancel and fold are values of their own; a count of 0 is not none, and a list has no params."""
    run = RunRecord(
        run_id="run_1",
        job_id="job",
        host="team",
        state=RunState.CANCELED,
        trigger=RunTrigger(kind=TriggerKind.CALL_JOB, by="ann", at_us=1_000_000),
        definition_digest="",
        request=RunRequest(preset="small", log_level="DEBUG", params={"a": 1}),
        queued_at_us=1_000_000,
        cancel=CancelRequest(at_us=2_000_000, by="bob", why="late"),
        fold=Fold(first_us=1_000_000, last_us=2_000_000, count=3),
        rows_affected=0,
    )
    view = decode(values.RunView, run_message(run))
    first, second = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert view.trigger == values.TriggerView(kind="call_job", by="ann", at=first)
    assert view.cancel == values.CancelView(requested_at=second, by="bob", why="late")
    assert view.fold == values.FoldView(first=first, last=second, count=3)
    assert (view.preset, view.log_level, view.rows_affected, view.params) == ("small", "DEBUG", 0, {})
    assert view.reason is None


def test_an_attempt_is_told_with_its_progress() -> None:
    """A stored progress has more fields than clients are told."""
    run = RunRecord(
        run_id="run_1",
        job_id="job",
        host="team",
        state=RunState.RUNNING,
        trigger=RunTrigger(kind=TriggerKind.API),
        definition_digest="",
        request=RunRequest(),
        queued_at_us=1,
    )
    progress = '{"at_us": 5, "done": 1.0, "total": null, "message": "half"}'
    attempt = AttemptRecord(
        run_id="run_1", step_index=0, step="a", attempt=1, state=AttemptState.RUNNING, progress_json=progress
    )
    definition = {"id": "job", "steps": [{"name": "a", "callable": "m:f"}]}
    view = decode(values.RunView, run_detail_message(RunDetail(run=run, attempts=(attempt,), definition=definition)))
    assert view.steps[0].last.progress == values.ProgressView(done=1.0, total=None, message="half")
    assert view.steps[0].last.attempt_key == "run_1/a/1"


@pytest.mark.parametrize(
    ("scope", "name", "told"), [("job", "j", ("j", "")), ("host", "h", ("", "h")), ("all", "", ("", ""))]
)
def test_a_pause_names_its_target(scope: str, name: str, told: tuple[str, str]) -> None:
    """A job, a host, or everything."""
    pause = pause_message(PauseRecord(scope=scope, name=name, by="ann", why="", since_us=1, until_us=None))
    assert pause is not None
    assert (pause.job_id, pause.host) == told
    assert not pause.HasField("until")
