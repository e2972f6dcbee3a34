"""The template for PagerDuty of docs/alerts.md, with a pager that keeps alerts by their keys."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from alerts_rig import Rig, section

from nomaflow_alerts.channels.webhook import WebhookChannel
from nomaflow_alerts.ledger import Message

_PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"


class Pager:
    """Keeps an alert for each key, from its trigger to its end."""

    def __init__(self, rig: Rig) -> None:
        self._channel = WebhookChannel(rig.alerts.channels["pager"], templates=rig.composer.templates, seconds=1)
        self.alerts: dict[str, Any] = {}

    def take(self, messages: list[Message]) -> None:
        """Take messages, each as the body that the channel would post."""
        for message in messages:
            event = json.loads(self._channel._body(message))
            if event["event_action"] == "resolve":
                self.alerts.pop(event["dedup_key"], None)
            else:
                self.alerts[event["dedup_key"]] = event["payload"]


def paged(most: int) -> tuple[Rig, Pager]:
    """Return rules with the page's channel, which takes so many messages an hour, and its pager."""
    _, _, text = _PAGE.read_text().partition("### PagerDuty")
    given = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])["alerts"]
    pager = {name: value for name, value in given["channels"]["pager"].items() if name != "severities"}
    rig = Rig(alerts=section(channels={"pager": pager}, templates=given["templates"], max_messages_per_hour=most))
    return rig, Pager(rig)


def test_an_alert_opens_and_ends_with_its_incident() -> None:
    """Each incident has one of its own."""
    rig, pager = paged(60)
    for job in ("one", "two"):
        rig.ends("FAILED", job)
    pager.take(rig.wait(60))
    assert sorted(each["summary"] for each in pager.alerts.values()) == ["one failed", "two failed"]
    rig.ends("SUCCEEDED", "one")
    pager.take(rig.wait(400))
    assert [each["summary"] for each in pager.alerts.values()] == ["two failed"]


def test_alerts_end_beyond_the_rate_too() -> None:
    """They would stay open, and a digest of ends would page somebody anew."""
    rig, pager = paged(2)
    for job in ("one", "two"):
        rig.ends("FAILED", job)
    pager.take(rig.wait(60))
    assert len(pager.alerts) == 2
    for job in ("one", "two"):
        rig.ends("SUCCEEDED", job)
    pager.take(rig.wait(1200))
    assert pager.alerts == {}


def test_the_alert_of_a_digest_does_not_end_with_one_of_its_incidents() -> None:
    """Else the others are open, and nobody is paged for them."""
    rig, pager = paged(2)
    for number in range(9):
        rig.ends("FAILED", f"job{number}")
    pager.take(rig.wait(600))
    assert len(pager.alerts) == 1
    rig.ends("SUCCEEDED", "job0")
    pager.take(rig.wait(7200))
    assert [each["summary"] for each in pager.alerts.values()] == ["9 jobs of team failed"]
