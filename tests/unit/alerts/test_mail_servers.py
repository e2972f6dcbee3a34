"""Mails, and the servers that take them in their own ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from alerts_rig import START, section

from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.mail import MailChannel
from nomaflow_alerts.ledger import Message
from receivers import mail_server


class Server:
    """Takes every mail, and answers QUIT as it is told."""

    def __init__(self) -> None:
        self.taken = 0
        self.farewell = "221 bye"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail."""
        self.taken += 1
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Answer, or never."""
        if not self.farewell:
            await asyncio.Event().wait()
        return self.farewell


@pytest.fixture
def server() -> Iterator[tuple[Server, int]]:
    """Give a mail server, and its port."""
    taking = Server()
    with mail_server(taking) as port:
        yield taking, port


def channel(port: int, *, seconds: float = 5) -> MailChannel:
    """Return a channel to a server."""
    mail = {"type": "email", "host": "127.0.0.1", "port": port, "security": "none", "from": "a@x", "to": ["b@x"]}
    return MailChannel(section(channels={"mail": mail}).channels["mail"], to=("b@x",), seconds=seconds)


def message() -> Message:
    """Return a message."""
    return Message(channel="mail", kind="opened", subject="s", body="b", created_at=START, next_at=START)


@pytest.mark.parametrize("farewell", ["221 bye", "421 too busy to say more", ""])
async def test_a_mail_that_is_taken_is_sent_whatever_the_server_says_then(
    server: tuple[Server, int], farewell: str
) -> None:
    """Else it would be sent again for a day, to people who have it."""
    taking, port = server
    taking.farewell = farewell
    await channel(port, seconds=1).send(message())
    assert taking.taken == 1


async def test_a_mail_server_that_is_away_is_told_in_words() -> None:
    """Without the number of the error, which says nothing to a reader."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(NotSent, match=rf"^the mail server at 127\.0\.0\.1:{port}: Connection refused$"):
            await channel(port).send(message())
