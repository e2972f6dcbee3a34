"""Alerts of runs on real processes: failed, recovered, late, missed, never started, running for too long, odd rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_system import SECRET, AlertsSystem, open_alerts
from standardwebhooks import Webhook

from nomaflow.client import TriggerOrder
from nomaflow.client.values import Triggered
from real_system import eventually

JOBS = """
[[jobs]]
id = "fine"
steps = [{ callable = "team.code:count" }]

[[jobs]]
id = "failing"
overlap = "allow"
steps = [{ name = "one", callable = "team.code:fail" }]
"""
RUNS = int(os.environ.get("NOMAFLOW_ALERTS_RUNS", "200"))
"""How many runs fail at once; `make alerts-storm` takes 1000."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project without processes."""
    with open_alerts(tmp_path) as system:
        yield system


def test_a_failure_is_told_and_its_end(system: AlertsSystem) -> None:
    """One signed message when it fails, one when it succeeds again, with what a person needs."""
    system.settings()
    system.write(JOBS)
    system.start_kernel()
    system.start_host()
    system.start_alerts()
    run = system.ask("run", "failing", "--wait", code=1)["run_id"]
    [told] = system.received(1)
    assert (told["type"], told["subject"], told["total"]) == ("incidents.opened", "failing failed", 1)
    for text in ("try 1", "host team, step one", f"nomaflow show {run}", f"nomaflow replay {run} --from-failed"):
        assert text in told["text"]
    post = system.web.taken()[0]
    assert Webhook(SECRET).verify(post.body, dict(post.headers))["id"] == told["id"]

    system.ask("run", "failing", "--op-kwarg", "one.times=0", "--wait")
    told = system.received(2)[1]
    assert (told["type"], told["subject"]) == ("incidents.closed", told["text"].splitlines()[0])
    assert told["subject"].startswith("failing failed: recovered after")
    assert told["incidents"][0]["state"] == "closed"
    assert system.incidents() == []


def test_the_failure_of_a_job_is_over_with_the_job(system: AlertsSystem) -> None:
    """Its owner has removed it from the file: no run of it will succeed."""
    system.settings()
    system.write(JOBS)
    system.start_kernel()
    system.start_host()
    system.start_alerts()
    system.ask("run", "failing", "--wait", code=1)
    system.received(1)
    system.write(JOBS.partition('[[jobs]]\nid = "failing"')[0])
    system.ask("reload", "team")
    assert system.received(2)[1]["subject"].startswith("failing failed: the job was removed, after")
    assert system.incidents() == []


def run_many(system: AlertsSystem, count: int, *, times: int) -> None:
    """Start many runs in one call, and wait until all are over."""
    orders = [TriggerOrder(job_id="failing", op_kwargs={"one": {"times": times}}) for _ in range(count)]
    started = system.api.trigger_many(orders)
    assert all(isinstance(each, Triggered) for each in started)
    eventually(
        lambda: (
            not any(True for _ in system.api.list_runs(job_id="failing", states=["QUEUED", "RUNNING"], page_size=1))
        ),
        seconds=240,
    )


def test_a_storm_of_failures_is_two_messages_at_most(system: AlertsSystem) -> None:
    """However many runs fail, the count is exact; and however many succeed then, one message says so."""
    system.settings(group_wait=5, group=5)
    system.write(JOBS)
    system.start_kernel()
    system.start_host()
    system.start_alerts()
    run_many(system, RUNS, times=99)
    eventually(lambda: [each["count"] for each in system.incidents()] == [RUNS])
    told = system.received(1)
    if told[0]["incidents"][0]["count"] < RUNS / 10:
        system.received(2)
    run_many(system, RUNS, times=0)
    eventually(lambda: system.web.taken()[-1].json["type"] == "incidents.closed")
    told = [post.json for post in system.web.taken()]
    assert [each["type"] for each in told[-1:]] == ["incidents.closed"]
    assert len(told) <= 3
    assert f"recovered after {RUNS:,} failures" in told[-1]["text"]
