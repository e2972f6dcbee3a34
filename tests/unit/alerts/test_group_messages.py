"""The titles of messages, and what those about several incidents tell of each."""

from __future__ import annotations

import pytest
from alerts_rig import Rig, section

from nomaflow.client.values import LogLine
from nomaflow_alerts.messages.details import Details


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
