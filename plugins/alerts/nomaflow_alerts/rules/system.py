"""The rules about hosts and the kernel."""

from __future__ import annotations

from nomaflow.client.values import EventView
from nomaflow_alerts.ledger import Book, Sighting
from nomaflow_alerts.messages.wording import ONE_MOMENT, SYSTEM_CONDITIONS, counted
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import moment
from nomaflow_api.time_spans import time_span
from nomaflow_project.reading.problems import Problem


def sight_system(
    book: Book,
    condition: str,
    policies: Policies,
    *,
    at: float,
    why: str,
    host: str = "",
    channel: str = "",
    **facts: object,
) -> None:
    """Sight a condition of the kernel, of a host, or of a channel, which is told on others; one of a moment is over."""
    severity, subject = SYSTEM_CONDITIONS[condition][0], host or channel
    key = f"{condition}|{subject}" if subject else condition
    if channel:
        facts, channels = {"channel": channel}, policies.recipients.without(channel, severity)
    else:
        channels, _ = policies.recipients.channels((), severity)
    book.sight(
        Sighting(
            key=key, condition=condition, at=at, host=host, severity=severity, why=why, channels=channels, facts=facts,
            tells_end=condition not in ONE_MOMENT,
        )
    )  # fmt: skip
    if condition in ONE_MOMENT:
        book.close(key, at=at)


def fold_host(book: Book, event: EventView, policies: Policies) -> None:
    """Take in an event of a host."""
    at, host, data = moment(event), event.host, event.data
    match event.kind:
        case "host.unreachable":
            seconds = float(data.get("silent_seconds") or 0)
            why = f"silent for {time_span(seconds)}; whether its runs go on is unknown"
            sight_system(book, "host_unreachable", policies, at=at, why=why, host=host)
            book.watched.host_left(host, at=at, check_at=at + policies.detached_after)
        case "host.attached" | "host.reattached":
            book.watched.host_back(host)
            for condition in ("host_unreachable", "host_detached"):
                book.close(f"{condition}|{host}", at=at)
        case "host.ended":  # known for certain, so it is no longer silent, and its steps have failed or are tried again
            book.close(f"host_unreachable|{host}", at=at)
            book.watched.host_left(host, at=at, check_at=at + policies.detached_after)
        case "host.detached":
            book.watched.host_left(host, at=at, check_at=at + policies.detached_after)
        case "host.forgotten":
            book.watched.host_back(host)
            for condition in ("host_unreachable", "host_detached", "jobs_disabled", "load_refused"):
                book.close(f"{condition}|{host}", at=at)
        case "host.manifest":
            disabled = [str(each) for each in data.get("disabled_job_ids") or ()]
            book.close(f"load_refused|{host}", at=at)
            if disabled:
                why = f"a load disabled {counted(len(disabled), 'job')}: {', '.join(disabled[:10])}"
                sight_system(book, "jobs_disabled", policies, at=at, why=why, host=host, jobs=disabled[:50])
            else:
                book.close(f"jobs_disabled|{host}", at=at)
        case "host.reloaded":
            book.close(f"load_refused|{host}", at=at)
        case "host.reload_refused":
            sight_system(book, "load_refused", policies, at=at, why=_refusal(event), host=host)


def fold_kernel(book: Book, event: EventView, policies: Policies, *, store: str) -> None:
    """Take in an event of the kernel: on a database that kernels share, another one has taken the lead.

    :param store: kind of store; only one kernel can use an SQLite file, and its absence is told as silence
    """
    if event.kind != "kernel.leading":
        return
    at, end_us = moment(event), event.data.get("previous_end_us")
    for host in {job.host for job in policies.jobs}:  # nobody saw one leave that does not come back to this kernel
        book.watched.host_left(host, at=at, check_at=at + policies.detached_after)
    if store == "postgresql" and end_us:
        gap = max(at - float(end_us) / 1_000_000, 0.0)
        why = (
            f"a kernel of version {event.data.get('version')} has led since then; nobody led for up to {time_span(gap)}"
        )
        sight_system(book, "leader_changed", policies, at=at, why=why, epoch=event.data.get("epoch"))


def _refusal(event: EventView) -> str:
    problems = event.data.get("problems")
    message = str(event.data.get("message") or "the load was refused").partition("\n")[0]
    if not problems:
        return message
    first = Problem.from_json(problems[0])
    place = f"{first.place}: " if first.place else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}{first.message}{more}"
