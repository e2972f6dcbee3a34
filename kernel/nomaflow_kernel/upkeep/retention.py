"""Retention: finished runs that are too old, or too many, are deleted in small pages that never block the hot path.

Of the runs in excess, those of fires and requests of the last day stay: otherwise a clock that is set back, or a
client that repeats a request, would make them run again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from nomaflow_kernel.catalogue import Catalogue
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.store import Store
from nomaflow_kernel.store.errors import StoreError
from nomaflow_project.jobs.definitions import RetentionPolicy

_LOG = logging.getLogger(__name__)
_PAGE_RUNS = 100
_PAGE_ROWS = 1000
_DAY_US = 86_400_000_000


class RetentionSweeper:
    """Deletes the history that the retention policies release, at the shortest of their intervals.

    :param default: the policy of jobs whose file sets none
    :param audit_days: age at which rows of the audit are deleted, whatever becomes of runs; None to keep all
    :param also: deletes whatever else is too old and returns its number; called at each sweep
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        catalogue: Catalogue,
        default: RetentionPolicy,
        audit_days: int | None = None,
        also: Callable[[], Awaitable[int]] | None = None,
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
            await asyncio.sleep(60 * min(policy.sweep_interval_minutes for _, policy in self._policies()))
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

    def _policies(self) -> Iterator[tuple[Sequence[str], RetentionPolicy]]:
        """Yield policies with their jobs; no jobs means every job, even those that no host brings any more."""
        yield (), self._default
        for known in self._catalogue.hosts():
            if known.load.retention is not None:
                yield [job.job_id for job in known.load.jobs], known.load.retention

    async def sweep(self) -> int:
        """Delete all releasable history and return the number of runs deleted.

        :raises StoreError: if the store fails; earlier deletions stand, the rest stays for the next sweep
        """
        special = {job_id for job_ids, _ in self._policies() for job_id in job_ids}
        gone = 0
        for job_ids, policy in self._policies():
            if not policy.enabled:
                continue
            if job_ids:
                for job_id in job_ids:
                    gone += await self._prune(job_id, policy)
            elif not special:
                gone += await self._prune("", policy)
            else:
                for job_id in sorted(set(await self._store.job_ids()) - special):
                    gone += await self._prune(job_id, policy)
                if policy.days is not None:
                    before_us = self._clock.now_us() - policy.days * _DAY_US
                    while await self._store.prune_notices(before_us=before_us, limit=_PAGE_RUNS) == _PAGE_RUNS:
                        pass
        return gone

    async def sweep_audit(self) -> int:
        """Delete the audit's rows that are too old and return their number.

        :raises StoreError: if the store fails; earlier deletions stand, the rest stays for the next sweep
        """
        gone = 0
        while self._audit_days is not None:
            before_us = self._clock.now_us() - self._audit_days * _DAY_US
            page = await self._store.prune_audit(before_us=before_us, limit=_PAGE_ROWS)
            gone += page
            if page < _PAGE_ROWS:
                break
        return gone

    async def _prune(self, job_id: str, policy: RetentionPolicy) -> int:
        before_us = None if policy.days is None else self._clock.now_us() - policy.days * _DAY_US
        if before_us is None and policy.keep_last_per_job is None:
            return 0
        gone = 0
        while True:
            page = await self._store.prune(
                job_id=job_id,
                keep_runs=policy.keep_last_per_job,
                before_us=before_us,
                limit=_PAGE_RUNS,
                proofs_after_us=self._clock.now_us() - _DAY_US,
            )
            gone += page
            if page < _PAGE_RUNS:
                break
        return gone
