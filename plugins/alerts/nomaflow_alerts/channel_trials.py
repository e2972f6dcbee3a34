"""Test messages: real ones, marked, of an incident that has not happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nomaflow_alerts.ledger import Incident, Message
from nomaflow_alerts.messages.harmless_text import Masker, plain
from nomaflow_alerts.messages.payload import payload
from nomaflow_alerts.messages.templates import Templates
from nomaflow_alerts.messages.writing import Subject, write
from nomaflow_alerts.rules.policies import Policies
from nomaflow_project.models.alerts_section import AlertsSection

_MARK = "[test]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The parts that a test message is made with."""

    alerts: AlertsSection
    policies: Policies
    templates: Templates
    masker: Masker


def test_message(trial: Trial, *, job_id: str, condition: str, by: str) -> Callable[[str, float], Message]:
    """Return a function from a channel and the time to a message of an incident that has not happened."""

    def make(channel: str, now: float) -> Message:
        rules = trial.policies.rules(job_id)
        incident = Incident(
            id=0, key="test", condition=condition or ("failed" if job_id else "test"), job_id=job_id, preset="",
            host=trial.policies.host_of(job_id), run_id="", severity=rules.severity, count=1, opened_at=now,
            why=f"{by or 'somebody'} tests the channel {channel!r}; nothing has happened",
            last_at=now, closed_at=None, told_at=None, told_count=0, behind=0, channels=(channel,), facts={},
            tells_end=True,
        )  # fmt: skip
        about = Subject(kind="opened", incidents=[incident], now=now, console_url=trial.alerts.console_url or "")
        subject, body = trial.templates.texts(about, *write(about))
        head = f"{_MARK} {subject}" if job_id else f"{_MARK} Nomaflow reaches you by {plain(channel)}"
        told = payload(about, trial.masker)
        return Message(
            channel=channel, kind="test", subject=head, created_at=now, next_at=now,
            body=trial.masker.masked(f"This is a test.\n{body}"), data={"payload": {**told, "type": "test"}},
        )  # fmt: skip

    return make
