"""The rules that need no event: late, never started, running for too long, a host that stays away."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from nomaflow.client.values import RunView
from nomaflow_alerts.ledger import Book, OpenRun, Sighting
from nomaflow_alerts.messages.wording import counted
from nomaflow_alerts.rules.policies import JobRules, Policies
from nomaflow_alerts.rules.runs import key_of
from nomaflow_alerts.rules.system import sight_system

_LOOKBACK_SECONDS = 86_400.0
_MOST_SLOTS = 500
_SCHEDULES = "schedule|"
_TOLD_ALREADY = ("FAILED", "MISSED")
_CAUSES = {
    "FAILED": "its run failed, and none has succeeded",
    "SKIPPED": "it was skipped, and no run has succeeded",
    "MISSED": "it was missed, and no run has succeeded",
    "CANCELED": "its run was canceled, and none has succeeded",
}


def expect_runs(book: Book, policies: Policies) -> None:
    """Expect the next run of each schedule with ``late_after_minutes``, and those due since the last expected one."""
    schedules = book.watched.expected_schedules()
    for job in policies.jobs:
        minutes = policies.rules(job.job_id).late_after_minutes
        if minutes is None or not job.enabled:
            continue
        late_after = minutes * 60
        for timetable in job.timetables:
            schedules.discard((job.job_id, timetable.preset))
            fact = _fact_of(job.job_id, timetable.preset)
            known = f"{timetable.expression}|{timetable.timezone}|{late_after:g}"
            if book.fact(fact) != known:
                book.watched.expect_no_more(job.job_id, timetable.preset, after=book.now)
                book.set_fact(fact, known)
                book.set_fact(f"{fact}|through", book.now)
            last = book.watched.last_expected(job.job_id, timetable.preset)
            since = max(last, float(book.fact(f"{fact}|through") or book.now), book.now - _LOOKBACK_SECONDS)
            slots = [slot for slot, _ in zip(timetable.slots(since, book.now), range(_MOST_SLOTS), strict=False)]
            if last <= book.now:
                following = timetable.next_after(book.now)
                slots += [] if following is None else [following]
            for slot in slots:
                book.watched.expect(job.job_id, timetable.preset, slot, late_at=slot + late_after)
            if slots:
                book.set_fact(f"{fact}|through", slots[-1])
    for job_id, preset in schedules:  # gone, disabled, or no longer with the key: it begins anew if it comes back
        book.watched.expect_no_more(job_id, preset, after=book.now)
        book.set_fact(_fact_of(job_id, preset), "")


def expect_anew(book: Book) -> None:
    """Expect what is due from now on, and nothing of the time until which the clock was set back: it may be years."""
    book.drop_facts(_SCHEDULES)


def _fact_of(job_id: str, preset: str) -> str:
    return f"{_SCHEDULES}{job_id}|{preset}"


def check_expected(book: Book, policies: Policies) -> None:
    """Sight what is late: expected runs whose time is over."""
    for job_id, preset, slot, outcome in book.watched.unmet(book.now):
        rules, host = policies.rules(job_id), policies.host_of(job_id)
        if outcome in _TOLD_ALREADY and _is_told(book, job_id, preset, outcome):
            continue
        cause = _CAUSES.get(outcome, "no run has succeeded")
        due = datetime.fromtimestamp(slot, UTC)
        why = f"due at {due:%Y-%m-%d %H:%M:%S} UTC, and {cause} since"
        key, facts = key_of("late", job_id, preset), {"slot": slot, "since": slot}
        book.sight(
            rules.sighting("late", key=key, at=book.now, job_id=job_id, preset=preset, host=host, why=why, facts=facts)
        )


def _is_told(book: Book, job_id: str, preset: str, outcome: str) -> bool:
    condition = outcome.lower()
    return any(each.preset == preset for each in book.open_incidents(condition, job_id=job_id))


def check_runs(book: Book, policies: Policies, runs: Mapping[str, RunView | None], due: list[OpenRun]) -> None:
    """Sight runs that wait or go on for too long.

    :param runs: run id → what the kernel says of it, None if it no longer knows the run; one that it was not asked
        about counts like the others of its job
    """
    for run in due:
        now = runs.get(run.run_id)
        if run.run_id in runs and (now is None or now.terminal):
            book.watched.run_ended(run.run_id)
            continue
        book.watched.run_checked(run.run_id)
        rules = policies.rules(run.job_id, run.host)
        if run.started_at is not None:
            book.sight(_sighting("long_run", run, rules, now, at=book.now, since=run.started_at))
        elif now is None or now.state != "RUNNING":  # else run.started is on its way
            book.sight(_sighting("never_started", run, rules, now, at=book.now, since=run.queued_at))


def _sighting(
    condition: str, run: OpenRun, rules: JobRules, now: RunView | None, *, at: float, since: float
) -> Sighting:
    key = key_of(condition, run.job_id, run_id=run.run_id if condition == "long_run" else "")
    preset, reason = (now.preset, now.reason) if now else ("", None)
    return rules.sighting(
        condition, key=key, at=at, job_id=run.job_id, preset=preset, host=run.host, run_id=run.run_id,
        why=reason.message if reason else "", facts={"since": since},
    )  # fmt: skip


def check_absent_hosts(
    book: Book, policies: Policies, attached: set[str] | None, *, launched: Collection[str] = ()
) -> None:
    """Sight hosts that stay away although they have enabled jobs, and end the silence of those that do not.

    :param attached: the hosts with an instance that is heard; None if the kernel does not answer, so that it is asked
        again
    :param launched: those that a launcher starts when there is work; they may be away, for as long as it does
    """
    for host, since in book.watched.hosts_due(book.now):
        book.watched.host_back(host)
        if attached is None:
            book.watched.host_left(host, at=since, check_at=book.now + policies.detached_after)
        elif host in attached:  # what fails there has another cause than the instance that is silent
            book.close(f"host_unreachable|{host}", at=book.now, facts={"ended": "other instances serve its jobs,"})
        elif host in launched:
            book.watched.host_left(host, at=book.now, check_at=book.now + policies.detached_after)
        elif not policies.may_be_away(host):
            jobs = sorted(job.job_id for job in policies.jobs if job.host == host and job.enabled)
            if jobs:
                why = f"no instance is attached; {counted(len(jobs), 'enabled job')} cannot run"
                sight_system(book, "host_detached", policies, at=book.now, why=why, host=host, since=since)
