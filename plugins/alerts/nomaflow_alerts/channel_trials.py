"""Test messages: real ones, marked, of an incident that has not happened."""

from __future__ import annotations

from nomaflow_alerts.ledger import Incident, Message
from nomaflow_alerts.messages.grouping_and_digests import Composer
from nomaflow_alerts.messages.harmless_text import plain
from nomaflow_alerts.messages.payload import payload
from nomaflow_alerts.messages.writing import Subject
from nomaflow_alerts.rules.policies import Policies
from nomaflow_api.v1.alerts_service_pb2 import TestChannelsRequest

_MARK = "[test]"


def test_message(
    composer: Composer, policies: Policies, request: TestChannelsRequest, *, channel: str, now: float
) -> Message:
    """Return a message of an incident that has not happened."""
    job_id = request.job_id
    incident = Incident(
        id=0, key="test", condition=request.condition or ("failed" if job_id else "test"), job_id=job_id, preset="",
        host=policies.host_of(job_id), run_id="", severity=policies.rules(job_id).severity, count=1, opened_at=now,
        why=f"{request.by or 'somebody'} tests the channel {channel!r}; nothing has happened",
        last_at=now, closed_at=None, told_at=None, told_count=0, behind=0, channels=(channel,), facts={},
        tells_end=True,
    )  # fmt: skip
    about = Subject(kind="opened", incidents=[incident], now=now, console_url=composer.console_url)
    subject, body = composer.texts(about)
    head = f"{_MARK} {subject}" if job_id else f"{_MARK} Nomaflow reaches you by {plain(channel)}"
    return Message(
        channel=channel, kind="test", subject=head, created_at=now, next_at=now, body=f"This is a test.\n{body}",
        data={"payload": {**payload(about, composer.masker), "type": "test"}},
    )  # fmt: skip
