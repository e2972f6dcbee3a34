"""Work that no event causes: timers of the rules, messages that are due, upkeep of the file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from nomaflow.client import ClientError, KernelClient, NotFound
from nomaflow.client.values import RunView
from nomaflow_alerts.intake import Intake
from nomaflow_alerts.ledger import Book, Ledger, OpenRun
from nomaflow_alerts.messages.details import KernelDetails
from nomaflow_alerts.messages.grouping_and_digests import Composer, compose, details_wanted, next_message_at, plan
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.timers import check_absent_hosts, check_expected, check_runs, expect_runs
from nomaflow_alerts.sending import Sender
from nomaflow_api.event_loop import happens_within
from nomaflow_project.models.alerts_section import AlertsSection

_LOG = logging.getLogger(__name__)
_LEAST_PAUSE = 0.2
_LONGEST_PAUSE = 60.0
_UPKEEP_SECONDS = 3600.0
_ASKED_RUNS = 50
_AWAY = ("AWAITED", "UNREACHABLE", "DETACHED")


class Clockwork:
    """Turns whenever something is due, or has changed."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        alerts: AlertsSection,
        policies: Policies,
        calls: KernelClient,
        intake: Intake,
        sender: Sender,
        composer: Composer,
        details: KernelDetails,
    ) -> None:
        self._ledger, self._alerts, self._policies = ledger, alerts, policies
        self._calls, self._intake, self._sender = calls, intake, sender
        self._composer, self._details = composer, details
        self._woken = asyncio.Event()
        self._upkeep_at = 0.0

    def wake(self) -> None:
        """Have it turn soon."""
        self._woken.set()

    async def run(self) -> None:
        """Turn without end."""
        while True:
            self._woken.clear()
            await self._turn()
            due, now = await self._ledger.run(self._next_due)
            await asyncio.sleep(_LEAST_PAUSE)
            await happens_within(self._woken, min(max(due - now - _LEAST_PAUSE, 0.0), _LONGEST_PAUSE))

    async def _turn(self) -> None:
        if self._intake.caught_up:
            await self._check()
        if await self._ledger.run(self._may_tell):
            await self._write()
        loop = asyncio.get_running_loop()
        if loop.time() - self._upkeep_at > _UPKEEP_SECONDS:
            self._upkeep_at = loop.time()
            await self._ledger.run(Book.purge)

    def _may_tell(self, book: Book) -> bool:
        """Return whether messages are written: not while old events are read, unless the kernel ended meanwhile."""
        return not self._intake.quiet or book.open_incident("kernel_silent") is not None

    def _next_due(self, book: Book) -> tuple[float, float]:
        checks = book.watched.next_check_at() if self._intake.caught_up else None
        messages = next_message_at(book, self._alerts) if self._may_tell(book) else None
        known = [each for each in (checks, messages) if each is not None]
        return min(known, default=book.now + _LONGEST_PAUSE), book.now

    async def _check(self) -> None:
        """Look at what is due. What the kernel says of it counts; while it is silent, that is the incident."""
        runs, absent = await self._ledger.run(
            lambda book: (book.watched.runs_due(book.now), list(book.watched.hosts_due(book.now)))
        )
        states = await self._states(runs) if runs else {}
        attached, launched = await self._present() if absent else (None, set())

        def check(book: Book) -> None:
            if states is not None:
                check_runs(book, self._policies, states, runs)
            if absent:
                check_absent_hosts(book, self._policies, attached, launched=launched)
            check_expected(book, self._policies)
            expect_runs(book, self._policies)

        await self._ledger.run(check)

    async def _states(self, runs: Iterable[OpenRun]) -> dict[str, RunView | None] | None:
        """Return what the kernel says, of one waiting run of each job and of the others; None without an answer."""
        found: dict[str, RunView | None] = {}
        asked: set[tuple[str, bool]] = set()
        for run in runs:
            key = (run.job_id if run.started_at is None else run.run_id, run.started_at is None)
            if key in asked or len(asked) == _ASKED_RUNS:
                continue
            asked.add(key)
            try:
                found[run.run_id] = await self._calls.get_run(run.run_id)
            except NotFound:
                found[run.run_id] = None
            except ClientError as error:
                _LOG.info("runs that take long cannot be looked at: %s", error)
                return None
        return found

    async def _present(self) -> tuple[set[str] | None, set[str]]:
        """Return the hosts with an instance that is heard, None without an answer, and those that a launcher starts."""
        try:
            hosts = await self._calls.list_hosts()
        except ClientError:
            return None, set()
        attached = {host.name for host in hosts if any(one.state not in _AWAY for one in host.instances)}
        return attached, {host.name for host in hosts if host.launched}

    async def _write(self) -> None:
        drafts = await self._ledger.run(lambda book: plan(book, self._alerts))
        if not drafts:
            return
        details = await self._details.of(details_wanted(drafts))

        def write(book: Book) -> None:
            for draft in drafts:
                compose(book, draft, self._composer, details)

        await self._ledger.run(write)
        self._sender.wake()
