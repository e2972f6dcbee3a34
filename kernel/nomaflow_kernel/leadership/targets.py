"""The targets of calls, for the guard: what a job id, a run id or a host's name stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nomaflow_kernel.access.grants import Target
from nomaflow_kernel.access.guard import RunFacts
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.port import RunSubject, Store
from nomaflow_kernel.hosts import SessionRegistry
from nomaflow_kernel.rpc.catalogue_calls import target_of

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
        """Return what each job of the catalogue stands for."""
        return map(target_of, self._catalogue.jobs())

    def knows_host(self, host: str) -> bool:
        """Return whether there is a host of a name."""
        return bool(self._sessions.of_host(host)) or any(each.host == host for each in self._catalogue.hosts())

    async def runs(self, run_ids: Sequence[str]) -> Mapping[str, RunFacts]:
        """Return the job of each run that there is, and who triggered it, by run id."""
        subjects = await self._store.run_subjects([each for each in run_ids if is_run_id(each)])
        return {each.run_id: (self._of_run(each), each.author) for each in subjects}

    def _of_run(self, subject: RunSubject) -> Target:
        job = self.job(subject.job_id)
        return Target(job_id=subject.job_id, host=subject.host, tags=() if job is None else job.tags)
