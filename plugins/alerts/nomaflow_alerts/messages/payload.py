"""The JSON of webhooks, version 1 (docs/alerts.md)."""

from __future__ import annotations

from typing import Any

from nomaflow.client.values import from_micros, iso
from nomaflow_alerts.ledger import Incident
from nomaflow_alerts.messages.harmless_text import Masker, plain
from nomaflow_alerts.messages.wording import title
from nomaflow_alerts.messages.writing import Subject

VERSION = 1
_LISTED = 50


def payload(about: Subject, masker: Masker) -> dict[str, Any]:
    """Return what a webhook tells of a message, without id, subject and text. At most 50 incidents are listed."""
    severities = {each.severity for each in about.incidents}
    return {
        "version": VERSION,
        "type": f"incidents.{about.kind}",
        "severity": next((each for each in ("critical", "warning", "info") if each in severities), "info"),
        "total": len(about.incidents),
        "incidents": [_incident(each, about, masker) for each in about.incidents[:_LISTED]],
    }


def _incident(incident: Incident, about: Subject, masker: Masker) -> dict[str, Any]:
    behind = about.behind.get(incident.id, ())
    return {
        "id": incident.id,
        "condition": incident.condition,
        "state": "open" if incident.is_open else "closed",
        "severity": incident.severity,
        "title": plain(title(incident)),
        "why": masker.masked(plain(incident.why, most=600)),
        "job_id": incident.job_id or None,
        "preset": incident.preset or None,
        "host": incident.host or None,
        "run_id": incident.run_id or None,
        "count": incident.count,
        "opened_at": _iso(incident.opened_at),
        "last_at": _iso(incident.last_at),
        "closed_at": None if incident.closed_at is None else _iso(incident.closed_at),
        "behind": len(behind),
    }


def _iso(at: float) -> str:
    return iso(from_micros(round(at * 1_000_000))) or ""
