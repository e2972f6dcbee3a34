"""Messages made of incidents: groups, causes, mutes, reminders, rates, quiet times."""

from __future__ import annotations

import pytest
from alerts_rig import START, Rig, section

from nomaflow_alerts.ledger import Mute


@pytest.fixture
def rig() -> Rig:
    """Give rules with one channel and one job."""
    rig = Rig()
    rig.job()
    return rig


def mute(rig: Rig, seconds: float, *, job_id: str = "", host: str = "") -> None:
    """Mute from now on."""
    it = Mute(job_id=job_id, host=host, by="ann", why="moving", since=rig.now, until=rig.now + seconds)
    rig.work(lambda book: book.mute(it))


def first_lines(rig: Rig, seconds: float) -> list[str]:
    """Return the first lines of the messages of the next seconds."""
    return [message.body.splitlines()[0] for message in rig.wait(seconds)]


def test_jobs_of_a_host_that_fail_together_are_one_message(rig: Rig) -> None:
    """Its first line counts; ten are named; the common reason stands first, with how many have it."""
    for number in range(17):
        rig.job(f"job{number:02}")
        rig.ends("FAILED", f"job{number:02}", why="no space left" if number < 12 else "other")
    [told] = rig.wait(40)
    lines = told.body.splitlines()
    assert told.subject == lines[0] == "17 jobs of team failed"
    assert lines[2] == "Why: no space left (12 of them)"
    assert (sum(" · nomaflow show" in line for line in lines), "and 7 more" in told.body) == (10, True)


def test_what_opens_within_the_group_wait_is_one_message(rig: Rig) -> None:
    """The first incident waits for the group's time, and what opens meanwhile is told with it."""
    rig.job("other")
    rig.ends("FAILED")
    assert rig.wait(20) == []
    rig.ends("FAILED", "other")
    assert first_lines(rig, 20) == ["2 jobs of team failed"]


def test_hosts_are_told_apart(rig: Rig) -> None:
    """A group is a channel and a host."""
    for host in ("a", "b"):
        rig.job(f"of-{host}", host=host)
        rig.ends("FAILED", f"of-{host}", host=host)
    assert sorted(first_lines(rig, 40)) == ["of-a failed", "of-b failed"]


def test_the_next_message_about_a_host_waits(rig: Rig) -> None:
    """Incidents that open within group_seconds after a message are told together when that time is over."""
    rig.ends("FAILED")
    assert len(rig.wait(35)) == 1
    rig.job("other")
    rig.ends("FAILED", "other")
    assert rig.wait(200) == []
    assert first_lines(rig, 100) == ["other failed"]


def test_a_count_that_grows_tenfold_is_told(rig: Rig) -> None:
    """Once, after group_seconds; not each failure."""
    rig.ends("FAILED")
    rig.wait(40)
    for _ in range(99):
        rig.ends("FAILED")
    [told] = rig.wait(600)
    assert "100 failures in a row" in told.body


def test_an_open_incident_is_reminded_of(rig: Rig) -> None:
    """Every remind_hours while it is open."""
    rig.ends("FAILED")
    rig.wait(40)
    assert rig.wait(23 * 3600) == []
    assert [line.partition(" (")[0] for line in first_lines(rig, 2 * 3600)] == ["Still open: nightly failed, for 1 d"]
    rig.ends("SUCCEEDED")
    rig.wait(400)
    assert rig.wait(48 * 3600) == []


def test_jobs_of_an_unreachable_host_are_behind_it(rig: Rig) -> None:
    """They are named in its messages, at its beginning and at its end, and have none of their own."""
    for number in range(40):
        rig.job(f"job{number:02}", schedule="0 13 * * *", late_after_minutes=30)
    rig.turn()
    rig.now = START + 3600 + 1790
    rig.event("host.unreachable", host="team", data={"silent_seconds": 20})
    told = rig.wait(60)
    assert [each.subject for each in told] == ["host team is unreachable"]
    assert "Behind it: 40 jobs of team are late" in told[0].body
    rig.event("host.reattached", host="team")
    for number in range(40):
        rig.ends("SUCCEEDED", f"job{number:02}")
    told = rig.wait(400)
    assert [each.kind for each in told] == ["closed"]
    assert told[0].body.startswith("host team is unreachable: recovered after")
    assert "Behind it: 40 jobs of team are late, 40 of them over" in told[0].body


def test_what_is_still_open_when_the_cause_is_over_is_told(rig: Rig) -> None:
    """It was another cause."""
    rig.event("host.unreachable", host="team")
    rig.ends("FAILED")
    assert first_lines(rig, 60) == ["host team is unreachable"]
    rig.event("host.reattached", host="team")
    told = rig.wait(400)
    assert [each.subject for each in told] == ["nightly failed"]


def test_a_parent_is_behind_the_job_that_it_called(rig: Rig) -> None:
    """One message, about the child."""
    from nomaflow_alerts.rules.runs import Findings

    rig.job("parent")
    rig.ends("FAILED")
    rig.ends("FAILED", "parent", code="child_failed", run_id="p", findings=Findings(child_jobs={"p": "nightly"}))
    [told] = rig.wait(60)
    assert told.subject == "nightly failed"
    assert "Behind it: parent failed" in told.body


def test_a_parent_whose_child_nobody_is_told_of_is_told_itself(rig: Rig) -> None:
    """The parent's incident is told if its child's goes to no channel."""
    from nomaflow_alerts.rules.runs import Findings

    rig.job("parent")
    rig.job("nightly", on_failure=False)
    rig.ends("FAILED")
    rig.ends("FAILED", "parent", code="child_failed", run_id="p", findings=Findings(child_jobs={"p": "nightly"}))
    assert first_lines(rig, 60) == ["parent failed"]


def test_a_silent_kernel_is_the_cause_of_all(rig: Rig) -> None:
    """Late jobs meanwhile are no news."""
    from nomaflow_alerts.rules.system import sight_system

    rig.job(schedule="0 13 * * *", late_after_minutes=1)
    rig.turn()
    rig.now = START + 3600 + 30
    rig.work(lambda book: sight_system(book, "kernel_silent", rig.policies, at=book.now, why="no answer"))
    assert first_lines(rig, 200) == ["the kernel is silent"]
    rig.work(lambda book: book.close("kernel_silent", at=book.now))
    rig.ends("SUCCEEDED")
    [told] = rig.wait(400)
    assert "Behind it: nightly is late, 1 of them over" in told.body


def test_a_muted_job_is_told_when_the_mute_ends(rig: Rig) -> None:
    """If it is still open; nothing of it before."""
    mute(rig, 3600, job_id="nightly")
    rig.ends("FAILED")
    assert rig.wait(3590) == []
    assert first_lines(rig, 60) == ["nightly failed"]


def test_what_opened_and_ended_during_a_mute_is_counted_at_its_end(rig: Rig) -> None:
    """The end of the mute tells how many incidents opened and ended during it."""
    mute(rig, 3600)
    for number in range(3):
        rig.job(f"job{number}")
        rig.ends("FAILED", f"job{number}")
        rig.ends("SUCCEEDED", f"job{number}")
    assert rig.wait(3590) == []
    assert first_lines(rig, 60) == ["Closed: 3 jobs of team failed"]


def test_every_message_shows_the_mutes(rig: Rig) -> None:
    """The reader learns what is kept back, by whom and why."""
    mute(rig, 3600, host="other")
    rig.ends("FAILED")
    [told] = rig.wait(40)
    assert "Muted: host other until 2026-03-02 13:00:00 UTC, by ann: moving" in told.body


def test_an_unmute_tells_at_once(rig: Rig) -> None:
    """Incidents that are open when a mute ends are told."""
    mute(rig, 36000, job_id="nightly")
    rig.ends("FAILED")
    rig.wait(60)
    assert rig.work(lambda book: book.unmute(job_id="nightly", host=""))
    assert len(rig.wait(40)) == 1


def test_beyond_the_rate_there_is_one_digest_with_exact_counts(rig: Rig) -> None:
    """Ten hosts, three messages an hour: three, then digests each five minutes that leave nothing out."""
    rig = Rig(alerts=section(max_messages_per_hour=3))
    told = []
    for number in range(10):
        rig.job(f"job{number}", host=f"h{number}")
        rig.ends("FAILED", f"job{number}", host=f"h{number}")
        told += rig.wait(31)
    told += rig.wait(600)
    assert [each.kind for each in told] == ["opened"] * 3 + ["digest"] * (len(told) - 3)
    assert len(told) <= 6
    assert sum(len(each.incident_ids) for each in told) == 10


def test_old_events_are_read_in_silence_and_told_in_one_message(rig: Rig) -> None:
    """The message has what is open at the end of the quiet time, and nothing that was over before."""
    rig.quiet = True
    for number in range(5):
        rig.job(f"job{number}")
        rig.ends("FAILED", f"job{number}")
    rig.ends("SUCCEEDED", "job0")
    assert rig.wait(1000) == []
    rig.quiet = False
    rig.work(lambda book: book.announce_open())
    assert first_lines(rig, 40) == ["4 jobs of team failed"]


def test_a_quiet_time_is_one_message_of_a_channel_whatever_the_hosts(rig: Rig) -> None:
    """It has ends of what was told before, too; what comes later is told by host again."""
    rig.ends("FAILED")
    assert len(rig.wait(40)) == 1
    rig.quiet = True
    rig.ends("SUCCEEDED")
    for host in ("a", "b", "c"):
        rig.job(f"of-{host}", host=host)
        rig.ends("FAILED", f"of-{host}", host=host)
    rig.quiet = False
    rig.work(lambda book: book.announce_open())
    [told] = rig.wait(400)
    assert (told.kind, len(told.incident_ids)) == ("digest", 4)
    assert told.body.splitlines()[0] == "3 jobs failed"
    assert "nightly failed: recovered after" in told.body
    rig.ends("SUCCEEDED", "of-a", host="a")
    assert first_lines(rig, 40) == ["of-a failed: recovered after 6 min 40 s"]


def test_what_was_behind_a_cause_that_ended_in_a_quiet_time_is_told(rig: Rig) -> None:
    """It is still open, and its cause is over."""
    rig.event("host.unreachable", host="team")
    rig.ends("FAILED")
    assert first_lines(rig, 60) == ["host team is unreachable"]
    rig.quiet = True
    rig.event("host.reattached", host="team")
    rig.quiet = False
    rig.work(lambda book: book.announce_open())
    [told] = rig.wait(400)
    assert "nightly failed" in told.body


def test_an_event_that_comes_twice_counts_once(rig: Rig) -> None:
    """After a crash the last batch may come again."""
    rig.ends("FAILED")
    seq = int(rig.work(lambda book: book.fact("seq")))
    rig.event("run.finished", seq=seq, run_id="r", job_id="nightly", run_state="FAILED", data={})
    assert rig.incident("failed").count == 1


def test_a_batch_is_taken_in_whole_or_not_at_all(rig: Rig) -> None:
    """Cursor and incidents are one transaction."""
    from nomaflow_alerts.ledger import Sighting

    def work(book: object) -> None:
        book.set_fact("seq", 4711)  # type: ignore[attr-defined]
        book.sight(Sighting(key="k", condition="failed", at=START))  # type: ignore[attr-defined]
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        rig.work(work)
    assert (rig.work(lambda book: book.fact("seq")), rig.open()) == ("", [])


def test_hosts_conditions() -> None:
    """Disabled jobs, a refused load, a host that stays away, and the ends of these."""
    rig = Rig()
    rig.job()
    rig.job("other", host="elsewhere")
    rig.event("host.manifest", host="team", data={"disabled_job_ids": ["nightly"]})
    rig.event("host.reload_refused", host="team", data={"message": "no plugins\nin it"})
    assert rig.incident("load_refused").why == "no plugins"
    problem = {"file": "jobs.toml", "line": 3, "message": "unknown key"}
    rig.event("host.reload_refused", host="team", data={"message": "refused", "problems": [problem, problem]})
    assert rig.incident("load_refused").why == "jobs.toml:3: unknown key (and 1 more)"
    assert rig.open() == ["jobs_disabled", "load_refused"]
    rig.event("host.manifest", host="team", data={"disabled_job_ids": []})
    assert rig.open() == []
    rig.event("host.detached", host="team")
    rig.wait(299)
    assert rig.open() == []
    rig.wait(10)
    assert rig.incident("host_detached").why == "no instance is attached; 1 enabled job cannot run"
    rig.event("host.attached", host="team")
    assert rig.open() == []


def test_a_host_with_another_instance_is_not_away() -> None:
    """One of two has gone."""
    rig = Rig()
    rig.job()
    rig.event("host.detached", host="team")
    rig.wait(400, attached={"team"})
    assert rig.open() == []


def test_a_host_whose_end_is_declared_is_not_silent_any_more() -> None:
    """Its steps have ended; that no other instance has come is told in its time."""
    rig = Rig()
    rig.job()
    rig.event("host.unreachable", host="team", data={"silent_seconds": 20})
    assert rig.open() == ["host_unreachable"]
    rig.event("host.ended", host="team", data={"evidence": "Slurm job 12 is TIMEOUT", "attempts": 1})
    assert rig.open() == []
    rig.wait(310)
    assert rig.open() == ["host_detached"]


def test_another_leader_is_told_once() -> None:
    """It opens and is over at the same moment."""
    rig = Rig()
    rig.event("kernel.leading", data={"previous_end_us": START * 1e6 - 4e6, "epoch": 7, "version": "1"})
    told = rig.wait(1000)
    assert [each.subject for each in told] == ["another kernel leads"]
    assert "nobody led for up to 4 s" in told[0].body


@pytest.mark.parametrize(
    ("recipients", "severity", "channels"),
    [
        ((), "warning", ("ops",)),
        (("pager",), "critical", ("pager",)),
        (("pager",), "warning", ("ops",)),  # it does not take that, so the default is told
        (("ops", "pager"), "warning", ("ops",)),
        (("nobody",), "warning", ("ops",)),
        (("c@example.org",), "warning", ("mail:c@example.org",)),
        (("c@example.org", "nobody"), "info", ("mail:c@example.org", "ops")),  # the default, for nobody
    ],
)
def test_who_is_told(recipients: tuple[str, ...], severity: str, channels: tuple[str, ...]) -> None:
    """By recipients and severity; never nobody."""
    mail = {"type": "email", "host": "mx", "from": "a@x", "to": ["b@x"]}
    pager = {"type": "webhook", "url": "https://x", "severities": ["critical"]}
    everything = {"ops": {"url": "json://x"}, "mail": mail, "pager": pager}
    rig = Rig(alerts=section(channels=everything, default=["ops"]))
    rig.job(recipients=list(recipients), severity=severity)
    rig.ends("FAILED")
    assert rig.incident("failed").channels == channels


def test_somebody_is_told_even_if_no_channel_takes_the_severity() -> None:
    """Rather too much than nothing."""
    rig = Rig(alerts=section(channels={"pager": {"url": "json://x", "severities": ["critical"]}}))
    rig.job()
    rig.ends("FAILED")
    assert rig.incident("failed").channels == ("pager",)


def test_an_unknown_recipient_is_said_in_the_message() -> None:
    """It goes to the default, and tells why."""
    rig = Rig()
    rig.job(recipients=["opps"])
    rig.ends("FAILED")
    [told] = rig.wait(40)
    assert "Note: no channel is called opps; this went to the default" in told.body


def test_rules_are_laid_over_jobs() -> None:
    """By tag, host and pattern; the job's own key wins."""
    rules = [{"tags": ["billing"], "severity": "critical"}, {"jobs": ["etl-*"], "failures": 2}]
    rig = Rig(alerts=section(rules=rules))
    rig.job("etl-a", tags=["billing"])
    rig.job("etl-b", failures=1)
    rig.job("other")
    rules_of = map(rig.policies.rules, ("etl-a", "etl-b", "other"))
    assert [(each.severity, each.failures) for each in rules_of] == [("critical", 2), ("warning", 1), ("warning", 1)]


def test_a_mute_that_is_made_shorter_ends_sooner(rig: Rig) -> None:
    """Its notices are told after the new end, and not after the old one."""
    mute(rig, 8 * 3600, job_id="nightly")
    rig.ends("FAILED")
    assert rig.wait(60) == []
    mute(rig, 600, job_id="nightly")
    assert rig.wait(590) == []
    assert len(rig.wait(60)) == 1


def test_a_clock_that_was_set_back_holds_up_no_message(rig: Rig) -> None:
    """The last message about the host, and one that is still to be told, have times to come."""
    rig.now += 86_400
    rig.ends("FAILED")
    assert len(rig.wait(40)) == 1
    rig.job("weekly")
    rig.ends("FAILED", "weekly")
    rig.now -= 86_400
    rig.job("hourly")
    rig.ends("FAILED", "hourly")
    [told] = rig.wait(60)
    assert len(told.incident_ids) == 2
