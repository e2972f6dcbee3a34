"""ListRuns: pages of runs that the caller may read."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import timestamp
from nomaflow_kernel.access.grants import Verb
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.ids import made_at_ms
from nomaflow_kernel.history.lookups import RunPage
from nomaflow_kernel.history.records import RunRecord
from nomaflow_kernel.rpc.attempt_messages import LISTED_RUN_BYTES
from nomaflow_kernel.rpc.guard import target_of
from nomaflow_kernel.rpc.list_requests import run_filter
from nomaflow_kernel.rpc.messages import run_detail_message, run_message
from nomaflow_kernel.rpc.pages import Page, page_start
from nomaflow_kernel.rpc.parts import Calls, KernelParts

_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 500
_MAX_WITH_STEPS = 50
_MOST_BYTES = 3 * 1024 * 1024
"""More than other pages have, as pages are made of many runs; gRPC's own limit for a message is 4 MiB."""
_MOST_KEPT = 500
_READ_TOGETHER = 10
"""Runs whose steps are in memory at a time."""


class RunPages(Calls):
    """Serves ListRuns."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__(parts)
        self._kept: RecentlyUsed[str, tuple[RunRecord, run_pb2.Run]] = RecentlyUsed(_MOST_KEPT)

    async def list_runs(self, request: kernel.ListRunsRequest, caller: Caller) -> kernel.ListRunsResponse:
        """Return one page of runs that the caller may read."""
        most = _MAX_WITH_STEPS if request.with_steps else _MAX_PAGE_SIZE
        if request.page_size > most:
            steps = " with_steps" if request.with_steps else ""
            raise BadRequest(f"page_size is {request.page_size}, expected at most {most}{steps}", field="page_size")
        filter = replace(run_filter(request), visible=self._guard.visible_runs(caller.principal))
        if request.tag:
            filter = replace(filter, job_ids=jobs_of_tag(self._catalogue, request.tag, caller))
        page = await self._store.list_runs(
            filter, before=page_start(request.page_token), limit=request.page_size or _PAGE_SIZE
        )
        answer = Page[run_pb2.Run](_MOST_BYTES)
        whole = answer.take(await self._sight.shown(await self._messages(page, request), caller))
        return kernel.ListRunsResponse(
            runs=answer.entries,
            next_page_token=page.next_before if whole else answer.entries[-1].run_id,
            scanned_until=timestamp(made_at_ms(page.scanned_to) * 1000) if whole and page.scanned_to else None,
        )

    async def _messages(self, page: RunPage, request: kernel.ListRunsRequest) -> list[run_pb2.Run]:
        if not request.with_steps:
            return [self._message(run) for run in page.runs]
        ids = [run.run_id for run in page.runs]
        found = []
        for start in range(0, len(ids), _READ_TOGETHER):
            some = ids[start : start + _READ_TOGETHER]
            details = await self._store.run_details(some, result_bytes=LISTED_RUN_BYTES)
            found += [run_detail_message(detail) for detail in details]
        return found

    def _message(self, run: RunRecord) -> run_pb2.Run:
        """Return the message of a run, which is the caller's to change. Those of the runs listed last are kept."""
        kept = self._kept.find(run.run_id)
        if kept is None or kept[0] is not run:
            kept = run, run_message(run)
            self._kept.put(run.run_id, kept)
        message = run_pb2.Run()
        message.CopyFrom(kept[1])
        return message


def tags_of_job(catalogue: Catalogue, job_id: str, caller: Caller) -> Sequence[str]:
    """Return the tags that a job has now, if the caller may read it; what another host says of the id does not count.

    The caller may read runs that another host has run under the id.
    """
    job = catalogue.job(job_id)
    return () if job is None or not _may_read(job, caller) else _tags(job)


def jobs_of_tag(catalogue: Catalogue, tag: str, caller: Caller) -> tuple[str, ...]:
    """Return the jobs that have a tag now, of those that the caller may read."""
    jobs = (job for job_id in catalogue.ids() if (job := catalogue.job(job_id)) is not None and tag in _tags(job))
    return tuple(job.job_id for job in jobs if _may_read(job, caller))


def _tags(job: Job) -> Sequence[str]:
    return () if job.definition is None else job.definition.tags


def _may_read(job: Job, caller: Caller) -> bool:
    return caller.principal.may_all(Verb.READ) or caller.principal.may(Verb.READ, target_of(job))
