"""The rules about runs: when an incident opens, counts and closes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from alerts_rig import START, Rig, section

from nomaflow.client.values import ReasonView, RunView
from nomaflow_alerts.rules.runs import Findings, end_unseen
from nomaflow_alerts.usual_times import long_after, usual_rows


@pytest.fixture
def rig() -> Rig:
    """Give rules with one channel and one job."""
    rig = Rig()
    rig.job()
    return rig


def now(state: str, why: str = "") -> RunView:
    """Return what the kernel says of a run."""
    return RunView(run_id="r", job_id="nightly", state=state, reason=ReasonView(code="waits", message=why))


def subjects(rig: Rig, seconds: float = 400.0) -> list[str]:
    """Return the first lines of the messages of the next seconds."""
    return [message.body.splitlines()[0] for message in rig.wait(seconds)]


def test_many_failures_are_one_message_that_counts(rig: Rig) -> None:
    """400 failures of one cause within the group wait are one message, and one more when it is over."""
    for _ in range(400):
        rig.ends("FAILED")
    [told] = rig.wait(40)
    assert "400 failures in a row" in told.body
    rig.ends("SUCCEEDED")
    assert subjects(rig) == ["nightly failed: recovered after 400 failures, 40 s"]
    assert rig.open() == []


def test_a_job_can_be_told_of_only_after_n_failures_in_a_row(rig: Rig) -> None:
    """A success in between begins anew; the count is that of the row."""
    rig.job(failures=3)
    for state in ("FAILED", "FAILED", "SUCCEEDED", "FAILED", "FAILED"):
        rig.ends(state)
    assert rig.open() == []
    rig.ends("FAILED")
    assert rig.incident("failed").count == 3


def test_on_failure_false_says_nothing(rig: Rig) -> None:
    """The job's word wins over a rule that says otherwise."""
    rig = Rig(alerts=section(rules=[{"on_failure": True}]))
    rig.job(on_failure=False)
    rig.ends("FAILED")
    assert rig.open() == []


def test_on_recovery_false_closes_in_silence(rig: Rig) -> None:
    """The incident is over, and no message says so."""
    rig.job(on_recovery=False)
    rig.ends("FAILED")
    assert len(rig.wait(60)) == 1
    rig.ends("SUCCEEDED")
    assert (rig.open(), rig.wait(1000)) == ([], [])


def test_a_lost_run_is_told_apart(rig: Rig) -> None:
    """LOST is a reason of FAILED."""
    rig.ends("FAILED", code="host_lost", why="silent for 600 s")
    assert subjects(rig) == ["nightly is LOST"]


def test_presets_are_apart(rig: Rig) -> None:
    """A success of another preset ends nothing, one of its own does."""
    rig.ends("FAILED", preset="eu")
    rig.ends("SUCCEEDED", preset="us")
    assert rig.incident("failed").preset == "eu"
    rig.ends("SUCCEEDED", preset="eu")
    assert rig.open() == []


def test_a_cancelled_run_neither_opens_nor_closes(rig: Rig) -> None:
    """Somebody decided it."""
    rig.ends("CANCELED", code="canceled_by_user")
    assert rig.open() == []
    rig.ends("FAILED")
    rig.ends("CANCELED", code="canceled_by_user")
    assert rig.open() == ["failed"]


def test_an_incident_that_is_over_before_it_is_told_is_told_once(rig: Rig) -> None:
    """Within the group wait: one message that says both."""
    rig.ends("FAILED")
    rig.ends("SUCCEEDED")
    assert subjects(rig) == ["nightly failed: recovered after 0 ms"]


def test_missed_fires_are_one_incident_a_row(rig: Rig) -> None:
    """With the reason; the next success ends it."""
    rig.ends("MISSED", code="kernel_down", why="the kernel was not running")
    rig.ends("MISSED", code="clock_jumped", why="the clock was set")
    assert rig.open() == ["missed", "missed"]
    rig.ends("SUCCEEDED")
    assert rig.open() == []


@pytest.mark.parametrize("given", [{"on_missed": False}, {"misfire": "skip"}])
def test_missed_fires_that_nobody_wants_to_know_of(rig: Rig, given: dict[str, object]) -> None:
    """A job that skips late fires says by that that they do not matter."""
    rig.job(**given)
    rig.ends("MISSED", code="kernel_down")
    assert rig.open() == []


def test_fires_missed_in_a_pause_are_no_news(rig: Rig) -> None:
    """Somebody paused it."""
    rig.ends("MISSED", code="paused")
    assert rig.open() == []


def test_rows_out_of_bounds(rig: Rig) -> None:
    """Too few, too many, far from the median; told with what is usual."""
    rig.job(rows_min=10, rows_max=100, rows_change_percent=50)
    usual = Findings(median_rows={"run_1": (40, 35, 45)})
    rig.ends("SUCCEEDED", rows=0, findings=usual)
    assert rig.incident("rows").why == "0 rows, at least 10 are expected, usually 35–45"
    rig.ends("SUCCEEDED", rows=101)
    assert rig.incident("rows").count == 2
    rig.ends("SUCCEEDED", rows=70)  # nobody knows yet how many are usual
    assert rig.open() == []
    rig.ends("SUCCEEDED", rows=70, run_id="run_x", findings=Findings(median_rows={"run_x": (40, 35, 45)}))
    assert rig.incident("rows").why == "70 rows, usually 35–45"
    rig.ends("SUCCEEDED", rows=50, run_id="run_y", findings=Findings(median_rows={"run_y": (40, 35, 45)}))
    assert rig.open() == []


def test_a_run_that_does_not_start(rig: Rig) -> None:
    """After never_started_minutes, with the kernel's own reason; its start ends it."""
    rig.job(never_started_minutes=2)
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.wait(119)
    assert rig.open() == []
    [told] = rig.wait(60, runs={"r": now("QUEUED", "waits for host 'team'")})
    assert told.body.splitlines()[0] == "nightly does not start"
    assert "Why: waits for host 'team'" in told.body
    rig.event("run.started", run_id="r", job_id="nightly")
    assert rig.open() == []


def test_a_run_that_has_started_meanwhile_is_not_told(rig: Rig) -> None:
    """The kernel is asked before."""
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.wait(2000, runs={"r": now("RUNNING")})
    assert rig.open() == []


def test_many_waiting_runs_are_one_incident(rig: Rig) -> None:
    """It ends with the last of them."""
    for number in range(5):
        rig.event("run.queued", run_id=f"r{number}", job_id="nightly")
    rig.wait(1900, runs={"r0": now("QUEUED")})
    assert rig.incident("never_started").count == 5
    for number in range(4):
        rig.event("run.started", run_id=f"r{number}", job_id="nightly")
    assert rig.open() == ["never_started"]
    rig.event("run.finished", run_id="r4", job_id="nightly", run_state="CANCELED")
    assert rig.open() == []


def test_runs_whose_end_nobody_saw(rig: Rig) -> None:
    """Retention removed the event: what was open because of them is over, and the others are watched on."""
    rig.job(never_started_minutes=1, on_long_run_minutes=1)
    for run_id in ("waits", "waits-no-more", "runs", "runs-no-more"):
        rig.event("run.queued", run_id=run_id, job_id="nightly")
        if run_id.startswith("runs"):
            rig.event("run.started", run_id=run_id, job_id="nightly")
    states = {name: now("RUNNING" if name.startswith("runs") else "QUEUED") for name in ("runs", "waits")}
    rig.wait(90, runs=states)
    assert sorted(rig.open()) == ["long_run", "long_run", "never_started"]
    rig.work(lambda book: end_unseen(book, {"waits", "runs"}))
    assert rig.incident("long_run").run_id == "runs"
    assert rig.incident("never_started").count == 2
    rig.work(lambda book: end_unseen(book, ()))
    assert rig.open() == []
    assert rig.work(lambda book: book.watched.open_runs()) == []


def test_a_run_that_takes_long(rig: Rig) -> None:
    """After on_long_run_minutes; its end ends it."""
    rig.job(on_long_run_minutes=5)
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.event("run.started", run_id="r", job_id="nightly")
    rig.wait(299)
    assert rig.open() == []
    [told] = rig.wait(60, runs={"r": now("RUNNING")})
    assert "Stop it: nomaflow cancel r" in told.body
    rig.ends("SUCCEEDED", run_id="r")
    assert rig.open() == []


def test_the_shorter_limit_counts(rig: Rig) -> None:
    """A factor of what is usual may come before the fixed time."""
    rig.job(on_long_run_minutes=60, long_run_factor=2)
    rig.event("run.queued", run_id="r", job_id="nightly")
    rig.event("run.started", run_id="r", job_id="nightly", findings=Findings(long_after={"r": 90.0}))
    rig.wait(95, runs={"r": now("RUNNING")})
    assert rig.open() == ["long_run"]


@pytest.mark.parametrize(
    ("durations", "factor", "expected"),
    [
        ([100.0] * 19, 2, None),
        ([100.0] * 20, 2, 200.0),
        ([float(number) for number in range(1, 51)], 2, 96.0),  # the 48th of 50
        ([float(number) for number in range(1, 21)], 10, 190.0),  # the 19th of 20
        ([1.0] * 50, 2, 60.0),  # never less than a minute
    ],
)
def test_how_long_is_unusually_long(durations: list[float], factor: float, expected: float | None) -> None:
    """19, 20 and 50 runs."""
    assert long_after(durations, factor) == expected


def test_what_rows_are_usual() -> None:
    """The median and the middle half, of five runs or more."""
    assert usual_rows([1, 2, 3, 4]) is None
    assert usual_rows([10, 20, 30, 40, 50]) == (30, 20, 40)


def test_a_run_that_is_late(rig: Rig) -> None:
    """No SUCCEEDED run of the due instant in time; the one that makes up for it ends it."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3600 + 1799
    assert rig.turn() == []
    rig.now += 2
    rig.turn()
    incident = rig.incident("late")
    assert incident.why == "due at 2026-03-02 13:00:00 UTC, and no run has succeeded since"
    rig.ends("SUCCEEDED", started=rig.now)
    assert rig.open() == []


def test_a_run_in_time_is_not_late(rig: Rig) -> None:
    """A run of the due instant that ends in time leaves no incident."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3700
    rig.ends("SUCCEEDED", slot=START + 3600)
    rig.now = START + 2 * 3600
    assert rig.turn() == []
    assert rig.open() == []


def test_an_earlier_run_does_not_stand_for_a_later_due_instant(rig: Rig) -> None:
    """The run of 13:00 that ends after 13:05 is not that of 13:05."""
    rig.job(schedule="*/5 * * * *", late_after_minutes=4)
    rig.turn()
    rig.now = START + 301
    rig.turn()
    rig.now = START + 601
    rig.ends("SUCCEEDED", slot=START + 300, started=START + 600)
    rig.now = START + 600 + 241
    rig.turn()
    assert rig.incident("late").facts["slot"] == START + 600


@pytest.mark.parametrize("state", ["SKIPPED", "CANCELED", ""])
def test_whatever_the_cause_it_is_late(rig: Rig, state: str) -> None:
    """Skipped, cancelled, or no run at all."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3600
    if state:
        rig.ends(state, slot=START + 3600)
    rig.now += 1801
    rig.turn()
    assert rig.open() == ["late"]


def test_late_is_dropped_where_the_failure_is_told(rig: Rig) -> None:
    """One cause is one incident; but a failure that is not told yet does not count."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3600
    rig.ends("FAILED", slot=START + 3600)
    rig.now += 1801
    rig.turn()
    assert rig.open() == ["failed"]


def test_late_is_told_where_the_failure_is_not(rig: Rig) -> None:
    """With failures = 3 the first failure is no incident, and the run is late all the same."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30, failures=3)
    rig.turn()
    rig.now = START + 3600
    rig.ends("FAILED", slot=START + 3600)
    rig.now += 1801
    rig.turn()
    assert rig.open() == ["late"]


@pytest.mark.parametrize(
    ("at", "due"),
    [
        # Berlin goes from 02:00 to 03:00 on 2026-03-29: a fixed time in the gap fires at its end.
        (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        # It goes back from 03:00 to 02:00 on 2026-10-25: the first pass counts.
        (datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_late_on_days_when_clocks_change(at: datetime, due: datetime) -> None:
    """The due instant is that of the kernel's own rules."""
    rig = Rig(now=at.timestamp())
    rig.job(schedule="30 2 * * *", zone="Europe/Berlin", late_after_minutes=30)
    rig.turn()
    rig.now = due.timestamp() + 1799
    rig.turn()
    assert rig.open() == []
    rig.now += 2
    rig.turn()
    assert rig.incident("late").facts["slot"] == due.timestamp()


def test_a_changed_schedule_forgets_what_it_would_have_done(rig: Rig) -> None:
    """The old instant is not expected any more."""
    rig.job(schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.job(schedule="0 20 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3 * 3600
    rig.turn()
    assert rig.open() == []


def test_due_instants_while_the_alerts_did_not_run_are_expected(rig: Rig) -> None:
    """A process that was away for two hours tells what became late meanwhile."""
    rig.job(schedule="0 * * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 2 * 3600 + 1860
    rig.turn()
    rig.turn()
    assert rig.incident("late").count == 2


def test_pings_of_a_job_s_own_check() -> None:
    """Start, success and failure; a URL with {state} gets the words of cronitor."""
    rig = Rig(alerts=section(ping_hosts=["hc.example", "c.example"]))
    rig.job(ping_url="https://hc.example/abc")
    rig.event("run.started", run_id="r", job_id="nightly")
    rig.ends("SUCCEEDED")
    rig.ends("FAILED")
    rig.job(ping_url="https://c.example/p?state={state}")
    rig.ends("SUCCEEDED")
    pings = rig.work(lambda book: book.outbox.listed(limit=10))[::-1]
    assert sorted(str(each.data["url"]) for each in pings) == [
        "https://c.example/p?state=complete",
        "https://hc.example/abc",
        "https://hc.example/abc/fail",
        "https://hc.example/abc/start",
    ]
    assert {each.channel for each in pings} == {"ping:hc.example", "ping:c.example"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/admin", "http://169.254.169.254/", "https://hc-ping.com.example/x", "http://hc-ping.com:81/",
        "https://hc-ping.com@example/x", "http://[", "http://\u2100.example", "https://",
    ],
)  # fmt: skip
def test_a_job_has_only_those_servers_requested_that_the_operator_names(rig: Rig, url: str) -> None:
    """Whoever writes a job cannot have the alerts call services of their machine, nor end them with a bad URL."""
    rig.job(ping_url=url)
    rig.event("run.started", run_id="r", job_id="nightly")
    rig.ends("FAILED")
    assert rig.work(lambda book: book.outbox.listed(limit=10)) == []
    assert rig.open() == ["failed"]


def test_a_rule_of_the_operator_may_have_any_server_requested() -> None:
    """It is in the file that says which servers jobs may name."""
    rig = Rig(alerts=section(rules=[{"jobs": ["n*"], "ping_url": "http://127.0.0.1:8080/x"}]))
    rig.job()
    rig.event("run.started", run_id="r", job_id="nightly")
    assert [each.channel for each in rig.work(lambda book: book.outbox.listed(limit=10))] == ["ping:127.0.0.1:8080"]
