"""Mails by the standard library, in a thread: those about one incident are one conversation."""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.threads import Threads
from nomaflow_alerts.ledger import Message
from nomaflow_project.models.alerts_section import ChannelEntry

_LOG = logging.getLogger(__name__)
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class MailChannel:
    """Sends mails.

    :param to: who gets them
    """

    def __init__(self, entry: ChannelEntry, *, to: tuple[str, ...], seconds: float) -> None:
        self._entry, self._to, self._seconds = entry, to, seconds
        self._threads = Threads("mail")

    async def send(self, message: Message) -> None:
        """Send a mail.

        :raises NotSent: if the server did not take it
        """
        await self._threads.run(lambda: self._send(self._mail(message)), seconds=self._seconds)

    def _mail(self, message: Message) -> EmailMessage:
        domain = self._entry.sender.rpartition("@")[2].strip("> ") or "localhost"
        mail = EmailMessage()
        answers = str(message.data.get("answers") or "")
        mail["From"], mail["To"] = self._entry.sender, ", ".join(self._to)
        mail["Subject"] = f"Re: {message.data['conversation']}" if answers else message.subject
        mail["Date"] = format_datetime(datetime.fromtimestamp(message.created_at, UTC))
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        if answers:
            mail["In-Reply-To"] = mail["References"] = f"<{answers}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # no out-of-office answer, please
        mail.set_content(message.body)
        return mail

    def _send(self, mail: EmailMessage) -> None:
        entry, context = self._entry, ssl.create_default_context()
        port = entry.port or _PORTS[entry.security]
        try:
            if entry.security == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(entry.host, port, timeout=self._seconds, context=context)
            else:
                server = smtplib.SMTP(entry.host, port, timeout=self._seconds)
            with contextlib.closing(server):
                if entry.security == "starttls":
                    server.starttls(context=context)
                if entry.username:
                    server.login(entry.username, entry.password)
                refused = server.send_message(mail)
                with contextlib.suppress(smtplib.SMTPException):
                    server.putcmd("quit")  # and no wait for its answer: the server has the mail
        except smtplib.SMTPNotSupportedError as error:
            fix = '; its channel may say security = "tls" or "none"' if entry.security == "starttls" else ""
            raise NotSent(f"the mail server at {entry.host}:{port}: {error}{fix}") from None
        except smtplib.SMTPResponseException as error:
            told = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else ""
            raise NotSent(f"the mail server answered {error.smtp_code} {told[:200]}".strip()) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise NotSent(f"the mail server refused {', '.join(error.recipients)}") from None
        except (smtplib.SMTPException, OSError) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise NotSent(f"the mail server at {entry.host}:{port}: {cause}") from None
        if refused:  # the others have it: a repeat would be their second one
            _LOG.warning("the mail server refused %s of %s", ", ".join(refused), mail["To"])
