"""Messages of listed jobs are kept, and made anew when anything changes that they tell of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from nomaflow_api.v1 import job_pb2
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.history.records import PauseRecord, RunRecord, RunRequest, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.rpc import job_pages
from nomaflow_kernel.rpc.job_pages import JobMessageCache
from nomaflow_kernel.rpc.messages import job_message
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.reading.problems import Place

HOUR_US = 3_600_000_000
NOW_US = 1_700_000_000_000_000
STEP = StepDefinition(name="a", type="python", callable="m:f")
DEFINITION = JobDefinition(id="job", steps=(STEP,), schedule="0 * * * *", timezone="UTC", host="team")
ENTRY = Job(loaded=LoadedJob(job_id="job", host="team", definition=DEFINITION), owner="team")
RUN = RunRecord(
    run_id="run_" + "0" * 26,
    job_id="job",
    host="team",
    state=RunState.RUNNING,
    trigger=RunTrigger(kind=TriggerKind.CRON, at_us=NOW_US),
    definition_digest="x",
    request=RunRequest(),
    queued_at_us=NOW_US,
)
PAUSE = PauseRecord(scope="job", name="job", by="ann", why="", since_us=NOW_US, until_us=None)
TOLD: dict[str, Any] = {
    "entry": ENTRY, "now_us": NOW_US, "pause": None, "why_not_running": "", "last_run": RUN,
}  # fmt: skip
CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "entry": lambda: {"entry": replace(ENTRY, removed=True)},
    "a fire has passed": lambda: {"now_us": NOW_US + HOUR_US},
    "pause": lambda: {"pause": PAUSE},
    "why": lambda: {"why_not_running": "no host is attached"},
    "state of the last run": lambda: {"last_run": replace(RUN, state=RunState.SUCCEEDED)},
    "lines of the last run": lambda: {"last_run": replace(RUN, log_lines=7)},
    "no run": lambda: {"last_run": None},
}


def fresh(told: dict[str, Any]) -> job_pb2.Job:
    """Return the message as it is made of nothing that was kept."""
    entry, *rest = told.values()
    return job_message(entry, fires=1, **dict(zip(list(told)[1:], rest, strict=True)))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_told(change: str) -> None:
    """A kept message never differs from one made now."""
    listed, told = JobMessageCache(), {**TOLD, **CHANGES[change]()}
    assert listed.message(**TOLD) == fresh(TOLD)
    assert fresh(told) != fresh(TOLD)
    assert listed.message(**told) == fresh(told)


def test_what_stays_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is made once, and each receiver gets a copy to change."""
    made = []
    monkeypatch.setattr(job_pages, "job_message", lambda *args, **kw: made.append(1) or job_message(*args, **kw))
    listed = JobMessageCache()
    listed.message(**TOLD).ClearField("last_run")
    assert listed.message(**{**TOLD, "now_us": NOW_US + 1}) == fresh(TOLD)
    assert len(made) == 1


def test_a_job_without_an_id_says_why_it_does_not_run() -> None:
    """The engine, which knows jobs by their ids, cannot say so."""
    problem = Place("jobs.toml", "jobs[0].id").error("missing_key", "the key 'id' is required and missing")
    nameless = LoadedJob(job_id="jobs.toml:jobs[0]", host="team", definition=None, problems=(problem,))
    told = fresh({**TOLD, "entry": Job(loaded=nameless, owner="team", foreign=True), "last_run": None})
    assert told.why_not_running == problem.message
