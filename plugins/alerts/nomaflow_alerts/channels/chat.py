"""Chats and pagers, by apprise, which is loaded with the first message."""

from __future__ import annotations

import logging
from typing import Self

from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.threads import Threads
from nomaflow_alerts.ledger import Message
from nomaflow_alerts.messages.harmless_text import Masker

_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


class ChatChannel:
    """Sends by an apprise URL.

    :param masker: apprise's log, which says what was wrong, may quote the URL
    """

    def __init__(self, url: str, *, seconds: float, masker: Masker) -> None:
        self._url, self._seconds, self._masker = url, seconds, masker
        self._threads = Threads("apprise")

    async def send(self, message: Message) -> None:
        """Send a message.

        :raises NotSent: if it was not taken
        """
        await self._threads.run(lambda: self._send(message), seconds=self._seconds)

    def _send(self, message: Message) -> None:
        import apprise

        # A redirect that is followed makes an empty request of a message, and its answer would count.
        target = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        with _Log() as log:
            if not target.add(self._url):
                raise NotSent("apprise does not know such a URL; see https://appriseit.com/services/")
            severity = str(message.data.get("payload", {}).get("severity", "warning"))
            closed = message.kind == "closed"
            sent = target.notify(
                title=f"✔ {message.subject}" if closed else message.subject,
                body=message.body,
                notify_type="success" if closed else _TYPES.get(severity, "warning"),
                body_format=apprise.NotifyFormat.TEXT,  # it escapes for the service's own markup
            )
        if not sent:
            raise NotSent(self._masker.masked(log.last or "it was not accepted; apprise does not say why"))


class _Log(logging.Handler):
    """Keeps what apprise logs meanwhile: it returns no reason."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a record. It may be of another channel that sends just now: apprise does not say."""
        self.last = record.getMessage()[:300]

    def __enter__(self) -> Self:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
