"""Events that make a page look again: those of other runs and jobs cost it nothing."""

from __future__ import annotations

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


def test_the_page_of_a_run_looks_again_for_its_own_run_and_those_it_called() -> None:
    """Runs of its job count when they begin and end, for what is usual and for its replays; others never."""
    run = RunView(run_id="run_a", job_id="mine", state="RUNNING")
    child = RunView(run_id="run_c", job_id="called", state="RUNNING")
    known = _Known(
        run=run, job=None, stats=None, children={"run_c": child}, replays=(), generation=1, late={},
        status=KernelStatus(), loud=None,
    )  # fmt: skip
    view, asked = LIVE_VIEWS["run"], request("run_id=run_a", known=known)
    assert view.concerns(event("attempt.progress", run_id="run_a", job_id="mine"), asked)
    assert view.concerns(event("attempt.started", run_id="run_c", job_id="called"), asked)
    assert view.concerns(event("run.finished", run_id="run_b", job_id="mine"), asked)
    assert not view.concerns(event("attempt.started", run_id="run_b", job_id="mine"), asked)
    assert not view.concerns(event("run.finished", run_id="run_d", job_id="other"), asked)
    assert view.concerns(event("run.finished", run_id="run_d", job_id="other"), request("run_id=run_a"))


def test_the_page_of_a_job_looks_again_for_its_own_runs() -> None:
    """The page concerns its own runs, hosts, and pauses of hosts and of everything."""
    view, asked = LIVE_VIEWS["job"], request("job_id=mine")
    assert view.concerns(event("run.finished", run_id="run_a", job_id="mine"), asked)
    assert view.concerns(event("pause.set"), asked)
    assert view.concerns(event("host.attached"), asked)
    assert not view.concerns(event("run.finished", run_id="run_b", job_id="other"), asked)
    assert not view.concerns(event("pause.set", job_id="other"), asked)
