"""The targets of calls, for the guard: what a job id, a run id or a host's name stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nomaflow_kernel.access.grants import Target
from nomaflow_kernel.access.guard import RunFacts
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.hosts import SessionRegistry
from nomaflow_kernel.rpc.job_pages import target_of
from nomaflow_kernel.store import Store

__all__ = ["Targets"]


class Targets:
    """Finds the targets of calls in the catalogue, the sessions and the store."""

    def __init__(self, *, catalogue: CatalogueService, sessions: SessionRegistry, store: Store) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._store = store

    def job(self, job_id: str) -> Target | None:
        """Return what a job id stands for; None if there is no such job."""
        job = self._catalogue.job(job_id)
        return None if job is None else target_of(job)

    def jobs(self) -> Iterable[Target]:
        """Return the targets of the jobs whose present tags count for their runs; see :meth:`run`."""
        return (target_of(job) for job in self._catalogue.jobs() if not (job.foreign or job.unaccepted))

    def run(self, job_id: str, host: str) -> Target:
        """Return the target that a run stands for, from its job and the host that ran it.

        The job's present tags count only if it still belongs to that host: a host that brings a job now does not open
        what others have run under its id.
        """
        job = self._catalogue.job(job_id)
        tags = () if job is None or job.unaccepted or job.host != host else target_of(job).tags
        return Target(job_id=job_id, host=host, tags=tags)

    def knows_host(self, host: str) -> bool:
        """Return whether there is a host of a name."""
        return bool(self._sessions.of_host(host)) or any(each.host == host for each in self._catalogue.hosts())

    async def runs(self, run_ids: Sequence[str]) -> Mapping[str, RunFacts]:
        """Return the job of each run that there is, and who triggered it, by run id."""
        subjects = await self._store.run_subjects([each for each in run_ids if is_run_id(each)])
        return {each.run_id: (self.run(each.job_id, each.host), each.author) for each in subjects}
