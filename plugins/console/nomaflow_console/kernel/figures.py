"""The figures of jobs, which cost the kernel twenty runs a job: asked for again where a run may have changed them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from nomaflow.client import KernelClient
from nomaflow.client.values import JobStatsView, JobView
from nomaflow_project.jobs.text_forms import is_job_id

_LAST = 20
_MOST_ASKED = 200
_MOST_KEPT = 2_000
_Newest: TypeAlias = tuple[str, str]


class KeptFigures:
    """The figures that all with the same token may see, of the jobs asked for last.

    Those of a job are the same as long as its newest run is the same and in the same state, if all runs that they are
    made of are over.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[_Newest | None, JobStatsView]] = OrderedDict()

    async def of(
        self, kernel: KernelClient, jobs: Mapping[str, JobView], wanted: Iterable[str]
    ) -> dict[str, JobStatsView]:
        """Return the figures of jobs by id, of the first 400 at most. A job without a good id has none.

        :param jobs: the jobs as they are now, each with its newest run; figures of others are not kept
        """
        ids = list(dict.fromkeys(filter(is_job_id, wanted)))[: 2 * _MOST_ASKED]
        newest = {job_id: _newest(jobs.get(job_id)) for job_id in ids}
        found = {job_id: kept[1] for job_id in ids if (kept := self._kept.get(job_id)) and kept[0] == newest[job_id]}
        for job_id in found:
            self._kept.move_to_end(job_id)
        missing = [job_id for job_id in ids if job_id not in found]
        for figures in await _asked(kernel, missing):
            found |= figures
        for job_id in missing:
            self._keep(job_id, newest[job_id], found.get(job_id))
        return found

    def _keep(self, job_id: str, newest: _Newest | None, figures: JobStatsView | None) -> None:
        self._kept.pop(job_id, None)
        if figures is None or any(run.state in ("QUEUED", "RUNNING") for run in figures.recent):
            return
        if newest == next(((run.run_id, run.state) for run in figures.recent), None):
            self._kept[job_id] = (newest, figures)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)


def _newest(job: JobView | None) -> _Newest | None:
    run = job.last_run if job is not None else None
    return (run.run_id, run.state) if run is not None else None


async def _asked(kernel: KernelClient, job_ids: Sequence[str]) -> list[Mapping[str, JobStatsView]]:
    parts = [job_ids[start : start + _MOST_ASKED] for start in range(0, len(job_ids), _MOST_ASKED)]
    return await asyncio.gather(*(kernel.job_stats(part, last=_LAST) for part in parts))
