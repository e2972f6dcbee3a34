"""Sends what the outbox holds: one task for each channel, so that none waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nomaflow_alerts.channels.channel import Channel, NotSent
from nomaflow_alerts.ledger import Book, Ledger, Message
from nomaflow_alerts.ledger.outbox import LONGEST_DELAY_SECONDS
from nomaflow_alerts.messages.harmless_text import Masker
from nomaflow_alerts.messages.ping_urls import PINGS
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.recipients import channel_of
from nomaflow_alerts.rules.system import sight_system
from nomaflow_api.event_loop import happens_within
from nomaflow_project.models.alerts_section import AlertsSection

_LOG = logging.getLogger(__name__)
_LONGEST_SLEEP = 60.0


class Sender:
    """Sends messages until the channel takes them, or for too long.

    :param channel: returns the channel of a name; raises KeyError for one that the settings no longer have
    :param told: called after each change of a message that may have opened or closed an incident
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        alerts: AlertsSection,
        policies: Policies,
        channel: Callable[[str], Channel],
        masker: Masker,
        told: Callable[[], None],
    ) -> None:
        self._ledger, self._alerts, self._policies = ledger, alerts, policies
        self._channel, self._masker, self._told = channel, masker, told
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._tests: dict[str, asyncio.Future[str]] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have the outbox looked at."""
        self._woken.set()

    def tried(self, message_id: str) -> asyncio.Future[str]:
        """Return a future of the first try of a test message: empty if the channel took it, else why not."""
        self._tests[message_id] = asyncio.get_running_loop().create_future()
        return self._tests[message_id]

    async def run(self) -> None:
        """Send without end.

        :raises CannotServe: if the file cannot be written; nobody would miss a channel that has stopped for that
        """
        await self._ledger.run(self._end_of_removed)
        try:
            while True:
                self._woken.clear()
                due, wait = await self._ledger.run(lambda book: (book.outbox.channels_due(), book.outbox.wait()))
                for each in self._workers.values():
                    if each.done():
                        each.result()
                for name in due:
                    worker = self._workers.get(name)
                    if worker is None or worker.done():
                        self._workers[name] = asyncio.create_task(self._work(name), name=f"channel {name}")
                        self._workers[name].add_done_callback(lambda _: self.wake())
                await happens_within(self._woken, None if wait is None else min(wait, _LONGEST_SLEEP))
        finally:
            for worker in self._workers.values():
                worker.cancel()
            await asyncio.gather(*self._workers.values(), return_exceptions=True)

    async def _work(self, name: str) -> None:
        while (message := await self._ledger.run(lambda book: self._take(book, name))) is not None:
            await self._send(message)

    def _take(self, book: Book, name: str) -> Message | None:
        """Return the message to try now, or None."""
        message = book.outbox.due(name)
        if message is not None:
            book.outbox.tries(message, again_at=book.now + self._delay(message))
        return message

    def _delay(self, message: Message) -> float:
        """Return for how long a message waits after a try that has failed."""
        return float(min(self._alerts.retry_seconds * 2 ** min(message.tries, 20), LONGEST_DELAY_SECONDS))

    async def _send(self, message: Message) -> None:
        error = ""
        try:
            async with asyncio.timeout(self._alerts.channel_seconds + 5):
                await self._channel(message.channel).send(message)
        except NotSent as refusal:
            error = self._masker.masked(str(refusal))
        except KeyError:
            error = "the settings no longer have the channel"
        except TimeoutError:
            error = f"no answer within {self._alerts.channel_seconds:g} s"
        except Exception as failure:  # noqa: BLE001  # a channel of another's making must not end the others'
            _LOG.exception("channel %s failed", message.channel)
            error = f"{type(failure).__name__}"
        await self._ledger.run(lambda book: self._mark(book, message, error))
        waiting = self._tests.pop(message.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(error)
        self._told()

    def _mark(self, book: Book, message: Message, error: str) -> None:
        if not error:
            book.outbox.sent(message)
            book.close(f"undeliverable|{message.channel}", at=book.now)
            return
        delay = self._delay(message)
        over = message.kind == "test" or book.now + delay - message.created_at > self._alerts.give_up_hours * 3600
        _LOG.warning("channel %s did not take message %s: %s", message.channel, message.id, error)
        book.outbox.failed(message, error, again_at=None if over else book.now + delay)
        if over and message.kind != "test":
            why = f"{error}; given up: {message.subject}"
            sight_system(book, "undeliverable", self._policies, at=book.now, why=why, channel=message.channel)
            self._end_of_removed(book)

    def _end_of_removed(self, book: Book) -> None:
        """Close what is open about channels that the settings no longer have: no message to them can end it."""
        for incident in book.open_incidents("undeliverable"):
            name = str(incident.facts["channel"])
            if not name.startswith(PINGS) and channel_of(name) not in self._alerts.channels:
                book.close(incident.key, at=book.now, facts={"ended": "the settings no longer have it,"})
