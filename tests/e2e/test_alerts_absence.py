"""Alerts of what does not come: a kernel that is away, a host that is silent, another history, events that are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alerts_system import AlertsSystem, open_alerts

from nomaflow_kernel.store.sql_store import open_store
from real_system import CLOCKS, eventually

TICKING = """
[[jobs]]
id = "tick{number}"
schedule = "* * * * * */5"
alerts = {{ late_after_minutes = {late} }}
steps = [{{ callable = "team.code:count" }}]
"""
FINE = """
[[jobs]]
id = "fine"
steps = [{ callable = "team.code:count" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project without processes."""
    with open_alerts(tmp_path) as system:
        yield system


def ready(system: AlertsSystem, jobs: str, *, wait: float = 0.3) -> None:
    """Start everything."""
    system.settings(f'heartbeat_url = "{system.web.url}/beat"', group_wait=wait)
    system.write(jobs)
    system.start_kernel()
    system.start_host()
    system.start_alerts()


def beats(system: AlertsSystem) -> int:
    """Return how many heartbeats arrived."""
    return len(system.web.taken("/beat"))


def lost(system: AlertsSystem) -> list[str]:
    """Return why events may be missing, once for each time that this was told."""
    incidents = [each for post in system.web.taken() for each in post.json["incidents"]]
    return [each["why"] for each in incidents if each["condition"] == "cursor_lost"]


def told(system: AlertsSystem) -> set[str]:
    """Return the incidents that were told: on a busy machine the first run of a job may have been late."""
    eventually(lambda: system.incidents() == [], seconds=60)
    return {each["id"] for post in system.web.taken() for each in post.json["incidents"]}


def told_since(system: AlertsSystem, before: set[str], kind: str = "") -> list[dict[str, Any]]:
    """Return the messages of a type, or of any, but for those that are about earlier incidents alone."""
    messages = [post.json for post in system.web.taken()]
    return [
        each
        for each in messages
        if kind in ("", each["type"]) and not {one["id"] for one in each["incidents"]} <= before
    ]


def recovered(system: AlertsSystem, before: set[str], what: str) -> dict[str, Any]:
    """Return the message that an incident is over; fires that were missed meanwhile may be told as over before it."""
    begin = f"{what}: recovered after"
    return eventually(
        lambda: [each for each in told_since(system, before, "incidents.closed") if each["text"].startswith(begin)]
    )[0]


def test_a_kernel_that_is_away_is_told_and_the_heartbeat_stops(system: AlertsSystem) -> None:
    """Due instants pass meanwhile: they are told with it or as MISSED, and nothing claims to have failed."""
    ready(system, TICKING.format(number=0, late=0.1))
    eventually(lambda: beats(system) >= 2)
    before = told(system)
    system.kill("kernel")
    began = time.monotonic()
    eventually(lambda: "the kernel is silent" in system.web.subjects())
    stopped = beats(system)
    time.sleep(12 - min(time.monotonic() - began, 11))  # over a due instant, and what makes it late
    assert beats(system) <= stopped + 1
    assert [each["subject"] for each in told_since(system, before)] == ["the kernel is silent"]
    system.start_kernel()
    closed = recovered(system, before, "the kernel is silent")
    eventually(lambda: beats(system) > stopped + 1, seconds=60)
    eventually(lambda: not [each for each in system.incidents() if each["condition"] != "late"], seconds=60)
    assert not any("failed" in each for each in system.web.subjects())
    silence = [each for each in system.web.subjects() if each.startswith("the kernel is silent")]
    assert silence == ["the kernel is silent", closed["subject"]]  # its beginning and its end


def test_a_silent_host_is_the_cause_of_its_late_jobs(system: AlertsSystem) -> None:
    """Unreachable, reattached; its jobs are named in these two messages and have none of their own."""
    count = 4
    system.kernel_flags = (*CLOCKS[:4], "--lost-after-seconds", "300")
    ready(system, "".join(TICKING.format(number=number, late=0.2) for number in range(count)), wait=8)
    eventually(lambda: len(list(system.api.list_runs(states=["SUCCEEDED"]))) >= count, seconds=120)
    before = told(system)
    os.kill(system.parts["host"].pid, signal.SIGSTOP)
    eventually(lambda: "host team is unreachable" in system.web.subjects())
    eventually(lambda: sum(each["condition"] == "late" for each in system.incidents()) == count, seconds=120)
    os.kill(system.parts["host"].pid, signal.SIGCONT)
    closed = eventually(lambda: told_since(system, before, "incidents.closed"), seconds=60)
    assert closed[0]["text"].startswith("host team is unreachable: recovered after")
    assert f"{count} jobs of team are late" in closed[0]["text"]
    titles = [each["title"] for message in told_since(system, before) for each in message["incidents"]]
    assert set(titles) == {"host team is unreachable"}


def test_another_history_at_the_address_is_told_once(system: AlertsSystem) -> None:
    """A store made anew, whose events have smaller numbers; then one of larger numbers, from a backup."""
    ready(system, FINE)
    for _ in range(3):
        system.ask("run", "fine", "--wait")
    backup = system.project / "backup.db"
    system.ask("backup", str(backup))
    for part in ("host", "kernel"):
        system.stop(part)
    for file in (system.project / ".nomaflow").glob("kernel.db*"):
        file.unlink()
    system.start_kernel()
    system.start_host()
    [why] = eventually(lambda: lost(system), seconds=60)
    assert "history" in why
    for part in ("host", "kernel"):
        system.stop(part)
    system.ask("restore", str(backup), "--force", "--no-pause")
    system.start_kernel()
    eventually(lambda: len(lost(system)) == 2, seconds=60)
    system.start_host()
    system.ask("run", "fine", "--wait")
    assert len(lost(system)) == 2


def test_events_that_are_gone_are_told_once(system: AlertsSystem) -> None:
    """Retention removed them before they were read: the message says which."""
    ready(system, FINE)
    system.ask("run", "fine", "--wait")
    eventually(lambda: system.ask("alerts", "open")["alerts"]["last_event_seq"] > 5)
    system.stop("alerts")
    for _ in range(3):
        system.ask("run", "fine", "--wait")
    for part in ("host", "kernel"):
        system.stop(part)

    async def prune() -> None:
        store = open_store(f"sqlite:///{system.project}/.nomaflow/kernel.db")
        await store.open()
        await store.prune(job_id="fine", keep_runs=1, before_us=None, limit=10)
        await store.close()

    asyncio.run(prune())
    system.start_kernel()
    system.start_host()
    system.start_alerts()
    [message] = [each for each in system.received(1) if each["subject"] == "events may be missing"]
    assert "retention has removed events" in message["text"]
