"""Open incidents among what needs a person: those that the pages do not show anyway, and a way to mute the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlencode

from nomaflow.client.values.alerts import IncidentView
from nomaflow_console.views.needs_you import Act, Need, job_address
from nomaflow_console.views.sentences import line

__all__ = ["with_incidents"]

_SHOWN = ("late", "rows", "undeliverable", "store_unwritable")
"""Conditions that neither runs nor hosts show. The others are in the list already, with more to say."""


def with_incidents(needs: Sequence[Need], incidents: Sequence[IncidentView]) -> list[Need]:
    """Return what needs a person with the open incidents of the alerts: each can be muted where it is listed."""
    by_subject = {_subject(each): each for each in incidents}
    known = [_mutable(need, by_subject[need.subject]) if need.subject in by_subject else need for need in needs]
    return [*known, *(_need(each) for each in incidents if each.condition in _SHOWN)]


def _subject(incident: IncidentView) -> str:
    return incident.job_id or (f"host {incident.host}" if incident.host else "the kernel")


def _mutable(need: Need, incident: IncidentView) -> Need:
    if incident.mute is None:
        return replace(need, acts=(*need.acts, _mute(incident)))
    return replace(need, text=f"{need.text} {_muted(incident)}")


def _need(incident: IncidentView) -> Need:
    text = incident.title.removeprefix(f"{incident.job_id} ")
    why = f": {line(incident.why)}" if incident.why else ""
    href = job_address(incident.job_id) if incident.job_id else "/kernel"
    return Need(
        key=f"incident.{incident.incident_id}", css="warning", sign="▲", subject=_subject(incident), href=href,
        text=f"{text}{why} {_muted(incident)}".strip(), at=incident.opened_at, counts=True,
        acts=() if incident.mute is not None else (_mute(incident),),
    )  # fmt: skip


def _mute(incident: IncidentView) -> Act:
    target = {"job": incident.job_id} if incident.job_id else {"host": incident.host} if incident.host else {}
    return Act(kind="link", label="Mute…", target=f"/alerts/mute?{urlencode(target)}", icon="clock")


def _muted(incident: IncidentView) -> str:
    mute = incident.mute
    if mute is None:
        return ""
    until = f" until {mute.until:%Y-%m-%d %H:%M} UTC" if mute.until else ""
    return f"(muted{until} by {line(mute.by)}: {line(mute.why)})"
