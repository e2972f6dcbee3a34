"""Asks the kernel about incidents before a message is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nomaflow.client import ClientError, KernelClient
from nomaflow.client.values import JobView, LogLine, RunView
from nomaflow_alerts.ledger import Incident

_LOG = logging.getLogger(__name__)
_SECONDS = 5.0
_LINES = 20
_PLAIN_LINES = 10
_WARNING = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """Details of a run and its job that a message adds to the incident.

    :param lines: what the run said last
    :param next_fire: when the job fires next; None if it is unknown, or not by a schedule
    """

    run: RunView | None = None
    lines: tuple[LogLine, ...] = ()
    next_fire: datetime | None = None


NO_DETAILS = Details()


class KernelDetails:
    """Asks the kernel; a message does without what does not come in time."""

    def __init__(self, client: KernelClient) -> None:
        self._client = client

    async def of(self, incidents: Iterable[Incident]) -> dict[int, Details]:
        """Return the details of some incidents, by their numbers."""
        found: dict[int, Details] = {}
        try:
            async with asyncio.timeout(_SECONDS):
                for incident in incidents:
                    if incident.job_id:
                        found[incident.id] = await self._of(incident)
        except (TimeoutError, ClientError) as error:
            _LOG.info("a message has fewer details: %s", str(error) or "the kernel is slow")
        return found

    async def _of(self, incident: Incident) -> Details:
        run, lines = None, tuple[LogLine, ...]()
        if incident.run_id:
            run = await self._run(incident.run_id)
        if run is not None and run.log_lines:
            lines = await self.last_lines(run.run_id)
        return Details(run=run, lines=lines, next_fire=await self._next_fire(incident))

    async def last_lines(self, run_id: str) -> tuple[LogLine, ...]:
        """Return what a run said last: its warnings and errors, else its last lines; nothing if they cannot be read."""
        lines = await self._tail(run_id, min_level=_WARNING, tail=_LINES)
        return lines or await self._tail(run_id, min_level=0, tail=_PLAIN_LINES)

    async def _run(self, run_id: str) -> RunView | None:
        try:
            return await self._client.get_run(run_id)
        except ClientError as error:
            if error.reason.startswith("KERNEL_UNREACHABLE"):
                raise
            return None  # pruned, or not ours to see

    async def _tail(self, run_id: str, *, min_level: int, tail: int) -> tuple[LogLine, ...]:
        try:
            return tuple([line async for line in self._client.read_logs(run_id, min_level=min_level, tail=tail)])
        except ClientError:
            return ()  # without the verb `logs`

    async def _next_fire(self, incident: Incident) -> datetime | None:
        try:
            job: JobView = await self._client.get_job(incident.job_id)
        except ClientError:
            return None
        return next((fire.at for fire in job.next_fires if fire.preset == incident.preset), None)
