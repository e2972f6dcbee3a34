"""Schedules with real clocks: fires, misfires after a kill, pauses, presets, hosts that are away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = pytest.mark.e2e

STEP = '  [[jobs.steps]]\n  callable = "team.code:count"\n'
JOBS = f"""
[[jobs]]
id = "latest"
schedule = "* * * * * *"
overlap = "allow"
misfire_window_seconds = 3600
{STEP}
[[jobs]]
id = "off"
schedule = "* * * * * *"
enabled = false
  [[jobs.presets]]
  name = "mine"
  schedule = "* * * * * *"
  timezone = "Asia/Kolkata"
  params = {{ day = "preset" }}
  [[jobs.presets]]
  name = "off-too"
  schedule = "* * * * * *"
  enabled = false
{STEP}
[[jobs]]
id = "busy"
schedule = "* * * * * *"
  [[jobs.steps]]
  callable = "team.code:wait_for"
  op_kwargs = {{ file = "@FOLDER@/go" }}

[[jobs]]
id = "impatient"
queue_timeout_seconds = 1
{STEP}
[[jobs]]
id = "manual"
{STEP}
[[jobs]]
id = "yearly"
schedule = "0 0 1 1 *"
timezone = "Europe/Paris"
{STEP}
[[jobs]]
id = "nightly-a"
schedule = "30 3 * * *"
{STEP}
[[jobs]]
id = "nightly-b"
schedule = "30 3 * * *"
{STEP}
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """A system whose jobs fire every second."""
    for opened in open_system(tmp_path, forks_templates=True):
        opened.write(JOBS.replace("@FOLDER@", str(tmp_path)))
        (tmp_path / "nomaflow.toml").write_text('[host]\nname = "team"\ndrain_seconds = 0.2\n')
        yield opened


def fires(runs: list[Any]) -> list[datetime]:
    """Return every instant that runs and folded rows stand for, in order; a second apart within a row."""
    found: list[datetime] = []
    for run in runs:
        if run.fold is None:
            found.append(run.trigger.at)
        else:
            assert run.fold.count == (run.fold.last - run.fold.first).total_seconds() + 1
            found += [run.fold.first + timedelta(seconds=number) for number in range(run.fold.count)]
    return sorted(found)


def test_fires_of_jobs_and_presets(system: ProjectSystem) -> None:
    """Each schedule by its own flag; fires while a run is active fold into one row; nothing fires twice."""
    system.start_kernel()
    system.start_host()
    eventually(lambda: len([run for run in system.runs("latest") if run.state == "SUCCEEDED"]) >= 3)
    presets = eventually(lambda: [run for run in system.runs("off") if run.state == "SUCCEEDED"])
    assert {run.preset for run in system.runs("off")} == {"mine"}
    first = system.ask("show", presets[0].run_id)
    assert (first["trigger"]["kind"], first["trigger"]["by"]) == ("cron", "* * * * * *")
    assert (first["steps"][0]["extras"]["day"], first["preset"]) == ("preset", "mine")
    assert system.jobs()["off"].why_not_running == ""
    busy = eventually(lambda: [run for run in system.runs("busy") if run.fold and run.fold.count >= 2])
    assert [run.state for run in system.runs("busy")] == ["RUNNING", "SKIPPED"]
    assert busy[0].reason.code == "overlap"
    (system.project / "go").touch()
    eventually(lambda: len([run for run in system.runs("busy") if run.state == "SUCCEEDED"]) >= 2)
    for job_id in ("latest", "busy"):
        instants = fires(system.runs(job_id))
        assert instants == [instants[0] + timedelta(seconds=number) for number in range(len(instants))]


def test_a_killed_kernel_catches_up_and_says_what_it_missed(system: ProjectSystem) -> None:
    """Every second of the downtime is either a run or in a row, none is both; running steps continue."""
    text = (system.project / "jobs.toml").read_text()
    strict = text[: text.index('[[jobs]]\nid = "off"')].replace('"latest"', '"strict"')
    (system.project / "jobs.toml").write_text(text + strict.replace("overlap", 'misfire = "skip"\noverlap'))
    system.start_kernel()
    system.start_host()
    eventually(lambda: len(system.runs("strict")) >= 2 and len(system.runs("latest")) >= 2)
    held = eventually(lambda: [run for run in system.runs("busy") if run.state == "RUNNING"])[0]
    system.kill("kernel")
    until = time.monotonic() + 3.5
    eventually(lambda: time.monotonic() > until)
    system.start_kernel()
    for job_id in ("latest", "strict"):
        [missed] = eventually(lambda: [run for run in system.runs(job_id) if run.state == "MISSED"])  # noqa: B023 - asked at once
        assert (missed.reason.code, missed.reason.message) == ("kernel_down", "the kernel was not running at that time")
        assert missed.fold.count >= 2
        eventually(lambda: system.runs(job_id)[-1].state == "SUCCEEDED")  # noqa: B023 - asked at once
        instants = fires(system.runs(job_id))
        assert instants == [instants[0] + timedelta(seconds=number) for number in range(len(instants))]
    (system.project / "go").touch()
    assert system.until(held.run_id, "SUCCEEDED").steps[0].last.attempt == 1


def test_pauses_hold_fires_and_starts_until_their_end(system: ProjectSystem) -> None:
    """Pauses of a job with an end, of the host, of everything; every waiting run shows the reason."""
    system.start_kernel()
    system.start_host()
    eventually(lambda: system.runs("latest"))
    system.cli("pause", "latest", "--why", "audit", "--for", "3s")
    rows = eventually(lambda: [run for run in system.runs("latest") if run.state == "MISSED"])
    assert (rows[0].reason.code, rows[0].reason.message) == ("paused", "job 'latest' was paused: audit")
    eventually(lambda: system.runs("latest")[-1].state == "SUCCEEDED")
    assert system.jobs()["latest"].pause is None
    instants = fires(system.runs("latest"))
    assert instants == [instants[0] + timedelta(seconds=number) for number in range(len(instants))]
    system.cli("pause", "--host", "team")
    waiting = system.ask("run", "manual")
    assert (waiting["state"], waiting["reason"]) == ("QUEUED", "waiting_for_resume")
    system.cli("pause", "--why", "move")
    assert system.ask("resume", "--host", "team")["was_paused"] is True
    assert system.run(waiting["run_id"]).reason.message == "everything is paused: move"
    assert "everything is paused: move" in system.cli("job", "manual").out
    assert "move" in system.cli("jobs").out
    system.kill("kernel")
    system.start_kernel()
    assert system.run(waiting["run_id"]).reason.message == "everything is paused: move"
    assert system.ask("resume")["was_paused"] is True
    assert system.until(waiting["run_id"], "SUCCEEDED").state == "SUCCEEDED"


def test_a_host_that_is_away_is_waited_for_and_one_that_is_lost_is_named(system: ProjectSystem) -> None:
    """Runs wait with the reason, with queue_timeout_seconds not for ever; a lost host is not the code's failure."""
    system.kernel_flags = ("--heartbeat-seconds", "0.5", "--lease-seconds", "2", "--lost-after-seconds", "3")
    system.start_kernel()
    system.start_host()
    held = eventually(lambda: [run for run in system.runs("busy") if run.state == "RUNNING"])[0]
    os.kill(system.parts["host"].pid, signal.SIGSTOP)
    try:
        eventually(lambda: system.hosts()[0]["state"] == "UNREACHABLE")
        waiting = system.ask("run", "manual")
        assert (waiting["state"], waiting["reason"]) == ("QUEUED", "waiting_for_host")
        hasty = system.ask("run", "impatient", "--wait", code=1)
        assert hasty["reason"] == "queue_timed_out"
        lost = system.until(held.run_id, "FAILED")
        assert (lost.reason.code, lost.steps[0].last.state) == ("host_lost", "LOST")
        assert "whether the step ended cannot be known" in lost.reason.message
    finally:
        os.kill(system.parts["host"].pid, signal.SIGCONT)
    assert system.until(waiting["run_id"], "SUCCEEDED").state == "SUCCEEDED"


def test_the_table_of_coming_fires_and_cron(system: ProjectSystem) -> None:
    """``schedule`` lists what comes and marks collisions; ``cron`` prints instants and refuses with the reason."""
    table = system.ask("schedule", "--days", "7")
    nightly = [fire for fire in table["fires"] if fire["job_id"] == "nightly-a"]
    assert len(nightly) == 7
    assert {tuple(fire["collides_with"]) for fire in nightly} == {("nightly-b",)}
    assert {each["job_id"] for each in table["frequent"]} == {"latest", "off", "busy"}
    page = system.cli("schedule", "--days", "7").out
    assert "nightly-a" in page
    assert "nightly-b" in page
    said = system.cli("cron", "30 2 * * *", "--tz", "Europe/Paris", "--from", "2026-10-24T12:00:00Z", "-n", "3").out
    assert said.split() == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z", "2026-10-27T01:30:00Z"]
    assert "no date ever matches it" in system.cli("cron", "0 0 31 4 *", code=2).err
    lines = [{"expr": "@daily", "from": "2026-01-01T00:00:00Z", "n": 2}, {"expr": "R * * * *"}]
    answers = system.cli("cron", "--batch", stdin="\n".join(map(json.dumps, lines))).out.splitlines()
    assert json.loads(answers[0]) == {"fires": ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]}
    assert "error" in json.loads(answers[1])
    assert datetime.now(UTC) < datetime.fromisoformat(table["end"])
