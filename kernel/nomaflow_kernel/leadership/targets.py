"""The targets of calls, for the guard: what a job id, a run id or a host's name stands for."""

from __future__ import annotations

from nomaflow_kernel.access.grants import Target
from nomaflow_kernel.access.guard import RunFacts
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.history.ids import is_run_id
from nomaflow_kernel.history.port import Store
from nomaflow_kernel.hosts import SessionRegistry

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
        if job is None:
            return None
        tags = () if job.definition is None else tuple(job.definition.tags)
        return Target(job_id=job_id, host=job.host, tags=tags)

    def knows_host(self, host: str) -> bool:
        """Return whether there is a host of a name."""
        return bool(self._sessions.of_host(host)) or any(each.host == host for each in self._catalogue.hosts())

    async def run(self, run_id: str) -> RunFacts | None:
        """Return the job of a run and who triggered it; None if there is no such run."""
        found = await self._store.run_details([run_id]) if is_run_id(run_id) else ()
        if not found:
            return None
        run = found[0].run
        job = self.job(run.job_id)
        return Target(job_id=run.job_id, host=run.host, tags=() if job is None else job.tags), run.trigger.by
