"""The rules about runs: failed, missed, rows, and the ends of these; pings of a job's own check."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomaflow.client.values import EventView
from nomaflow_alerts.ledger import Book, OpenRun, Sighting
from nomaflow_alerts.messages.ping_urls import ping
from nomaflow_alerts.rules.policies import JobRules, Policies

_ENDED_BY_SUCCESS = ("failed", "late", "rows")
_PAUSED = "paused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The kernel's answers about a batch of events, asked for beforehand.

    :param long_after: run id → seconds after which it takes unusually long
    :param median_rows: run id → the usual rows of its job and preset
    :param child_jobs: run id → the job whose run failed it
    """

    long_after: Mapping[str, float] = field(default_factory=dict)
    median_rows: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    child_jobs: Mapping[str, str] = field(default_factory=dict)


def key_of(condition: str, job_id: str, preset: str = "", *, run_id: str = "") -> str:
    """Return the key of a job's incident."""
    return "|".join((condition, job_id, preset, run_id))


def sighting(condition: str, event: EventView, rules: JobRules, host: str, **more: Any) -> Sighting:
    """Return a sighting of a condition of the job of an event."""
    preset = str(event.data.get("preset") or "")
    more = {
        "key": key_of(condition, event.job_id, preset), "why": event.reason.message if event.reason else "", **more
    }  # fmt: skip
    return rules.sighting(
        condition, at=moment(event), job_id=event.job_id, preset=preset, host=host, run_id=event.run_id, **more
    )


def moment(event: EventView) -> float:
    """Return when an event was committed, in seconds since the epoch."""
    return event.at.timestamp() if event.at else 0.0


def fold_run(book: Book, event: EventView, policies: Policies, found: Findings) -> None:
    """Take in an event of a run."""
    host = str(event.data.get("host") or event.host or policies.host_of(event.job_id))
    rules = policies.rules(event.job_id, host)
    at = moment(event)
    if event.kind == "run.queued":
        check_at = at + rules.never_started_minutes * 60
        run = OpenRun(
            run_id=event.run_id, job_id=event.job_id, host=host, queued_at=at, started_at=None, check_at=check_at
        )
        book.watched.run_queued(run)
    elif event.kind == "run.started":
        long_run = None if rules.on_long_run_minutes is None else rules.on_long_run_minutes * 60
        limits = [each for each in (long_run, found.long_after.get(event.run_id)) if each is not None]
        book.watched.run_started(event.run_id, at=at, check_at=at + min(limits) if limits else None)
        _waits_no_more(book, event.job_id, at)
        if rules.ping_url and not book.quiet:
            book.outbox.add_ping(ping("run", rules.ping_url, event, now=book.now))
    elif event.kind == "run.finished":
        book.watched.run_ended(event.run_id)
        _waits_no_more(book, event.job_id, at)
        book.close(key_of("long_run", event.job_id, run_id=event.run_id), at=at)
        _fold_end(book, event, rules, host, found)
        _end_of_removed(book, event, policies)


def end_unseen(book: Book, active: Collection[str]) -> None:
    """Watch no run whose end was not seen, and close what was open because of it.

    :param active: the runs that wait or go on
    """
    gone = [run for run in book.watched.open_runs() if run.run_id not in active]
    for run in gone:
        book.watched.run_ended(run.run_id)
    for incident in book.open_incidents("long_run"):
        if incident.run_id not in active:
            book.close(incident.key, at=book.now)
    for job_id in {run.job_id for run in gone}:
        _waits_no_more(book, job_id, book.now)


def _waits_no_more(book: Book, job_id: str, at: float) -> None:
    for incident in book.open_incidents("never_started", job_id=job_id):
        if not book.watched.waits_too_long(job_id):
            book.close(incident.key, at=at)


def _fold_end(book: Book, event: EventView, rules: JobRules, host: str, found: Findings) -> None:
    preset, slot_us = str(event.data.get("preset") or ""), event.data.get("slot_us")
    slot = slot_us / 1_000_000 if isinstance(slot_us, int) else None
    if slot is not None and event.run_state != "SUCCEEDED":
        book.watched.note_outcome(event.job_id, preset, slot, event.run_state)
    if event.run_state == "FAILED":
        _failed(book, event, rules, host, found)
    elif event.run_state == "MISSED":
        code = event.reason.code if event.reason else ""
        if rules.on_missed and code != _PAUSED:
            key = key_of("missed", event.job_id, preset, run_id=event.run_id)
            book.sight(sighting("missed", event, rules, host, key=key, facts={"slot": slot, "code": code}))
    elif event.run_state == "SUCCEEDED":
        _succeeded(book, event, rules, host, slot, found)
    if rules.ping_url and event.run_state in ("SUCCEEDED", "FAILED") and not book.quiet:
        state = "complete" if event.run_state == "SUCCEEDED" else "fail"
        book.outbox.add_ping(ping(state, rules.ping_url, event, now=book.now))


def _failed(book: Book, event: EventView, rules: JobRules, host: str, found: Findings) -> None:
    preset, at = str(event.data.get("preset") or ""), moment(event)
    failures, since = book.watched.failed_again(event.job_id, preset, at)
    if not rules.on_failure or failures < rules.failures:
        return
    first = book.open_incident(key_of("failed", event.job_id, preset)) is None
    facts = {
        "code": event.reason.code if event.reason else "",
        "step": event.data.get("failed_step") or "",
        "error": str(event.data.get("error") or "")[:1000],  # more than a message shows
        "since": since,
        "child_job": found.child_jobs.get(event.run_id, ""),
    }
    book.sight(sighting("failed", event, rules, host, count=failures if first else 1, facts=facts))


def fold_job(book: Book, event: EventView, policies: Policies) -> None:
    """Take in an event of a job."""
    if event.data.get("change") == "removed":
        _end_of_removed(book, event, policies)


def _end_of_removed(book: Book, event: EventView, policies: Policies) -> None:
    """Close what runs of a removed job have opened, the last ones after its removal: no run to come can end it."""
    if not policies.is_removed(event.job_id):
        return
    for incident in book.open_incidents(job_id=event.job_id):
        if incident.condition in (*_ENDED_BY_SUCCESS, "missed"):
            book.close(incident.key, at=moment(event), facts={"ended": "the job was removed,"})


def _succeeded(book: Book, event: EventView, rules: JobRules, host: str, slot: float | None, found: Findings) -> None:
    preset, at = str(event.data.get("preset") or ""), moment(event)
    started_us = event.data.get("started_us")
    started = started_us / 1_000_000 if isinstance(started_us, int) else at
    book.watched.succeeded(event.job_id, preset)
    book.watched.met(event.job_id, preset, started_at=started if slot is None else slot)
    odd = _odd_rows(event, rules, found)
    for condition in _ENDED_BY_SUCCESS:
        if condition == "late" and not _makes_up(book, event.job_id, preset, started if slot is None else slot):
            continue
        if condition != "rows" or not odd:
            book.close(key_of(condition, event.job_id, preset), at=at, facts={"ended_by": event.run_id})
    for incident in book.open_incidents("missed", job_id=event.job_id):
        if incident.preset == preset:
            book.close(incident.key, at=at, facts={"ended_by": event.run_id})
    if odd:
        book.sight(sighting("rows", event, rules, host, why=odd))


def _makes_up(book: Book, job_id: str, preset: str, since: float) -> bool:
    """Return whether a run is what a late incident waits for: not that of an earlier due instant.

    An instant to come is of a clock that was set back.
    """
    incident = book.open_incident(key_of("late", job_id, preset))
    slot = float(incident.facts.get("slot") or 0.0) if incident is not None else 0.0
    return incident is not None and (since >= slot or slot > book.now)


def _odd_rows(event: EventView, rules: JobRules, found: Findings) -> str:
    """Return what is odd about the rows of a run, empty for nothing."""
    rows = event.data.get("rows_affected")
    if not isinstance(rows, int):
        return ""
    usual = found.median_rows.get(event.run_id)
    usually = f", usually {usual[1]:,.0f}–{usual[2]:,.0f}" if usual else ""
    if rules.rows_min is not None and rows < rules.rows_min:
        return f"{rows:,} rows, at least {rules.rows_min:,} are expected{usually}"
    if rules.rows_max is not None and rows > rules.rows_max:
        return f"{rows:,} rows, at most {rules.rows_max:,} are expected{usually}"
    if rules.rows_change_percent is not None and usual:
        median = usual[0]
        change = abs(rows - median) / median * 100 if median else (0.0 if rows == 0 else float("inf"))
        if change > rules.rows_change_percent:
            return f"{rows:,} rows{usually}"
    return ""
