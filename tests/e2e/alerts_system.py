"""A kernel, a host and the alerts of one project, with receivers of our own. Clocks are short."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from project_system import ProjectSystem

from nomaflow.client.alerts import alerts_address_file
from nomaflow.client.values.alerts import IncidentsView
from nomaflow_api.v1.alerts_service_pb2 import ListIncidentsRequest
from nomaflow_api.v1.alerts_service_pb2_grpc import AlertsServiceStub
from nomaflow_api.v1.message_codec import decode
from real_system import CLOCKS, PATIENCE, Running, eventually, launch, nothing_left
from receivers import WebReceiver

__all__ = ["SECRET", "AlertsSystem", "open_alerts"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

SETTINGS = """
[host]
name = "team"

[alerts]
group_wait_seconds = {group_wait}
group_seconds = {group}
retry_seconds = 0.2
channel_seconds = 2
kernel_silent_seconds = 2
heartbeat_seconds = 0.5
{more}
channels.hook = {{ type = "webhook", url = "{url}/hook", secret = "{secret}" }}
"""


@dataclass(kw_only=True)
class AlertsSystem(ProjectSystem):
    """The processes of one project, and what its channel received."""

    kernel_flags: Sequence[str] = CLOCKS
    web: WebReceiver = field(default_factory=WebReceiver)

    def settings(self, more: str = "", *, group_wait: float = 0.3, group: float = 0.3) -> None:
        """Write nomaflow.toml.

        :param more: further keys of ``[alerts]``
        """
        text = SETTINGS.format(more=more, url=self.web.url, secret=SECRET, group_wait=group_wait, group=group)
        (self.project / "nomaflow.toml").write_text(text)

    def start_alerts(self) -> Running:
        """Start the alerts and wait until they have read what there is."""
        part = self.launch_alerts()
        eventually(lambda: part.ended or self._caught_up())
        assert not part.ended, part.log
        return part

    def launch_alerts(self) -> Running:
        """Start the alerts, and wait for nothing."""
        self.parts["alerts"] = launch("nomaflow_alerts", self.project, log_file=self.root / "alerts.log")
        return self.parts["alerts"]

    def _caught_up(self) -> bool:
        _, served, life = self.log("alerts").rpartition("alerts are served")
        # An attempt to read that fails on a busy machine is told, and followed by another.
        read, reading = life.rfind("the history is read"), life.rfind("reading the history")
        if (
            served and read == reading == -1
        ):  # it goes on from where the last one was and says nothing, or has yet to begin
            return bool(self.ask("alerts", "open")["alerts"]["last_event_seq"])
        return bool(served) and read > reading

    def messages(self, channel: str = "") -> list[dict[str, Any]]:
        """Return the outgoing messages, oldest first."""
        options = ["--channel", channel] if channel else []
        return self.ask("alerts", "messages", "--limit", "1000", *options)["messages"][::-1]

    def incidents(self) -> list[dict[str, Any]]:
        """Return the open incidents. Tests ask again and again: a command would cost ten times as much."""
        with grpc.insecure_channel(alerts_address_file(self.project).read_text().strip()) as channel:
            reply = AlertsServiceStub(channel).ListIncidents(ListIncidentsRequest(), timeout=PATIENCE)
        return decode(IncidentsView, reply).to_json()["incidents"]

    def received(self, count: int) -> list[Any]:
        """Wait until so many messages were taken, and return their bodies."""
        eventually(lambda: len(self.web.taken()) >= count)
        return [json.loads(post.body) for post in self.web.taken()]


@contextmanager
def open_alerts(folder: Path) -> Iterator[AlertsSystem]:
    """Yield a system without processes; stop what the test has started, and leave nothing behind."""
    with WebReceiver() as web:
        system = AlertsSystem(project=folder, web=web, forks_templates=True)
        try:
            yield system
        finally:
            system.close()
        eventually(lambda: nothing_left(folder))
