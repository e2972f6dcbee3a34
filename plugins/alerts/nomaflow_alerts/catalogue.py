"""The kernel's jobs, as far as rules need them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.client import ClientError, KernelClient, NotFound
from nomaflow.client.values import JobView
from nomaflow_alerts.rules.policies import JobFacts, Policies, Timetable
from nomaflow_project.jobs.alert_policy import AlertPolicy

_LOG = logging.getLogger(__name__)
_AT_ONCE = 8


class Catalogue:
    """Keeps the policies up to date with the kernel's catalogue."""

    def __init__(self, *, client: KernelClient, policies: Policies) -> None:
        self._client, self._policies = client, policies

    def note_change(self) -> None:
        """Have the catalogue read again before the next events are taken in."""
        self._policies.current = False

    async def refresh(self) -> None:
        """Read the jobs that are new or have changed. If the kernel is away, what is known stays."""
        if self._policies.current:
            return
        try:
            listed = (await self._client.list_jobs()).jobs
            news = [job for job in listed if self._is_news(job)]
            for start in range(0, len(news), _AT_ONCE):
                await asyncio.gather(*(self._read(job.job_id) for job in news[start : start + _AT_ONCE]))
        except ClientError as error:
            _LOG.warning("the jobs could not be read: %s", error)
            return
        self._policies.keep_only({job.job_id for job in listed})

    def _is_news(self, job: JobView) -> bool:
        known = self._policies.job(job.job_id)
        return known is None or known.digest != _mark(job)

    async def _read(self, job_id: str) -> None:
        try:
            self._policies.learn(job_facts(await self._client.get_job(job_id)))
        except NotFound:
            return


def job_facts(job: JobView) -> JobFacts:
    """Return what rules need of a job."""
    definition: Mapping[str, Any] = job.definition or {}
    runs = (job.valid or job.kept) and not job.removed and not job.held
    presets: Sequence[Mapping[str, Any]] = definition.get("presets") or ()
    zone = str(definition.get("timezone") or "UTC")
    timetables = [
        Timetable(str(each.get("name") or ""), str(each["schedule"]), str(each.get("timezone") or zone))
        for each in presets
        if each.get("enabled", True) and each.get("schedule")
    ]
    if definition.get("enabled", True) and definition.get("schedule"):
        timetables.insert(0, Timetable("", str(definition["schedule"]), zone))
    return JobFacts(
        job_id=job.job_id,
        host=job.host,
        tags=job.tags,
        enabled=runs and (job.enabled or bool(timetables)),
        digest=_mark(job),
        timetables=tuple(timetables) if runs else (),
        given=AlertPolicy.given(definition.get("alerts")),
        misfire=str(definition.get("misfire") or "latest"),
    )


def _mark(job: JobView) -> str:
    return f"{job.digest}|{job.host}|{job.valid}|{job.kept}|{job.removed}|{job.held}|{job.enabled}"
