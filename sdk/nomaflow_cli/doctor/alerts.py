"""Findings about the alerts: their process, their channels, and who would notice its end."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nomaflow.client.errors import ClientError, ReplyTimeout
from nomaflow.client.values.alerts import AlertChannelView, AlertsView
from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.formatting import age, count
from nomaflow_cli.kernel_access import quiet_grpc
from nomaflow_cli.project import wants_alerts

_LONG = timedelta(hours=24)


def examine_alerts(project: Path) -> Iterator[Finding]:
    """Yield the findings about a project's alerts; none if nomaflow.toml says nothing of them."""
    if not wants_alerts(project):
        return
    with quiet_grpc():
        from nomaflow.client.alerts import AlertsClient

    async def ask() -> AlertsView:
        async with AlertsClient(project) as client:
            return await client.get_alerts()

    try:
        view = asyncio.run(ask())
    except ReplyTimeout as error:
        yield problem("alerts.process", f"{error.message}: nobody is told of problems", error.fix)
        return
    except ClientError:
        told = "nomaflow.toml has [alerts], but no alerts process runs: nobody is told of problems"
        service = "as a service: nomaflow service install, then systemctl start nomaflow-alerts"
        fix = f"{service}; else: nomaflow up {shlex.quote(str(project))}"
        yield problem("alerts.process", told, fix)
        return
    yield from alerts_findings(view)


def alerts_findings(view: AlertsView) -> Iterator[Finding]:
    """Yield the findings about alerts that are served."""
    now = datetime.now(UTC)
    heard = age(view.kernel_heard_at, now=now) or "never"
    text = f"alerts are served by pid {view.pid}, {count(view.open, 'incident')} open, the kernel heard {heard}"
    yield fine("alerts.process", text)
    for channel in view.channels:
        yield _channel(channel, now)
    if not view.heartbeat:
        told = "no heartbeat_url: if this machine or the alerts process dies, nobody is told"
        yield warning("alerts.heartbeat", told, "add the URL of a service elsewhere, as docs/alerts.md shows")
    elif view.heartbeat_withheld:
        told = f"the heartbeat is withheld: {view.heartbeat_withheld}"
        yield problem(
            "alerts.heartbeat", told, "correct that cause; the service that misses the heartbeat raises an alarm"
        )
    else:
        sent = age(view.heartbeat_at, now=now)
        yield fine("alerts.heartbeat", f"the heartbeat goes out{f', the last one {sent}' if sent else ''}")


def _channel(channel: AlertChannelView, now: datetime) -> Finding:
    name, test = f"channel {channel.name!r}", f"nomaflow alerts test {shlex.quote(channel.name)}"
    failed = channel.failed_at
    broken = failed is not None and (channel.sent_at is None or channel.sent_at < failed)
    if channel.undeliverable or (broken and channel.pending and now - (channel.sent_at or now) > _LONG):
        told = f"{name} has accepted no message for a day: {channel.error}; {count(channel.pending, 'message')} waiting"
        return problem("alerts.channels", told, f"correct it in [alerts.channels], then: {test}")
    if broken:
        told = f"{name} did not accept the last message, {age(failed, now=now)}: {channel.error}"
        return warning("alerts.channels", told, f"it is tried again; to try now: {test}")
    if channel.sent_at is None:
        return fine("alerts.channels", f"{name} has not been used yet; {test} tries it")
    return fine("alerts.channels", f"{name} accepted a message {age(channel.sent_at, now=now)}")
