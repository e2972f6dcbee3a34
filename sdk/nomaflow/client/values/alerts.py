"""Incidents, mutes, messages and channels of the alerts, as a client sees them."""

from __future__ import annotations

from datetime import datetime

from nomaflow.client.values.catalogue import PauseView
from nomaflow.client.values.shapes import NullableCount, NullableText, Shaped

__all__ = [
    "AlertChannelView",
    "AlertMessageView",
    "AlertsView",
    "IncidentView",
    "IncidentsView",
    "MuteView",
    "TestedChannelView",
]


class MuteView(PauseView, frozen=True, kw_only=True):
    """A mute of a job, of a host and its jobs, or (both empty) of everything."""


class IncidentView(Shaped, frozen=True, kw_only=True):
    """A condition that opened and may be over; ``condition`` is one of docs/alerts.md.

    :param title: one line for a person, such as ``nightly failed``
    :param count: how often it has happened since it opened
    :param closed_at: None while it is open
    :param told_at: when a message about it was last made; None if none was
    :param behind: the incident in whose messages it is counted, 0 for none
    :param mute: what keeps it back; None if nothing does
    """

    incident_id: int
    condition: str
    job_id: NullableText = ""
    preset: NullableText = ""
    host: NullableText = ""
    severity: str = "warning"
    title: str = ""
    why: str = ""
    run_id: NullableText = ""
    count: int = 1
    opened_at: datetime | None = None
    last_at: datetime | None = None
    closed_at: datetime | None = None
    told_at: datetime | None = None
    channels: tuple[str, ...] = ()
    behind: NullableCount = 0
    mute: MuteView | None = None


class IncidentsView(Shaped, frozen=True, kw_only=True):
    """Incidents, open ones first; ``open`` counts all open ones, listed or not."""

    incidents: tuple[IncidentView, ...] = ()
    open: int = 0


class AlertChannelView(Shaped, frozen=True, kw_only=True):
    """The state of one channel.

    :param sent_at: when it last took a message
    :param failed_at: when it last refused one or did not answer, for the reason in ``error``
    :param undeliverable: True if its last message was given up
    """

    name: str
    type: str
    sent_at: datetime | None = None
    failed_at: datetime | None = None
    error: NullableText = ""
    pending: int = 0
    undeliverable: bool = False


class AlertsView(Shaped, frozen=True, kw_only=True):
    """The state of the alerts' process.

    :param kernel_heard_at: when the kernel last answered or sent something
    :param open: number of open incidents
    :param heartbeat: True if a ``heartbeat_url`` is set
    :param heartbeat_withheld: why it does not go out now; empty if it does
    """

    version: str
    pid: int
    started_at: datetime | None = None
    last_event_seq: int = 0
    kernel_heard_at: datetime | None = None
    channels: tuple[AlertChannelView, ...] = ()
    mutes: tuple[MuteView, ...] = ()
    open: int = 0
    heartbeat: bool = False
    heartbeat_at: datetime | None = None
    heartbeat_withheld: NullableText = ""


class AlertMessageView(Shaped, frozen=True, kw_only=True):
    """One outgoing message; ``state`` is ``pending``, ``sent`` or ``undeliverable``."""

    message_id: str
    channel: str
    kind: str
    subject: str
    state: str
    tries: int = 0
    created_at: datetime | None = None
    next_at: datetime | None = None
    error: NullableText = ""
    incident_ids: tuple[int, ...] = ()
    body: str = ""


class TestedChannelView(Shaped, frozen=True, kw_only=True):
    """The answer of one channel to a test; ``error`` is empty if it took the message."""

    __test__ = False

    channel: str
    sent: bool
    error: NullableText = ""
    seconds: float = 0.0
    message_id: str = ""
