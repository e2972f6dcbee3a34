"""Replays past events: lists the messages that today's rules would have sent, with a file in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from contextlib import aclosing
from functools import partial

from nomaflow.client import KernelClient, KernelPlace
from nomaflow.client.values import EventView, from_micros, iso
from nomaflow_alerts.app import kernel_client
from nomaflow_alerts.catalogue import read_catalogue
from nomaflow_alerts.event_batches import fold
from nomaflow_alerts.ledger import Book, Ledger, Message
from nomaflow_alerts.messages.grouping_and_digests import Composer, compose, next_message_at, plan
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import moment
from nomaflow_alerts.rules.timers import check_expected, check_runs, expect_runs
from nomaflow_alerts.usual_times import Samples
from nomaflow_project.models.alerts_section import AlertsSection

_MOST_TURNS = 100_000
_SILENCE_SECONDS = 15.0


async def replay(place: KernelPlace, alerts: AlertsSection, *, since: int) -> None:
    """Print each message that would have been sent since an event, one JSON object a line.

    :param since: number of the event before the first one
    :raises ClientError: if the kernel does not answer
    """
    async with kernel_client(place) as calls:
        await _Replay(calls, alerts).run(since)


class _Replay:
    """One replay. Its clock is that of the events."""

    def __init__(self, calls: KernelClient, alerts: AlertsSection) -> None:
        self._calls, self._alerts = calls, alerts
        self._now = 0.0
        self._ledger = Ledger(None, clock=lambda: self._now)
        self._policies = Policies(alerts)
        self._samples = Samples(client=calls, policies=self._policies)
        self._composer = Composer(alerts)

    async def run(self, since: int) -> None:
        """Replay until the present."""
        kernel = await self._calls.get_kernel()
        if since >= kernel.last_event_seq:
            return
        await self._ledger.open()
        await read_catalogue(self._calls, self._policies)
        events = self._calls.watch_events(after_seq=since, from_start=not since)
        async with aclosing(events) as items:  # type: ignore[type-var]  # a generator
            with contextlib.suppress(TimeoutError):  # the last events may be none of those that we may read
                while True:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        event = await anext(items)
                    await self._turn_until(moment(event))
                    await self._fold(event, store=kernel.store)
                    if event.seq >= kernel.last_event_seq:
                        break
        await self._turn_until(self._now + self._alerts.group_wait_seconds + self._alerts.group_seconds + 1)
        await self._ledger.close()

    async def _fold(self, event: EventView, *, store: str) -> None:
        # Today's jobs say of no other job that it was removed by then: only the event of its removal does.
        self._policies.current = event.kind == "job.changed"
        found = await self._samples.findings([event])
        await self._ledger.run(
            partial(fold, events=[event], through=event.seq, findings=found, policies=self._policies, store=store)
        )

    async def _turn_until(self, until: float) -> None:
        """Do what was due before a time, each at its own time."""
        self._now = self._now or until
        for _ in range(_MOST_TURNS):
            due = await self._ledger.run(self._next_due)
            if due is None or due > until:
                break
            self._now = max(due, self._now + 0.001)
            for message in await self._ledger.run(self._turn):
                _print(message)
        self._now = until

    def _next_due(self, book: Book) -> float | None:
        found = [book.watched.next_check_at(), next_message_at(book, self._alerts)]
        return min((each for each in found if each is not None), default=None)

    def _turn(self, book: Book) -> list[Message]:
        due = book.watched.runs_due(book.now)
        check_runs(book, self._policies, {}, due)
        for host, _ in book.watched.hosts_due(book.now):
            book.watched.host_back(host)  # nobody knows any more who was attached then
        check_expected(book, self._policies)
        expect_runs(book, self._policies)
        made = [compose(book, draft, self._composer, {}) for draft in plan(book, self._alerts)]
        return [each for each in made if each is not None]


def _print(message: Message) -> None:
    shape = {
        "at": iso(from_micros(round(message.created_at * 1_000_000))),
        "channel": message.channel,
        "kind": message.kind,
        "subject": message.subject,
        "body": message.body,
    }
    sys.stdout.write(json.dumps(shape) + "\n")
    sys.stdout.flush()
