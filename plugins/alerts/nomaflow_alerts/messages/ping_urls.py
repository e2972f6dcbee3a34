"""Pings of a job's own check, at healthchecks.io or the like."""

from __future__ import annotations

from nomaflow.client.values import EventView
from nomaflow_alerts.ledger import Message
from nomaflow_project.jobs.alert_policy import server_of

PINGS = "ping:"
"""Pings are in the outbox under this and the name of the server, so that one that hangs holds up no other."""

_SUFFIXES = {"run": "/start", "complete": "", "fail": "/fail"}


def ping(state: str, url: str, event: EventView, *, now: float) -> Message:
    """Return the ping of a run. The channel adds the end of the log to that of a failure.

    :param state: ``run``, ``complete`` or ``fail``
    """
    target = url.replace("{state}", state) if "{state}" in url else url.rstrip("/") + _SUFFIXES[state]
    return Message(
        channel=PINGS + server_of(target),
        kind="ping",
        subject=f"{event.job_id}: {state}",
        body=str(event.data.get("error") or "")[:2000],
        created_at=now,
        next_at=now,
        data={"url": target, "run_id": event.run_id, "state": state, "check": url},
    )
