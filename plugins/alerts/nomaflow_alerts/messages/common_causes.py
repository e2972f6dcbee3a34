"""Causes: an incident that another open one explains is told with that one, and not by itself."""

from __future__ import annotations

from nomaflow_alerts.ledger import Book, Incident

_OF_HOSTS = ("host_unreachable", "host_detached")


def put_behind_causes(book: Book) -> None:
    """Put incidents that nobody was told of behind the open one that is their cause."""
    silent = next(iter(book.open_incidents("kernel_silent")), None)
    for notice in book.notices():
        incident = notice.incident
        of_kernel = not (incident.job_id or incident.host)
        if incident.told_at is not None or of_kernel or not incident.is_open:
            continue
        cause = silent or _cause(book, incident)
        if cause is not None and cause.id != incident.id:
            book.put_behind(incident, cause)


def _cause(book: Book, incident: Incident) -> Incident | None:
    """Return the open incident that is the cause of another one: that of its host, or of the job that it called."""
    if incident.job_id and incident.host:
        for condition in _OF_HOSTS:
            found = book.open_incident(f"{condition}|{incident.host}")
            if found is not None:
                return found
    child = incident.facts.get("child_job")
    if child:
        return next(iter(book.open_incidents("failed", job_id=str(child))), None)
    if incident.condition == "host_detached":
        return book.open_incident(f"host_unreachable|{incident.host}")
    return None
