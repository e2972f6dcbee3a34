"""Words for incidents: one line, and the lines of a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from nomaflow_alerts.ledger import Incident
from nomaflow_alerts.messages.harmless_text import plain
from nomaflow_api.time_spans import time_span

JOB_CONDITIONS = {
    "failed": ("failed", "failed", "failure"),
    "late": ("is late", "are late", "due instant"),
    "missed": ("missed fires", "missed fires", "row"),
    "never_started": ("does not start", "do not start", "run"),
    "long_run": ("runs for unusually long", "run for unusually long", "run"),
    "rows": ("has an unusual number of rows", "have an unusual number of rows", "run"),
}
"""What each condition says of one job and of several, and what it counts."""
SYSTEM_CONDITIONS = {
    "host_unreachable": ("critical", "host {host} is unreachable"),
    "host_detached": ("warning", "host {host} is not attached"),
    "jobs_disabled": ("warning", "host {host} has disabled jobs"),
    "load_refused": ("warning", "host {host} refused a load"),
    "kernel_silent": ("critical", "the kernel is silent"),
    "store_unwritable": ("critical", "the kernel cannot write to its store"),
    "leader_changed": ("info", "another kernel leads"),
    "cursor_lost": ("warning", "events may be missing"),
    "undeliverable": ("critical", "channel {channel} takes no messages"),
}
"""How bad each condition of the kernel, a host or a channel is, and what it says."""
ONE_MOMENT = ("leader_changed", "cursor_lost")
"""Conditions that are over as soon as they are there."""


def job_name(incident: Incident) -> str:
    """Return a job with its preset: ``nightly (eu)``."""
    return f"{incident.job_id} ({incident.preset})" if incident.preset else incident.job_id


def title(incident: Incident) -> str:
    """Return the one line of an incident, the same from its beginning to its end."""
    if incident.condition in JOB_CONDITIONS:
        lost = incident.condition == "failed" and incident.facts.get("code") in ("host_lost", "outcome_lost")
        return f"{job_name(incident)} {'is LOST' if lost else JOB_CONDITIONS[incident.condition][0]}"
    _, words = SYSTEM_CONDITIONS.get(incident.condition, ("", incident.condition))
    return words.format(host=incident.host, channel=incident.facts.get("channel"))


def group_title(incidents: Sequence[Incident]) -> str:
    """Return the one line of several incidents: ``17 jobs of billing failed``, or ``nightly failed ×3`` of one job."""
    if len(incidents) == 1:
        return title(incidents[0])
    hosts = {each.host for each in incidents}
    where = f" of {next(iter(hosts))}" if len(hosts) == 1 and next(iter(hosts)) else ""
    conditions = Counter(each.condition for each in incidents)
    first, of_first = conditions.most_common(1)[0]
    if len(conditions) == 1 and first in JOB_CONDITIONS:
        jobs = len({job_name(each) for each in incidents})
        if jobs == 1:
            return f"{title(incidents[0])} ×{of_first:,}"
        return f"{jobs:,} jobs{where} {JOB_CONDITIONS[first][1]}"
    names = [(name.replace("_", " "), number) for name, number in conditions.most_common(4)]
    parts = ", ".join(f"{name} ×{number:,}" if number > 1 else name for name, number in names)
    return f"{len(incidents):,} incidents{where}: {parts}"


def ending(incident: Incident) -> str:
    """Return how an incident ended: ``recovered after 3 failures, 2 h 10 min``, unless its facts say otherwise."""
    took = time_span(
        (incident.closed_at or incident.last_at) - float(incident.facts.get("since") or incident.opened_at)
    )
    after = f"after {took}"
    if incident.condition in JOB_CONDITIONS and incident.count > 1:
        after = f"after {counted(incident.count, JOB_CONDITIONS[incident.condition][2])}, {took}"
    return f"{incident.facts.get('ended', 'recovered')} {after}"


def counted(number: int, noun: str) -> str:
    """Return ``1 run``, ``1,000 runs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(at: float) -> str:
    """Return an instant in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def reasons(incidents: Sequence[Incident]) -> list[tuple[str, int]]:
    """Return the reasons of incidents, the most common one first, each with how many have it."""
    return Counter(plain(each.why) for each in incidents if each.why).most_common()
