"""The kernel's jobs, as far as rules need them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow.client import ClientError, KernelClient, NotFound
from nomaflow.client.values import JobView
from nomaflow_alerts.rules.policies import JobFacts, Policies, Timetable
from nomaflow_project.jobs.alert_policy import AlertPolicy

_LOG = logging.getLogger(__name__)
_AT_ONCE = 8


async def read_catalogue(client: KernelClient, policies: Policies) -> None:
    """Read the jobs that are new or have changed, if any have. If the kernel is away, what is known stays."""
    if policies.current:
        return

    async def read(job_id: str) -> None:
        with contextlib.suppress(NotFound):
            policies.learn(job_facts(await client.get_job(job_id)))

    try:
        listed = (await client.list_jobs()).jobs
        known = {job.job_id: job.digest for job in policies.jobs}
        news = [job.job_id for job in listed if known.get(job.job_id) != _mark(job)]
        for start in range(0, len(news), _AT_ONCE):
            await asyncio.gather(*map(read, news[start : start + _AT_ONCE]))
    except ClientError as error:
        _LOG.warning("the jobs could not be read: %s", error)
        return
    policies.keep_only({job.job_id for job in listed})


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
