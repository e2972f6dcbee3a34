"""Events that make a page look again: those of other runs and jobs cost it nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from nomaflow.client.values import EventView, RunView
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.pages import LIVE_VIEWS
from nomaflow_console.pages.run import _Known


def request(query: str, **state: Any) -> Request:
    """Return the request of a stream."""
    return Request({"type": "http", "headers": [], "query_string": query.encode(), "path_params": {}, "state": state})


def event(kind: str, *, run_id: str = "", job_id: str = "") -> EventView:
    """Return an event."""
    return EventView(seq=1, at=None, kind=kind, run_id=run_id, job_id=job_id)


def known_run(state: str, *, age_seconds: float = 0.0) -> _Known:
    """Return what is known of a run that has called another one."""
    queued_at = datetime.now(UTC) - timedelta(seconds=age_seconds)
    run = RunView(run_id="run_a", job_id="mine", state=state, queued_at=queued_at)
    child = RunView(run_id="run_c", job_id="called", state="RUNNING")
    return _Known(
        run=run, job=None, stats=None, children={"run_c": child}, replays=(), late={},
        status=KernelStatus(), loud=None,
    )  # fmt: skip


def test_the_page_of_a_run_looks_again_for_its_own_run_and_those_it_called() -> None:
    """Runs of its job count when they begin and end, for what is usual and for its replays; others never."""
    view, asked = LIVE_VIEWS["run"], request("run_id=run_a", known=known_run("RUNNING"))
    assert view.concerns(event("attempt.progress", run_id="run_a", job_id="mine"), asked)
    assert view.concerns(event("attempt.started", run_id="run_c", job_id="called"), asked)
    assert view.concerns(event("run.finished", run_id="run_b", job_id="mine"), asked)
    assert not view.concerns(event("attempt.started", run_id="run_b", job_id="mine"), asked)
    assert not view.concerns(event("run.finished", run_id="run_d", job_id="other"), asked)
    assert view.concerns(event("run.finished", run_id="run_d", job_id="other"), request("run_id=run_a"))


def test_the_timeline_of_an_open_run_grows_although_nothing_happens() -> None:
    """The longer the run, the less often it is drawn; that of a run that has ended stays."""
    fresh = LIVE_VIEWS["run"].fresh_seconds
    assert fresh(request("run_id=run_a")) == 1
    assert fresh(request("", known=known_run("RUNNING", age_seconds=2))) == 1
    assert 100 <= fresh(request("", known=known_run("RUNNING", age_seconds=1000))) < 200
    assert fresh(request("", known=known_run("FAILED", age_seconds=1000))) == math.inf


def test_the_page_of_a_job_looks_again_for_its_own_runs() -> None:
    """The page concerns its own runs, hosts, and pauses of hosts and of everything."""
    view, asked = LIVE_VIEWS["job"], request("job_id=mine")
    assert view.concerns(event("run.finished", run_id="run_a", job_id="mine"), asked)
    assert view.concerns(event("pause.set"), asked)
    assert view.concerns(event("host.attached"), asked)
    assert not view.concerns(event("run.finished", run_id="run_b", job_id="other"), asked)
    assert not view.concerns(event("pause.set", job_id="other"), asked)
