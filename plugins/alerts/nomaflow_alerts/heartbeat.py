"""Watches whether the kernel is there and can work; sends the heartbeat, but only while everything is well."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable

from nomaflow.client import ClientError, KernelClient
from nomaflow.client.values import EventView
from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.http import Web
from nomaflow_alerts.ledger import Book, Ledger
from nomaflow_alerts.messages.wording import counted
from nomaflow_alerts.rules.policies import Policies, Timetable
from nomaflow_alerts.rules.system import sight_system
from nomaflow_project.models.alerts_section import AlertsSection

_LOG = logging.getLogger(__name__)
_EVERY_SECONDS = 10.0
_STREAM_SECONDS = 30.0
_UNSERVED_SECONDS = 300.0
_ASKED_JOBS = 20
_HEARTBEAT_SECONDS = 15.0
_COUNTED_FIRES = 2000


class Pulse:
    """Asks the kernel at short intervals.

    :param clock: seconds since the epoch
    :param steady: seconds that pass, whoever sets the clock
    :param changed: called when an incident opened or closed
    :ivar heard_at: when the kernel last answered; 0 for never
    :ivar beat_at: when the heartbeat last went out; 0 for never
    :ivar withheld: why the heartbeat does not go out; empty if it does
    """

    def __init__(
        self,
        *,
        calls: KernelClient,
        ledger: Ledger,
        alerts: AlertsSection,
        policies: Policies,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls, self._ledger, self._alerts, self._policies = calls, ledger, alerts, policies
        self._changed, self._clock, self._steady = changed, clock, steady
        self._web = Web()
        self.heard_at = 0.0
        self.beat_at = 0.0
        self.withheld = ""
        self._began = self._heard = steady()
        self._streamed = float("-inf")
        self._unwritable = False
        self._served: dict[tuple[str, Timetable], float] = {}
        self._rows: dict[str, float] = {}
        self._looked = 0.0
        self._answered = False

    def heard(self) -> None:
        """Note that the stream sent something."""
        self.heard_at, self._heard = self._clock(), self._steady()
        self._streamed = self._heard

    def saw(self, events: Iterable[EventView]) -> None:
        """Note the rows that came of due instants."""
        for event in events:
            begins = event.kind == "run.queued" or event.run_state in ("MISSED", "SKIPPED")
            if event.at is not None and begins:
                self._rows[event.job_id] = event.at.timestamp()

    async def run(self) -> None:
        """Ask without end."""
        every = min(_EVERY_SECONDS, self._alerts.kernel_silent_seconds / 4)
        while True:
            await self._ask()
            await asyncio.sleep(every)

    async def beat(self) -> None:
        """Send the heartbeat without end."""
        url = self._alerts.heartbeat_url or ""
        while True:
            await asyncio.sleep(self._alerts.heartbeat_seconds)
            before, self.withheld = self.withheld, await self._not_well()
            if self.withheld:
                if self.withheld != before:
                    _LOG.warning("the heartbeat is withheld: %s", self.withheld)
                continue
            try:
                await self._web.post(url, b"", {}, seconds=_HEARTBEAT_SECONDS)
                self.beat_at = self._clock()
            except NotSent as error:
                self.withheld = f"its URL: {error}"
                _LOG.warning("the heartbeat did not arrive: %s", error)

    async def _ask(self) -> None:
        try:
            await self._calls.get_kernel()
            serves = await self._calls.is_serving()
        except ClientError as error:
            self._answered = False
            await self._note_silence(str(error), since=self._heard)
            return
        self._answered = True
        self.heard_at, self._heard = self._clock(), self._steady()
        streamed = max(self._streamed, self._began)  # a process that has just begun waits for events
        if self._heard - streamed > _STREAM_SECONDS:
            await self._note_silence("it answers, but its events do not arrive", since=streamed)
            return
        self._unwritable = not serves
        if await self._ledger.run(self._note_answer):
            self._changed()

    def _note_answer(self, book: Book) -> bool:
        """Note that the kernel is there, and whether it can write; return whether that is news."""
        silent, known = (book.open_incident(key) for key in ("kernel_silent", "store_unwritable"))
        book.close("kernel_silent", at=book.now)
        if not self._unwritable:
            book.close("store_unwritable", at=book.now)
        elif known is None:
            why = "it answers, and reports that it cannot serve: its log says why; often its disk is full"
            sight_system(book, "store_unwritable", self._policies, at=book.now, why=why)
        return silent is not None or self._unwritable != (known is not None)

    async def _note_silence(self, error: str, *, since: float) -> None:
        now, silent = self._clock(), self._steady() - since
        if silent < self._alerts.kernel_silent_seconds:
            return

        def sight(book: Book) -> bool:
            if book.open_incident("kernel_silent") is not None:
                return False
            tables, (waiting, running) = self._tables(), book.watched.count_runs()
            fires = (1 for _, table in tables for _ in table.slots(now, now + 3600))
            due = f"; {counted(sum(itertools.islice(fires, _COUNTED_FIRES)), 'fire')} due within an hour"
            why = f"{error}; {running:,} runs were running, {waiting:,} were waiting"
            why += due if tables else ""  # else the jobs may not be known
            sight_system(book, "kernel_silent", self._policies, at=now - silent, why=why, since=now - silent)
            return True

        if await self._ledger.run(sight):
            self._changed()

    def _tables(self) -> list[tuple[str, Timetable]]:
        return [(job.job_id, table) for job in self._policies.jobs for table in job.timetables]

    async def _not_well(self) -> str:
        """Return why the heartbeat must not go out, empty if all is well."""
        if not self._answered:
            return "the kernel does not answer"
        if self._steady() - self._streamed > _STREAM_SECONDS:
            return "the kernel's events do not arrive"
        if self._unwritable:
            return "the kernel cannot write to its store"
        broken = await self._ledger.run(
            lambda book: [name for name in self._alerts.channels if book.outbox.undeliverable(name)]
        )
        if broken:
            return f"the last message of {', '.join(broken)} could not be delivered"
        return await self._unserved()

    async def _unserved(self) -> str:
        """Return which due instant has passed without a row, empty for none."""
        now, tables = self._clock(), self._tables()
        if now < self._looked:  # the clock was set back, by years perhaps
            self._served, self._rows = {}, {}
        self._looked = now
        # A schedule that was changed is another one: nobody serves what was due by the one before.
        self._served = {
            key: self._served.get(key) or key[1].next_after(now) or float("inf") for key in dict.fromkeys(tables)
        }
        for job_id, table in tables:
            key = (job_id, table)
            due = self._served[key]
            if due + _UNSERVED_SECONDS > now:
                continue
            if self._rows.get(job_id, 0.0) < due and not await self._is_served(job_id, table, due, now):
                return f"{job_id} was due at {time.strftime('%H:%M:%S', time.gmtime(due))} UTC and has no run"
            self._served[key] = table.next_after(now) or float("inf")
        return ""

    async def _is_served(self, job_id: str, table: Timetable, due: float, now: float) -> bool:
        try:
            job = await self._calls.get_job(job_id)
            if job.pause is not None or not job.next_fires:
                return True
            async for run in self._calls.list_runs(job_id=job_id, page_size=_ASKED_JOBS):
                rows = [run.queued_at, run.trigger.at, run.fold.last if run.fold else None]
                if run.preset == table.preset and any(at and due - 1 <= at.timestamp() <= now for at in rows):
                    return True
                if run.queued_at and run.queued_at.timestamp() < due - 86_400:
                    break
        except ClientError:
            return True  # asked again next time; silence has an incident of its own
        return False
