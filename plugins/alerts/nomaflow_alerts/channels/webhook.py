"""Webhooks, signed by the Standard Webhooks specification."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.http import Web
from nomaflow_alerts.ledger import Message
from nomaflow_alerts.messages.templates import Templates
from nomaflow_project.models.alerts_section import ChannelEntry


class WebhookChannel:
    """Posts JSON with ``webhook-id``, ``webhook-timestamp`` and, if there is a secret, ``webhook-signature``."""

    def __init__(self, entry: ChannelEntry, *, templates: Templates, seconds: float) -> None:
        self._entry, self._templates, self._seconds = entry, templates, seconds
        self._web = Web()

    async def send(self, message: Message) -> None:
        """Post a message.

        :raises NotSent: if it was not taken
        """
        body, now = self._body(message), datetime.now(UTC)
        headers = {
            **self._entry.headers,
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self._entry.secret:
            headers["webhook-signature"] = self._signature(message.id, now, body)
        await self._web.post(self._entry.url, body.encode(), headers, seconds=self._seconds)

    def _signature(self, message_id: str, now: datetime, body: str) -> str:
        from standardwebhooks import Webhook

        try:
            return Webhook(self._entry.secret).sign(msg_id=message_id, timestamp=now, data=body)
        except ValueError:
            raise NotSent("its secret is not base64, as in whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") from None

    def _body(self, message: Message) -> str:
        values = {
            **message.data.get("payload", {}),
            "id": message.id,
            "created_at": datetime.fromtimestamp(message.created_at, UTC).isoformat(timespec="seconds"),
            "subject": message.subject,
            "text": message.body,
        }
        if self._entry.template:
            made, problem = self._templates.rendered(self._entry.template, values)
            if made:
                return made
            values["text"] = f"{message.body}\n{problem}" if problem else message.body
        return json.dumps(values, separators=(",", ":"))
