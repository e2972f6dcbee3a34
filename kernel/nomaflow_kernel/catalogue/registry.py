"""The catalogue: all known jobs, valid or not, and the host of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.load import CatalogueLoad, LoadedJob

__all__ = ["Catalogue", "CatalogueChange", "CatalogueEntry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueEntry:
    """A job of the catalogue.

    :param host: the host that owns the id
    :param removed: True if the host no longer brings the job: it does not fire and keeps its history
    :param foreign: True for a job whose id belongs to another host; it never runs
    """

    loaded: LoadedJob
    removed: bool = False
    foreign: bool = False

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.loaded.job_id

    @property
    def host(self) -> str:
        """The host that brought it."""
        return self.loaded.host

    @property
    def definition(self) -> JobDefinition | None:
        """The job's definition, None if it is malformed."""
        return self.loaded.definition

    @property
    def runnable(self) -> bool:
        """True if a run of it may start."""
        return self.loaded.valid and not self.removed and not self.foreign


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueChange:
    """The ids that an introduction or a removal changed; each is in only one of the first three fields.

    :param changed: jobs whose definition or problems changed, and removed jobs that are back
    :param disabled: introduced jobs that cannot run, including held and foreign ones
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class Catalogue:
    """All jobs, in memory. A job id belongs to the host that first brought it, until that host is forgotten.

    :param owners: (job id, host) pairs known from earlier, so that ownership outlives a restart
    """

    def __init__(self, *, owners: Iterable[tuple[str, str]] = ()) -> None:
        self._owners: dict[str, str] = dict(owners)
        self._entries: dict[str, CatalogueEntry] = {}
        self._foreign: dict[tuple[str, str], CatalogueEntry] = {}

    def job(self, job_id: str) -> CatalogueEntry | None:
        """Return the job that owns the id, even a malformed or removed one; None if the id is unknown."""
        return self._entries.get(job_id)

    def jobs(self) -> list[CatalogueEntry]:
        """Return all jobs by id, foreign ones after the job that owns the id."""
        entries = [*self._entries.values(), *self._foreign.values()]
        return sorted(entries, key=lambda entry: (entry.job_id, entry.foreign, entry.host))

    def owner(self, job_id: str) -> str | None:
        """Return the host that owns an id, or None."""
        return self._owners.get(job_id)

    def near(self, job_id: str) -> Sequence[str]:
        """Return up to three ids that look like an unknown one."""
        return difflib.get_close_matches(job_id[:128], self._entries, n=3)

    def introduce(self, host: str, load: CatalogueLoad) -> CatalogueChange:
        """Replace all jobs of a host with the given ones; jobs whose ids belong to other hosts come in disabled."""
        before = {job_id: entry for job_id, entry in self._entries.items() if entry.host == host}
        after: dict[str, CatalogueEntry] = {}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        for job in load.jobs:
            owner = self._owners.get(job.job_id, host)
            if owner != host:
                self._foreign[job.job_id, host] = CatalogueEntry(loaded=job, foreign=True)
            elif job.job_id not in after:
                after[job.job_id] = CatalogueEntry(loaded=job)
        removed = {job_id: entry for job_id, entry in before.items() if job_id not in after}
        self._owners.update(dict.fromkeys(after, host))
        self._entries.update(after)
        self._entries.update({job_id: replace(entry, removed=True) for job_id, entry in removed.items()})
        self._explain_foreign()
        return CatalogueChange(
            added=tuple(job_id for job_id in after if job_id not in before),
            changed=tuple(job_id for job_id, entry in after.items() if before.get(job_id, entry) != entry),
            removed=tuple(job_id for job_id, entry in removed.items() if not entry.removed),
            disabled=tuple(
                dict.fromkeys(
                    job.job_id for job in load.jobs if not job.valid or job.held or self._owners[job.job_id] != host
                )
            ),
        )

    def forget(self, host: str) -> CatalogueChange:
        """Drop a host's jobs and release its ids; a job of another host that claimed such an id takes it."""
        gone = tuple(job_id for job_id, entry in self._entries.items() if entry.host == host)
        self._owners = {job_id: owner for job_id, owner in self._owners.items() if owner != host}
        self._entries = {job_id: entry for job_id, entry in self._entries.items() if entry.host != host}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        taken = []
        for (job_id, waiting), entry in list(self._foreign.items()):
            if job_id not in self._owners:
                self._owners[job_id] = waiting
                self._entries[job_id] = CatalogueEntry(loaded=_without_owner_problem(entry.loaded))
                del self._foreign[job_id, waiting]
                taken.append(job_id)
        self._explain_foreign()
        return CatalogueChange(
            added=tuple(job_id for job_id in taken if job_id not in gone),
            changed=tuple(job_id for job_id in taken if job_id in gone),
            removed=tuple(job_id for job_id in gone if job_id not in taken),
        )

    def _explain_foreign(self) -> None:
        """Give every foreign job the problem that names the present owner of its id."""
        for at, entry in self._foreign.items():
            owner, job = self._owners[at[0]], _without_owner_problem(entry.loaded)
            problem = (job.place / "id").error(
                _OWNED, f"the id {job.job_id!r} belongs to the host {owner!r}", fix=_release(owner)
            )
            self._foreign[at] = replace(entry, loaded=job.with_problem(problem))


_OWNED = "id_of_another_host"


def _release(owner: str) -> str:
    return (
        f'rename the job; where this host was called {owner!r}, give it that name again, [host] name = "{owner}" in '
        f"nomaflow.toml; where that one is gone for good: nomaflow hosts forget {owner}"
    )


def _without_owner_problem(job: LoadedJob) -> LoadedJob:
    return replace(job, problems=tuple(problem for problem in job.problems if problem.code != _OWNED))
