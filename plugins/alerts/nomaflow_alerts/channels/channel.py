"""The contract of every channel: send one message, or say why not."""

from __future__ import annotations

from typing import Protocol

from nomaflow_alerts.ledger import Message


class NotSent(Exception):
    """Raised when a channel did not take a message; the text says why, without secrets."""


class Channel(Protocol):
    """One way to tell somebody."""

    async def send(self, message: Message) -> None:
        """Send a message. It may be a repeat, with the same id.

        :raises NotSent: if it was not taken, or nobody can know
        """
