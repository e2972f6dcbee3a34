"""The titles of messages, and what those about several incidents tell of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from alerts_rig import START, Rig, section
from msgspec import structs

from nomaflow.client.values import AttemptView, LogLine, RunView, StepView
from nomaflow_alerts.ledger import Message
from nomaflow_alerts.messages.details import Details
from nomaflow_alerts.messages.templates import Templates


@pytest.fixture
def rig() -> Rig:
    """Give rules with one channel and one job."""
    rig = Rig()
    rig.job()
    return rig


def test_mails_of_one_incident_are_one_conversation(rig: Rig) -> None:
    """The mail's subject stays, and each later message answers the first; other channels get the news as the title."""
    rig.ends("FAILED")
    [first] = rig.wait(40)
    rig.ends("SUCCEEDED")
    [second] = rig.wait(400)
    assert (second.data["conversation"], second.data["answers"]) == (first.subject, first.id)
    assert (first.subject, second.subject) == ("nightly failed", "nightly failed: recovered after 40 s")
    assert first.data["answers"] == ""


def test_the_end_of_some_of_a_group_is_not_told_as_the_end_of_all(rig: Rig) -> None:
    """Of three jobs that failed together two recover: the title of that message counts the two."""
    for job in ("a", "b", "c"):
        rig.job(job)
        rig.ends("FAILED", job)
    assert [each.subject for each in rig.wait(40)] == ["3 jobs of team failed"]
    rig.ends("SUCCEEDED", "a")
    rig.ends("SUCCEEDED", "b")
    [told] = rig.wait(400)
    assert told.subject == told.body.splitlines()[0] == "Closed: 2 jobs of team failed"


def test_each_job_of_a_group_is_named_with_its_reason_where_they_differ(rig: Rig) -> None:
    """The message tells which job failed of what."""
    for job, why in (("a", "disk full"), ("b", "no rows"), ("c", "no rows")):
        rig.job(job)
        rig.ends("FAILED", job, why=why)
    lines = rig.wait(40)[0].body.splitlines()
    assert [line.partition(" · ")[0].strip() for line in lines if "nomaflow show" in line] == [
        "a failed: disk full", "b failed: no rows", "c failed: no rows",
    ]  # fmt: skip


def test_what_jobs_said_of_one_reason_is_told_once(rig: Rig) -> None:
    """Three tracebacks of one cause say no more than one."""
    said = LogLine(seq=1, at_us=0, level=40, logger="app", step="one", attempt=1, message="it is away")
    rig.details = {number: Details(lines=(said,)) for number in (1, 2, 3)}
    for job, why in (("a", "away"), ("b", "away"), ("c", "other")):
        rig.job(job)
        rig.ends("FAILED", job, why=why)
    [told] = rig.wait(40)
    assert [line for line in told.body.splitlines() if "said last" in line] == ["a said last:", "c said last:"]


def test_a_group_of_several_conditions_names_each(rig: Rig) -> None:
    """With its number where there are several."""
    for job in ("a", "b"):
        rig.job(job)
        rig.ends("FAILED", job)
    rig.event("host.manifest", host="team", data={"disabled_job_ids": ["nightly"]})
    assert [each.subject for each in rig.wait(40)] == ["3 incidents of team: failed ×2, jobs disabled"]


def test_each_run_of_a_group_is_linked_where_there_is_a_console() -> None:
    """On a phone a command is of no use."""
    rig = Rig(alerts=section(console_url="https://ops.example.org/"))
    for job in ("a", "b"):
        rig.job(job)
    runs = [rig.ends("FAILED", job) for job in ("a", "b")]
    [told] = rig.wait(40)
    assert [line for line in told.body.splitlines() if "/runs/" in line] == [
        f"  {job} failed · https://ops.example.org/runs/{run}" for job, run in zip("ab", runs, strict=True)
    ]


def test_what_is_over_before_it_is_told_asks_for_nothing(rig: Rig) -> None:
    """A pager that is sent the message resolves it, and wakes nobody for what has ended."""
    rig.ends("FAILED")
    rig.ends("SUCCEEDED")
    [told] = rig.wait(40)
    assert (told.kind, told.data["payload"]["type"]) == ("closed", "incidents.closed")
    rig.event("kernel.leading", data={"previous_end_us": 1, "version": "1", "epoch": 2})
    told_once = rig.wait(400, attached={"team"})
    assert [each.kind for each in told_once] == ["opened"]  # the one message about it, and it has no end


def test_an_end_and_a_beginning_in_one_message_are_told_once_each(rig: Rig) -> None:
    """The open one as if it were alone, then the one that closed, in one line."""
    problem = {"severity": "error", "file": "jobs.toml", "line": 0, "message": "the file is empty, and it had jobs"}
    rig.event("host.reload_refused", host="team", data={"problems": [problem]})
    rig.wait(40)
    rig.event("host.reloaded", host="team")
    rig.event("host.reload_refused", host="team", data={"problems": [{**problem, "line": 7, "message": "no"}]})
    [told] = rig.wait(400)
    assert told.body.count("host team refused a load") == 2
    assert "Why: jobs.toml:7: no" in told.body
    assert told.body.splitlines()[-1] == "Closed: host team refused a load: recovered after 40 s"


def test_what_somebody_was_told_of_goes_behind_no_later_cause(rig: Rig) -> None:
    """Its failures go on, and its messages do."""
    rig.ends("FAILED")
    rig.wait(400)
    rig.event("host.unreachable", host="team")
    for _ in range(9):
        rig.ends("FAILED")
    [told] = rig.wait(400)
    assert told.subject == "2 incidents of team: failed, host unreachable"


def test_what_fails_on_other_instances_is_told_though_one_stays_silent(rig: Rig) -> None:
    """Nobody may ever hear of that one again."""
    rig.job()
    rig.event("host.unreachable", host="team", data={"silent_seconds": 20})
    rig.ends("FAILED")
    assert [each.subject for each in rig.wait(200, attached={"team"})] == ["host team is unreachable"]
    [told] = rig.wait(400, attached={"team"})
    assert told.subject == "nightly failed"
    assert told.body.endswith("Closed: host team is unreachable: other instances serve its jobs, after 5 min")


def test_a_job_that_fails_again_and_again_is_one_job(rig: Rig) -> None:
    """Several incidents of one job are no several jobs; of two jobs they are two."""
    rig.ends("FAILED")
    rig.wait(40)
    for job in ("nightly", "nightly", "other"):
        rig.ends("SUCCEEDED", job)
        rig.ends("FAILED", job)
    for job in ("nightly", "other"):
        rig.ends("SUCCEEDED", job)
    [told] = rig.wait(400)
    assert told.subject == "Closed: 2 jobs of team failed"
    for _ in range(3):
        rig.ends("FAILED")
        rig.ends("SUCCEEDED")
    [told] = rig.wait(400)
    assert told.subject == "Closed: nightly failed ×3"


def test_a_host_that_does_not_come_back_is_told_though_nobody_saw_it_leave(rig: Rig) -> None:
    """It ended while no kernel was there; of the one that came back at once nothing is told."""
    rig.job("other", host="back")
    rig.event("kernel.leading", data={"version": "1", "epoch": 2})
    rig.event("host.attached", host="back")
    assert [each.subject for each in rig.wait(400, attached={"back"})] == ["host team is not attached"]


def test_a_host_that_comes_when_there_is_work_may_be_away() -> None:
    """A launcher starts its instances: it has none while nothing waits."""
    rig = Rig(alerts=section(scaled_hosts=["etl-*"]))
    for host in ("etl-gpu", "team"):
        rig.job(f"job of {host}", host=host)
        rig.event("host.detached", host=host)
    assert [each.subject for each in rig.wait(400)] == ["host team is not attached"]


def test_a_host_that_a_launcher_starts_may_be_away_for_as_long_as_the_launcher_is_there() -> None:
    """The kernel knows it without a setting; without the launcher nothing of the host would come."""
    rig = Rig()
    rig.job("nightly")
    rig.event("host.detached", host="team")
    assert rig.wait(4000, launched={"team"}) == []
    assert [each.subject for each in rig.wait(400)] == ["host team is not attached"]


def test_incidents_of_a_job_end_with_the_job() -> None:
    """A run of it will never succeed, and a reminder each day would help nobody."""
    rig = Rig()
    rig.job("other")
    for job in ("nightly", "other"):
        rig.ends("FAILED", job)
    rig.wait(40)
    rig.policies.keep_only({"other"})
    for job in ("nightly", "other"):  # of the other one it is another host's claim that was removed
        rig.event("job.changed", job_id=job, data={"change": "removed"})
    [told] = rig.wait(400)
    assert (told.kind, told.subject) == ("closed", "nightly failed: the job was removed, after 40 s")
    assert [each.job_id for each in rig.work(lambda book: book.open_incidents())] == ["other"]
    rig.ends("FAILED", "nightly")  # a run that went on
    [told] = rig.wait(400)
    assert (told.kind, told.subject) == ("closed", "nightly failed: the job was removed, after 2 failures, 7 min 20 s")
    assert [each.job_id for each in rig.work(lambda book: book.open_incidents())] == ["other"]


def test_a_problem_without_a_line_is_told_by_its_file(rig: Rig) -> None:
    """An emptied file has no line to name."""
    problem = {"severity": "error", "file": "jobs.toml", "line": 0, "message": "the file is empty, and it had jobs"}
    rig.event("host.reload_refused", host="team", data={"problems": [problem]})
    [told] = rig.wait(40)
    assert "Why: jobs.toml: the file is empty" in told.body
    assert told.body.endswith("\nSee: nomaflow doctor\nFix: correct it, then: nomaflow reload team")
    [sent] = told.data["payload"]["incidents"]
    assert [sent[name] for name in ("job_id", "preset", "run_id")] == [None] * 3


def test_a_message_says_what_where_since_when_why_and_the_way_out(rig: Rig) -> None:
    """Of a run its page, of a job that has none the job's; once it is over, until when."""
    rig.ends("FAILED")
    [told] = rig.wait(40)
    assert told.body.splitlines() == [
        "nightly failed",
        "Where: host team, step one",
        "Since: 2026-03-02 12:00:00 UTC (30 s)",
        "Why: no rows",
        "How often: 1 failure",
        "See: nomaflow show run_1",
        "Fix: nomaflow replay run_1 --from-failed",
    ]
    rig.ends("SUCCEEDED")
    [told] = rig.wait(400)
    assert "From: 2026-03-02 12:00:00 UTC to 2026-03-02 12:00:40 UTC" in told.body
    rig.job("evening", schedule="30 12 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3601
    [told] = rig.wait(400)
    assert told.body.endswith("\nSee: nomaflow job evening\nFix: nomaflow run evening")


def test_only_tries_of_the_step_that_failed_are_counted(rig: Rig) -> None:
    """A second step that fails at its first try had no other try."""
    first, failed = (AttemptView(attempt_key=key, attempt=1, state="X") for key in ("run_1/zero/1", "run_1/one/1"))
    steps = (StepView(name="zero", attempts=(first,)), StepView(name="one", attempts=(failed,)))
    again = StepView(name="one", attempts=(failed, structs.replace(failed, attempt=2)))
    for number, of_run, said in ((1, steps, "How often: 1 failure"), (2, (again,), "after 2 tries")):
        rig.job(f"job{number}")
        rig.details = {number: Details(run=RunView(run_id="run_1", job_id="job", state="FAILED", steps=of_run))}
        rig.ends("FAILED", f"job{number}")
        [told] = rig.wait(400)
        assert [line for line in told.body.splitlines() if line.endswith(said)], told.body


def test_the_documented_recipe_pages_for_what_is_open(rig: Rig) -> None:
    """Beside an older incident that has ended, a new one is what the pager's alert is about; its end resolves that."""
    page = Path(__file__).parents[3] / "docs" / "alerts.md"
    [recipe] = re.findall(r"templates\.pagerduty = '''\n(.*?)'''", page.read_text(), re.DOTALL)
    templates = Templates({"pagerduty": recipe})

    def event(told: Message) -> tuple[str, str]:
        values = {**told.data["payload"], "id": told.id, "subject": told.subject, "text": told.body}
        made, problem = templates.rendered("pagerduty", values)
        assert problem == ""
        sent = json.loads(made)
        return sent["event_action"], sent["dedup_key"]

    rig.job("other")
    rig.ends("FAILED")
    first = event(*rig.wait(40))
    rig.ends("SUCCEEDED")
    rig.ends("FAILED", "other")
    second = event(*rig.wait(400))
    rig.ends("SUCCEEDED", "other")
    third = event(*rig.wait(400))
    assert [first, second, third] == [("trigger", "nomaflow-1"), ("trigger", "nomaflow-2"), ("resolve", "nomaflow-2")]


def test_a_channel_can_have_messages_of_its_own_for_each_incident() -> None:
    """Incidents that open together on a host, and one that ends while another is open, are told apart."""
    pager = {"url": "json://127.0.0.1/", "each_incident": True}
    rig = Rig(alerts=section(channels={"ops": {"url": "json://127.0.0.1/"}, "pager": pager}))

    def told(messages: list[Message]) -> list[tuple[str, str, tuple[int, ...]]]:
        return sorted((each.channel, each.kind, each.incident_ids) for each in messages)

    rig.job("other")
    rig.ends("FAILED")
    rig.ends("FAILED", "other")
    assert told(rig.wait(40)) == [("ops", "opened", (1, 2)), ("pager", "opened", (1,)), ("pager", "opened", (2,))]
    rig.ends("SUCCEEDED")
    assert told(rig.wait(400)) == [("ops", "closed", (1,)), ("pager", "closed", (1,))]
    rig.ends("SUCCEEDED", "other")
    rig.ends("FAILED")
    assert told(rig.wait(400)) == [("ops", "opened", (2, 3)), ("pager", "closed", (2,)), ("pager", "opened", (3,))]
