"""The channels of ``[alerts]``, made when the first message is for them."""

from __future__ import annotations

from nomaflow_alerts.channels.channel import Channel
from nomaflow_alerts.channels.http import Web
from nomaflow_alerts.ledger import Message
from nomaflow_alerts.messages.details import KernelDetails
from nomaflow_alerts.messages.grouping_and_digests import Composer
from nomaflow_alerts.messages.harmless_text import Masker, cut, plain
from nomaflow_alerts.messages.ping_urls import PINGS
from nomaflow_alerts.messages.writing import log_lines
from nomaflow_alerts.rules.recipients import channel_of, mail_addresses
from nomaflow_project.models.alerts_section import AlertsSection


class Registry:
    """Returns channels by name."""

    def __init__(self, alerts: AlertsSection, *, composer: Composer, details: KernelDetails) -> None:
        self._alerts, self._details = alerts, details
        self._templates, self._masker = composer.templates, composer.masker
        self._made: dict[str, Channel] = {}

    def channel(self, name: str) -> Channel:
        """Return a channel.

        :raises KeyError: if the settings do not have it
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Channel:
        seconds = self._alerts.channel_seconds
        if name.startswith(PINGS):
            return _PingChannel(seconds=seconds, details=self._details, masker=self._masker)
        entry = self._alerts.channels[channel_of(name)]
        if entry.type == "email":
            from nomaflow_alerts.channels.mail import MailChannel

            return MailChannel(entry, to=mail_addresses(name, entry), seconds=seconds)
        if entry.type == "webhook":
            from nomaflow_alerts.channels.webhook import WebhookChannel

            return WebhookChannel(entry, templates=self._templates, seconds=seconds)
        from nomaflow_alerts.channels.chat import ChatChannel

        return ChatChannel(entry.url, seconds=seconds, masker=self._masker)


class _PingChannel:
    """Requests the URL that a ping's message names."""

    def __init__(self, *, seconds: float, details: KernelDetails, masker: Masker) -> None:
        self._seconds, self._details, self._masker = seconds, details, masker
        self._web = Web()

    async def send(self, message: Message) -> None:
        """Send a ping; one of a failure has the end of the run's log.

        :raises NotSent: if it was not taken
        """
        said = await self._details.last_lines(str(message.data["run_id"])) if message.data["state"] == "fail" else ()
        body = self._masker.masked(cut("\n".join([plain(message.body, most=2000), *log_lines(said)]).strip()))
        head = {"content-type": "text/plain; charset=utf-8"}
        await self._web.post(str(message.data["url"]), body.encode("utf-8", "replace"), head, seconds=self._seconds)
