"""Retention: finished runs that are too old, or too many, are deleted in small pages that never block the hot path.

Of the runs in excess, those of fires and requests of the last day stay: otherwise a clock that is set back, or a
client that repeats a request, would make them run again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.definitions import RetentionPolicy

_LOG = logging.getLogger(__name__)
_PAGE_RUNS = 5_000
"""Runs that are looked for at once; the store removes them a few at a time."""
_PAGE_NOTICES = 100
_PAGE_ROWS = 1000
_DAY_US = 86_400_000_000


class RetentionSweeper:
    """Deletes the history that the retention policies release, at the interval of the kernel's own.

    :param default: the kernel's own policy, for jobs whose file sets none
    :param audit_days: age at which rows of the audit are deleted, whatever becomes of runs; None to keep all
    :param also: deletes whatever else is too old; called at each sweep
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        catalogue: Catalogue,
        default: RetentionPolicy,
        audit_days: int | None = None,
        also: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._catalogue = catalogue
        self._default = default
        self._audit_days = audit_days
        self._also = also
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start; the first sweep comes after the first interval, so that a start is never slowed down."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stop, even if the store does not answer: a page is deleted or not. Stopping twice is allowed."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(60 * self._default.sweep_interval_minutes)
            try:
                gone = await self.sweep()
                await self.sweep_audit()
                if self._also is not None:
                    await self._also()
            except StoreError as error:
                _LOG.warning("retention will try again: %s", error.message)
            else:
                if gone:
                    _LOG.info("retention removed %d runs", gone)

    def _of_hosts(self) -> Mapping[str, RetentionPolicy]:
        """Return the policies that hosts set for the jobs that they bring."""
        return {known.host: known.load.retention for known in self._catalogue.hosts() if known.load.retention}

    async def sweep(self) -> int:
        """Delete all releasable history and return the number of runs deleted.

        :raises StoreError: if the store fails; earlier deletions stand, the rest stays for the next sweep
        """
        of_hosts, gone = self._of_hosts(), 0
        if of_hosts:
            for job_id in await self._store.job_ids():
                policy, host = self._policy_of(job_id, of_hosts)
                gone += await self._prune(policy, job_id, host=host)
                if host:
                    gone += await self._prune(_milder(policy, self._default), job_id, not_host=host)
        else:
            gone = await self._prune(self._default)
        if self._default.enabled and self._default.days is not None:
            before_us = self._clock.now_us() - self._default.days * _DAY_US
            while await self._store.prune_notices(before_us=before_us, limit=_PAGE_NOTICES) == _PAGE_NOTICES:
                pass
        return gone

    def _policy_of(self, job_id: str, of_hosts: Mapping[str, RetentionPolicy]) -> tuple[RetentionPolicy, str]:
        """Return the policy for a job, and the host for whose runs it is; empty for all.

        It is that of the job's host, unless that brings it no more, or the id is another host's. A host that has got
        an id does not decide what becomes of the runs that others had under it.
        """
        job = self._catalogue.job(job_id)
        if job is None or job.removed or job.loaded.host not in of_hosts:
            return self._default, ""
        return of_hosts[job.loaded.host], job.host

    async def sweep_audit(self) -> None:
        """Delete the audit's rows that are too old.

        :raises StoreError: if the store fails; earlier deletions stand, the rest stays for the next sweep
        """
        if self._audit_days is not None:
            before_us = self._clock.now_us() - self._audit_days * _DAY_US
            while await self._store.prune_audit(before_us=before_us, limit=_PAGE_ROWS) == _PAGE_ROWS:
                pass

    async def _prune(self, policy: RetentionPolicy, job_id: str = "", *, host: str = "", not_host: str = "") -> int:
        before_us = None if policy.days is None else self._clock.now_us() - policy.days * _DAY_US
        if not policy.enabled or (before_us is None and policy.keep_last_per_job is None):
            return 0
        gone = 0
        while True:
            page = await self._store.prune(
                job_id=job_id,
                keep_runs=policy.keep_last_per_job,
                before_us=before_us,
                limit=_PAGE_RUNS,
                proofs_after_us=self._clock.now_us() - _DAY_US,
                host=host,
                not_host=not_host,
            )
            gone += page
            if page < _PAGE_RUNS:
                break
        return gone


def _milder(one: RetentionPolicy, other: RetentionPolicy) -> RetentionPolicy:
    """Return a policy that releases only what both of two release."""
    return RetentionPolicy(
        enabled=one.enabled and other.enabled,
        days=_larger(one.days, other.days),
        keep_last_per_job=_larger(one.keep_last_per_job, other.keep_last_per_job),
    )


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)
