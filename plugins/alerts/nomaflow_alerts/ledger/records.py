"""Records of the file. Times are seconds since the epoch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One occurrence of a condition: it opens an incident, or counts in the open one.

    :param key: names the incident among the open ones
    :param at: when it happened
    :param count: how many occurrences this is
    :param facts: what messages tell beside the other fields
    :param tells_end: whether the end of the incident is told
    """

    key: str
    condition: str
    at: float
    job_id: str = ""
    preset: str = ""
    host: str = ""
    run_id: str = ""
    severity: str = "warning"
    why: str = ""
    count: int = 1
    channels: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    tells_end: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """A condition that opened, counts, and closes.

    :param closed_at: None while it is open
    :param told_at: when it was last part of a message; None if it never was
    :param told_count: its count in that message
    :param behind: the incident in whose messages it is counted; 0 for none
    """

    id: int
    key: str
    condition: str
    job_id: str
    preset: str
    host: str
    run_id: str
    severity: str
    why: str
    count: int
    opened_at: float
    last_at: float
    closed_at: float | None
    told_at: float | None
    told_count: int
    behind: int
    channels: tuple[str, ...]
    facts: Mapping[str, Any]
    tells_end: bool

    @property
    def is_open(self) -> bool:
        """True until it is over."""
        return self.closed_at is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something that an incident has to say on a channel: ``opened``, ``grew``, ``closed``, ``reminder`` or ``found``.

    What a quiet time leaves is ``found``: all of it is one message of the channel.

    :param at: not before this time
    """

    incident: Incident
    channel: str
    kind: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """An outgoing message.

    :param id: a new one if none is given; a repeat keeps it
    :param kind: opened, closed, reminder, digest, ping or test
    :param data: what a channel needs beside the texts
    :param state: pending, sent or undeliverable
    :param next_at: when it is sent, or tried again
    """

    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    channel: str
    kind: str
    subject: str
    body: str
    created_at: float
    next_at: float
    incident_ids: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0
    state: str = "pending"
    error: str = ""
    done_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mute:
    """Keeps back what concerns a job, a host and its jobs, or (both empty) everything."""

    job_id: str
    host: str
    by: str
    why: str
    since: float
    until: float

    def covers(self, incident: Incident) -> bool:
        """Return whether it keeps an incident back."""
        if self.job_id:
            return incident.job_id == self.job_id
        return not self.host or incident.host == self.host


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRun:
    """A run that is QUEUED or RUNNING.

    :param started_at: None while it waits
    :param check_at: when it has waited or run for too long; None for never
    """

    run_id: str
    job_id: str
    host: str
    queued_at: float
    started_at: float | None
    check_at: float | None
