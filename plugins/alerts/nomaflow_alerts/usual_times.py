"""Samples of a job and preset: the usual rows and time of the runs that succeeded."""

from __future__ import annotations

import logging
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nomaflow.client import ClientError, KernelClient, KernelUnreachable
from nomaflow.client.values import EventView
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.rules.runs import Findings
from nomaflow_api.percentiles import percentile_95

_LOG = logging.getLogger(__name__)
_DURATIONS, _LEAST_DURATIONS = 50, 20
_ROWS, _LEAST_ROWS = 30, 5
_SHORTEST_SECONDS = 60.0
_SCANNED = 500


def long_after(durations: Sequence[float], factor: float) -> float | None:
    """Return after how many seconds a run is unusually long: factor × the 95th percentile; None for too few runs."""
    usual = percentile_95(durations) if len(durations) >= _LEAST_DURATIONS else None
    return None if usual is None else max(factor * usual, _SHORTEST_SECONDS)


def usual_rows(rows: Sequence[int]) -> tuple[float, float, float] | None:
    """Return median, and the range of the middle half, of rows; None for too few runs."""
    if len(rows) < _LEAST_ROWS:
        return None
    low, _, high = statistics.quantiles(rows, n=4, method="inclusive")
    return statistics.median(rows), low, high


@dataclass(slots=True)
class _Usual:
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_DURATIONS))
    rows: deque[int] = field(default_factory=lambda: deque(maxlen=_ROWS))


class Samples:
    """Keeps what is usual for the jobs whose rules ask for it."""

    def __init__(self, *, client: KernelClient, policies: Policies) -> None:
        self._client, self._policies = client, policies
        self._usual: dict[tuple[str, str], _Usual] = {}

    async def findings(self, events: Sequence[EventView]) -> Findings:
        """Ask the kernel what the rules need to know about a batch of events, which are taken in then."""
        found: dict[str, float] = {}
        medians: dict[str, tuple[float, float, float]] = {}
        children: dict[str, str] = {}
        for event in events:
            try:
                if event.kind == "run.started":
                    await self._started(event, found)
                elif event.kind == "run.finished" and event.run_state == "SUCCEEDED":
                    await self._succeeded(event, medians)
                elif event.kind == "run.finished" and event.reason and event.reason.code == "child_failed":
                    children[event.run_id] = await self._child_job(event.run_id)
            except KernelUnreachable as error:
                _LOG.warning("what is usual is not known: %s", error)
                break  # each further question would wait as long, and what has happened is to be told
            except ClientError as error:
                _LOG.warning("what is usual for %s is not known: %s", event.job_id, error)
        return Findings(long_after=found, median_rows=medians, child_jobs=children)

    async def _started(self, event: EventView, found: dict[str, float]) -> None:
        factor = self._policies.rules(event.job_id, event.host).long_run_factor
        if factor is None:
            return
        run = await self._client.get_run(event.run_id)
        usual = await self._of(event.job_id, run.preset, event.at)
        limit = long_after(usual.durations, factor)
        if limit is not None:
            found[event.run_id] = limit

    async def _succeeded(self, event: EventView, medians: dict[str, tuple[float, float, float]]) -> None:
        rules = self._policies.rules(event.job_id, str(event.data.get("host") or ""))
        asks = (rules.long_run_factor, rules.rows_min, rules.rows_max, rules.rows_change_percent)
        if all(each is None for each in asks):
            return
        usual = await self._of(event.job_id, str(event.data.get("preset") or ""), event.at)
        rows, started_us = event.data.get("rows_affected"), event.data.get("started_us")
        found = usual_rows(usual.rows)
        if found is not None:
            medians[event.run_id] = found
        if isinstance(rows, int):
            usual.rows.append(rows)
        if isinstance(started_us, int) and event.at is not None:
            usual.durations.append(event.at.timestamp() - started_us / 1_000_000)

    async def _of(self, job_id: str, preset: str, before: datetime | None) -> _Usual:
        known = self._usual.get((job_id, preset))
        if known is not None:
            return known
        usual, scanned = _Usual(), 0
        async for run in self._client.list_runs(job_id=job_id, states=["SUCCEEDED"], page_size=100):
            scanned += 1
            if run.preset == preset and run.finished_at and (before is None or run.finished_at < before):
                if run.started_at and len(usual.durations) < _DURATIONS:
                    usual.durations.appendleft((run.finished_at - run.started_at).total_seconds())
                if run.rows_affected is not None and len(usual.rows) < _ROWS:
                    usual.rows.appendleft(run.rows_affected)
            if scanned == _SCANNED or (len(usual.durations) == _DURATIONS and len(usual.rows) == _ROWS):
                break
        self._usual[job_id, preset] = usual
        return usual

    async def _child_job(self, run_id: str) -> str:
        run = await self._client.get_run(run_id)
        jobs = [attempt.child_job_id for step in run.steps for attempt in step.attempts if attempt.child_job_id]
        return jobs[-1] if jobs else ""
