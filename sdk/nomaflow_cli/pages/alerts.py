"""Incidents, mutes, messages and tests of the alerts, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from nomaflow.client.values.alerts import (
    AlertMessageView,
    AlertsView,
    IncidentsView,
    IncidentView,
    MuteView,
    TestedChannelView,
)
from nomaflow_api.time_spans import time_span
from nomaflow_cli.formatting import age, amount, count, moment, subject
from nomaflow_cli.pages.cells import Column, Rows
from nomaflow_telemetry.visible_text import printable

_STYLES = {"critical": "red", "warning": "yellow", "info": "cyan"}
_STATES = {"sent": ("✔ sent", "green"), "pending": ("◔ waiting", "yellow"), "undeliverable": ("✘ given up", "red")}


def incidents_page(found: IncidentsView, alerts: AlertsView, *, job: str = "", host: str = "") -> RenderableType:
    """Return incidents, mutes, and what is wrong with channels.

    :param job: the job that the incidents are of, empty for any; as is the host
    """
    rows: list[RenderableType] = []
    if found.incidents:
        rows.append(Rows(_INCIDENTS, found.incidents))
    else:
        of = "".join(f" for {noun} {printable(name)!r}" for noun, name in (("job", job), ("host", host)) if name)
        rows.append(Text(f"✔ nothing is open{of}", style="green"))
    rows += [Text(f"  muted: {mute_text(mute)}", style="dim") for mute in alerts.mutes]
    for channel in alerts.channels:
        if channel.undeliverable or channel.pending:
            waiting = f", {count(channel.pending, 'message')} waiting" if channel.pending else ""
            text = f"✘ channel {printable(channel.name)}: {printable(channel.error or 'not reached yet')}{waiting}"
            rows.append(Text(text, style="red" if channel.undeliverable else "yellow"))
    if alerts.heartbeat_withheld:
        rows.append(Text(f"✘ the heartbeat is withheld: {printable(alerts.heartbeat_withheld)}", style="red"))
    return Group(*rows)


def mute_text(mute: MuteView) -> str:
    """Return a mute in one line."""
    return printable(f"{subject(mute.job_id, mute.host)} until {moment(mute.until)}, by {mute.by}: {mute.why}")


def messages_page(messages: Sequence[AlertMessageView], *, filtered: bool) -> RenderableType:
    """Return messages, newest first."""
    if not messages:
        return Text("no messages match" if filtered else "no messages yet", style="dim")
    return Rows(_MESSAGES, messages)


def tested_page(results: Sequence[TestedChannelView]) -> RenderableType:
    """Return what each channel answered to a test."""
    lines = []
    for each in results:
        if each.sent:
            lines.append(Text(f"✔ {printable(each.channel)} accepted it in {time_span(each.seconds)}", style="green"))
        else:
            lines.append(Text(f"✘ {printable(each.channel)}: {printable(each.error)}", style="red"))
    return Group(*lines)


def _title(incident: IncidentView) -> Text:
    text = Text(printable(incident.title), style=_STYLES.get(incident.severity, ""))
    if incident.why:
        text.append(f"\n  {printable(incident.why)}", style="dim")
    if incident.mute is not None:
        text.append(f"\n  muted: {mute_text(incident.mute)}", style="dim")
    return text


def _state(incident: IncidentView) -> str:
    if incident.closed_at is not None:
        return f"over {age(incident.closed_at)}"
    return "behind" if incident.behind else "muted" if incident.mute else "open"


_INCIDENTS: Sequence[Column[IncidentView]] = (
    Column("id", lambda one: str(one.incident_id), right=True),
    Column("incident", _title, loose=True, min_width=30),
    Column("count", lambda one: amount(one.count), right=True),
    Column("since", lambda one: age(one.opened_at)),
    Column("state", _state),
    Column("message", lambda one: age(one.told_at) or "none yet", from_width=90),
    Column("on", lambda one: printable(", ".join(one.channels)), from_width=100, loose=True),
    Column("run", lambda one: printable(one.run_id or ""), from_width=120),
)


def _message_state(message: AlertMessageView) -> Text:
    text, style = _STATES.get(message.state, (message.state, ""))
    shown = Text(printable(text), style=style)
    if message.error:
        shown.append(f"\n  {printable(message.error)}", style="dim")
    return shown


_MESSAGES: Sequence[Column[AlertMessageView]] = (
    Column("made", lambda one: moment(one.created_at)),
    Column("channel", lambda one: printable(one.channel)),
    Column("kind", lambda one: printable(one.kind)),
    Column("subject", lambda one: Text(printable(one.subject)), loose=True, min_width=20),
    Column("state", _message_state, loose=True),
    Column("tries", lambda one: amount(one.tries), right=True, from_width=90),
)
