"""The list of things that need a person has all of them, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from nomaflow.client.values import (
    FoldView,
    HostView,
    InstanceView,
    JobStatsView,
    JobView,
    PauseView,
    ProblemView,
    ReasonView,
    RecentRunView,
    RunView,
)
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.rendering import environment
from nomaflow_console.views.needs_you import needs_you
from nomaflow_console.views.situation import Act, Need, Situation

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
AGO = {minutes: NOW - timedelta(minutes=minutes) for minutes in (1, 3, 6, 10, 20, 30, 60)}


def _run(state: str, minutes: int, **more: Any) -> RunView:
    ended = NOW if state in ("FAILED", "SUCCEEDED") else None
    given = {"run_id": f"run_{state}_{minutes}", "job_id": "j", "queued_at": AGO[minutes], "started_at": AGO[minutes]}
    return RunView(**{**given, "state": state, "finished_at": ended, **more})


def _needs(**more: Any) -> list[Need]:
    jobs = more.pop("jobs", None) or [JobView(job_id="j", last_run=more.pop("last", None))]
    return needs_you(Situation(now=NOW, jobs={job.job_id: job for job in jobs}, **more))


def _stats(*states: str, seconds: float = 60, **more: Any) -> dict[str, JobStatsView]:
    recent = [
        RecentRunView(run_id=f"r{number}", state=state, queued_at=NOW - timedelta(days=1))
        for number, state in enumerate(states)
    ]
    return {
        "j": JobStatsView(job_id="j", recent=tuple(recent), median_seconds=seconds, p95_seconds=2 * seconds, **more)
    }


def test_a_quiet_project_needs_nobody() -> None:
    """The first line of the morning."""
    host = HostView(name="h", state="ATTACHED", instances=(InstanceView(incarnation="a", state="ATTACHED"),))
    assert _needs(hosts=[host], last=_run("SUCCEEDED", 6)) == []


def test_a_failure_is_told_with_its_error_and_offers_log_and_replay() -> None:
    """The line names the job and the error, and offers the two next clicks."""
    (need,) = _needs(unhappy=[_run("FAILED", 6, error="no rows")])
    assert (need.subject, need.text, need.css) == ("j", "failed: no rows", "failed")
    assert [act.target for act in need.acts] == ["/runs/run_FAILED_6#log", "/runs/run_FAILED_6/replay"]


def test_a_failure_that_a_success_followed_needs_nobody() -> None:
    """It makes no difference if another run that did not succeed came after the success."""
    failed = _run("FAILED", 30)
    assert _needs(unhappy=[failed], last=_run("SUCCEEDED", 6)) == []
    again = _stats("SKIPPED")["j"].recent[0], RecentRunView(run_id="ok", state="SUCCEEDED", queued_at=AGO[10])
    assert _needs(unhappy=[failed], last=_run("SKIPPED", 1), stats={"j": JobStatsView(job_id="j", recent=again)}) == []


def test_failures_of_one_job_are_one_line() -> None:
    """The newest, and how many there were before."""
    unhappy = [_run("FAILED", 6, error="new"), _run("FAILED", 30, error="old")]
    (need,) = _needs(unhappy=unhappy)
    assert need.text == "failed (and 1 time before): new"
    (need,) = _needs(unhappy=unhappy, more_of={"j"})
    assert need.text == "failed (and at least 1 time before): new"


def test_jobs_of_a_host_that_fail_of_one_cause_are_one_line() -> None:
    """Five or more are one, so that the rest of the page stays in sight and their runs can be replayed together."""
    storm = [_run("FAILED", 6, run_id=f"r{n}", job_id=f"j{n}", host="a", error="it is away") for n in range(7)]
    other = _run("FAILED", 10, run_id="o", job_id="other", host="a", error="no rows")
    elsewhere = _run("FAILED", 20, run_id="e", job_id="elsewhere", host="b", error="it is away")
    told = [(need.subject, need.text) for need in _needs(unhappy=[storm[0], other, *storm[1:], elsewhere])]
    assert told == [
        ("7 jobs", "failed: it is away (j0, j1, j2, j3, j4 and 2 more)"),
        ("other", "failed: no rows"),
        ("elsewhere", "failed: it is away"),
    ]
    (together, *_) = _needs(unhappy=storm)
    assert together.href == "/runs?since=ever" + "".join(f"&run=r{n}" for n in range(7))
    assert (together.jobs, together.host) == (tuple(f"j{n}" for n in range(7)), "a")
    assert [need.subject for need in _needs(unhappy=storm[:4])] == ["j0", "j1", "j2", "j3"]


def test_a_failure_whose_outcome_is_not_known_is_called_lost() -> None:
    """It may have done its work."""
    (need,) = _needs(
        unhappy=[_run("FAILED", 6, reason=ReasonView(code="host_lost", message="silent for 600 s", fix="look"))]
    )
    assert (need.sign, need.css, need.text, need.fix) == ("?", "lost", "lost: silent for 600 s", "look")


def test_fires_that_did_not_run_are_counted_and_offer_a_run() -> None:
    """Missed fires are counted with a button to run; those of a pause are left out, since somebody wanted it."""
    fold = FoldView(first=AGO[60], last=AGO[10], count=3)
    missed = _run(
        "MISSED", 10, started_at=None, fold=fold, reason=ReasonView(code="kernel_down", message="the kernel was down")
    )
    paused = _run("MISSED", 30, job_id="k", reason=ReasonView(code="paused", message="paused"))
    (need,) = _needs(unhappy=[missed, paused], more_of={"j"})
    assert need.text == "at least 3 fires did not run: the kernel was down"
    (need,) = _needs(unhappy=[missed, paused])
    assert need.text == "3 fires did not run: the kernel was down"
    assert [act.label for act in need.acts] == ["Show", "Run…"]


def test_a_wait_is_told_after_five_minutes_or_twice_the_usual_time() -> None:
    """Never before a minute: a job that usually starts at once may wait for a moment."""
    why = ReasonView(code="waiting_for_host", message="no instance of host 'sales' takes work", fix="start the host")
    waits = {minutes: _run("QUEUED", minutes, started_at=None, reason=why, host="sales") for minutes in (1, 3, 6)}
    assert _needs(open=[waits[3]]) == []
    assert _needs(open=[waits[1]], stats=_stats(median_wait_seconds=0.1)) == []
    (need,) = _needs(open=[waits[3]], stats=_stats(median_wait_seconds=0.1))
    assert need.text == "waits 3 min: no instance of host 'sales' takes work"
    (need,) = _needs(open=[waits[6]])
    assert (need.fix, [act.kind for act in need.acts]) == ("start the host", ["link", "cancel"])


def test_a_run_far_over_its_usual_time_is_told_once_enough_is_known() -> None:
    """Two runs make no percentile."""
    run = _run("RUNNING", 6, current_step="score")
    assert _needs(open=[run], stats=_stats("SUCCEEDED", "SUCCEEDED")) == []
    assert _needs(open=[run], stats=_stats(*["SUCCEEDED"] * 5, seconds=600)) == []
    (need,) = _needs(open=[run], stats=_stats(*["SUCCEEDED"] * 5))
    assert need.text == "longer than 19 of 20 runs of it, usually 1 min; now in score"
    assert need.counts


def test_waits_of_one_job_for_one_cause_are_one_line() -> None:
    """A queue of a hundred runs would leave no room for anything else; the one that waits longest is told."""
    away = ReasonView(code="waiting_for_host", message="no instance of host 'sales' takes work")
    paused = ReasonView(code="paused", message="job 'j' is paused")
    queue = [_run("QUEUED", minutes, started_at=None, reason=away, host="sales") for minutes in (6, 10, 30, 20)]
    alone = _run("QUEUED", 60, started_at=None, reason=paused)
    told, other = _needs(open=[*queue, alone])
    assert told.text == "4 runs wait, one for 30 min: no instance of host 'sales' takes work"
    assert (told.at, told.key, told.href) == (AGO[30], "waits.run_QUEUED_30", "/runs?state=QUEUED&job=j&since=ever")
    assert [(act.label, act.target) for act in told.acts] == [("Host", "/hosts/sales"), ("Show", told.href)]
    assert (other.text, other.href) == ("waits 1 h: job 'j' is paused", "/runs/run_QUEUED_60")
    (more,) = _needs(open=queue, more_of={"j"})
    assert more.text.startswith("at least 4 runs wait, one for 30 min: ")


def test_a_run_whose_host_is_silent_is_told() -> None:
    """The list has a running run whose host is silent."""
    (need,) = _needs(open=[_run("RUNNING", 3, reason=ReasonView(code="host_silent", message="silent for 40 s"))])
    assert need.text == "silent for 40 s"


def test_a_step_that_waits_for_a_host_that_is_away_is_told() -> None:
    """Not in the seconds in which a host comes back by itself."""
    why = ReasonView(code="waiting_for_host", message="no instance of host 'yard' takes work")
    run = _run("RUNNING", 3, host="yard", current_step="load", reason=why)
    gone = HostView(name="yard", state="DETACHED", absent_since=AGO[3])
    assert _needs(open=[run], hosts=[replace(gone, absent_since=NOW - timedelta(seconds=5))]) == []
    assert _needs(open=[run], hosts=[replace(gone, launched=True)]) == []
    told, host = _needs(open=[run], hosts=[gone])
    assert told.text == "load waits: no instance of host 'yard' takes work"
    assert (host.text, host.at) == ("is not attached", AGO[3])


def test_each_kind_of_trouble_of_a_host_is_told() -> None:
    """Away, silent, refused code, broken modules, newer code."""
    broken = ProblemView(severity="error", code="x", message="No module named 'lxml'", file="ops.py", line=3)
    attached = InstanceView(incarnation="a", state="ATTACHED", generation=7, code_newer=True)
    hosts = [
        HostView(name="a", state="DETACHED", queued=1),
        HostView(name="b", state="UNREACHABLE"),
        HostView(name="c", state="ATTACHED", problems=(broken,)),
        HostView(name="d", state="ATTACHED", instances=(attached,)),
    ]
    texts = [need.text for need in _needs(hosts=hosts)]
    assert texts == [
        "is not attached; 1 run waits for it",
        "is silent: whether its steps still run is not known",
        "ops.py:3: No module named 'lxml'",
        "code on disk is newer than generation 7",
    ]


def test_a_disabled_job_is_told_with_the_place_and_the_fix() -> None:
    """One that was removed is not."""
    problem = ProblemView(
        severity="error", code="x", message="hour 25", file="jobs.toml", path="jobs[2].schedule", fix="0 to 23"
    )
    jobs = (
        JobView(job_id="bad", valid=False, problems=(problem,)),
        JobView(job_id="gone", valid=False, removed=True),
        JobView(job_id="kept", kept=True, problems=(problem,)),
    )
    needs = _needs(jobs=jobs)
    assert [(need.subject, need.text, need.fix) for need in needs] == [
        ("bad", "disabled: jobs.toml, job bad, schedule: hour 25", "0 to 23"),
        ("kept", "goes on with its last good definition: jobs.toml, job kept, schedule: hour 25", "0 to 23"),
    ]


def test_a_pause_is_told_once_it_is_older_than_a_day() -> None:
    """A pause of a host is one entry, though each of its jobs carries it."""
    fresh, old = (PauseView(host="ops", by="ann", since=NOW - timedelta(hours=hours)) for hours in (23, 50))
    for pause, count in ((fresh, 0), (old, 1)):
        jobs = tuple(JobView(job_id=name, pause=pause) for name in "abc")
        assert len(_needs(jobs=jobs, hosts=[HostView(name="ops", state="ATTACHED", pause=pause)])) == count


def test_pauses_of_jobs_that_are_not_on_the_page_are_told() -> None:
    """Each once, though a job of the page has it too."""
    old = PauseView(job_id="far", by="ann", since=NOW - timedelta(days=2))
    on_page = PauseView(job_id="j", by="ann", since=NOW - timedelta(days=3))
    needs = _needs(jobs=[JobView(job_id="j", pause=on_page)], pauses=[old, on_page])
    assert [need.subject for need in needs] == ["far", "j"]


def test_very_many_jobs_in_trouble_are_counted() -> None:
    """A file of ten thousand jobs that does not load must not fill the page."""
    bad = JobView(job_id="j", valid=False, problems=(ProblemView(severity="error", code="x", message="hour 25"),))
    needs = _needs(jobs=[bad], more_troubled=9_999)
    assert [(need.subject, need.href) for need in needs] == [
        ("j", "/jobs/j"),
        ("9,999 more jobs", "/?state=disabled"),
    ]


def test_a_reload_asks_first_and_names_its_command() -> None:
    """As on the page of hosts: a menu with the question, what a reload does, and the command that does the same."""
    act = Act(kind="reload", label="Reload", target="ops", icon="refresh-cw", verb="operate")
    source = '{% from "parts/work.html" import act_of %}{{ act_of(act, kernel, "token", "/") }}'
    html = environment().from_string(source).render(act=act, kernel=KernelStatus())
    menu, _, form = html.partition('<form method="post" action="/hosts/ops/reload"')
    assert menu.startswith("<details")
    assert "Reload…" in menu
    assert 'name="csrf" value="token"' in form
    assert 'data-copy="nomaflow reload ops"' in form
