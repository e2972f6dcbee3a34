"""Open incidents among what needs a person: those that the pages do not show anyway, and a way to mute the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from nomaflow.client.values.alerts import IncidentView
from nomaflow_console.views.needs_you import job_address
from nomaflow_console.views.sentences import line
from nomaflow_console.views.situation import Act, Need

_SHOWN = ("late", "rows", "undeliverable", "store_unwritable")
"""Conditions that neither runs nor hosts show. The others are in the list already, with more to say."""


def with_incidents(needs: Sequence[Need], incidents: Sequence[IncidentView]) -> list[Need]:
    """Return what needs a person with the open incidents of the alerts: each can be muted where it is listed."""
    by_subject = {_subject(each): each for each in incidents}
    known = [_mutable(need, [by_subject[each] for each in _subjects(need) if each in by_subject]) for need in needs]
    return [*known, *(_need(each) for each in incidents if each.condition in _SHOWN)]


def _subjects(need: Need) -> Sequence[str]:
    return need.jobs or (need.subject,)


def _subject(incident: IncidentView) -> str:
    return incident.job_id or (f"host {incident.host}" if incident.host else "the kernel")


def _mutable(need: Need, incidents: Sequence[IncidentView]) -> Need:
    """Return it with the way to mute the incidents that are not muted, or else with the mute; many by their host."""
    mutes = [each.mute for each in incidents if each.mute is not None]
    if len(mutes) < len(incidents):
        target = {"host": need.host} if need.jobs else _target(incidents[0])
        return replace(need, acts=(*need.acts, _mute(target)))
    return replace(need, mute=mutes[0]) if mutes else need


def _need(incident: IncidentView) -> Need:
    text = incident.title.removeprefix(f"{incident.job_id} ")
    why = f": {line(incident.why)}" if incident.why else ""
    href = job_address(incident.job_id) if incident.job_id else "/kernel"
    need = Need(
        key=f"incident.{incident.incident_id}", css="warning", sign="▲", subject=_subject(incident), href=href,
        text=f"{text}{why}", at=incident.opened_at, counts=True,
    )  # fmt: skip
    return _mutable(need, [incident])


def _target(incident: IncidentView) -> dict[str, str]:
    return {"job": incident.job_id} if incident.job_id else {"host": incident.host} if incident.host else {}


def _mute(target: Mapping[str, str]) -> Act:
    return Act(kind="link", label="Mute…", target=f"/alerts/mute?{urlencode(target)}", icon="clock")
