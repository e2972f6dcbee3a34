"""The catalogue in memory: all known jobs, valid or not, and the host of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nomaflow_project.jobs.callables import check_keys, kind_of, refuse_params
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.load import CatalogueLoad, LoadedJob
from nomaflow_project.reading.problems import Problem

__all__ = ["Catalogue", "CatalogueChange", "HostCatalogue", "Job", "why_kept"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job of the catalogue.

    :param loaded: the job as its file and its host's code make it
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
        """The host that runs it; ``loaded.host`` is the one that brought it."""
        definition = self.loaded.definition
        return (definition.host if definition is not None else "") or self.loaded.host

    @property
    def key(self) -> tuple[str, str]:
        """Its place in the order of all jobs: by id; of one id, the job that owns it before those that do not."""
        return self.job_id, f"2{self.loaded.host}" if self.foreign else "1"

    @property
    def definition(self) -> JobDefinition | None:
        """The job's definition, None if it is malformed."""
        return self.loaded.definition

    @property
    def valid(self) -> bool:
        """True if it has a usable definition, and its host owns the id."""
        return self.loaded.valid and not self.foreign

    @property
    def runnable(self) -> bool:
        """True if a run of it may start."""
        return self.valid and not self.removed

    @property
    def why_not_valid(self) -> str:
        """The first error of the job, in one sentence; empty if it has none."""
        return next((problem.message for problem in self.loaded.problems if problem.is_error), "")

    @property
    def why_kept(self) -> str:
        """The reason why the last good definition serves instead of the one in the job's file; empty if it does not."""
        return why_kept(self.loaded) if self.loaded.kept else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCatalogue:
    """The manifest and jobs that a host introduced last."""

    host: str
    digest: str = ""
    introduced_at_us: int = 0
    manifest: Mapping[str, Any] = field(default_factory=dict)
    load: CatalogueLoad = field(default_factory=CatalogueLoad)


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
    """All jobs, in memory. A job id belongs to the host that first brought it, until that host is forgotten."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._jobs: dict[str, Job] = {}
        self._foreign: dict[tuple[str, str], Job] = {}
        self._hosts: dict[str, HostCatalogue] = {}

    def job(self, job_id: str) -> Job | None:
        """Return the job that owns the id, even a malformed or removed one; None if the id is unknown."""
        return self._jobs.get(job_id)

    def jobs(self, *, after: tuple[str, ...] | None = None) -> list[Job]:
        """Return all jobs by id, foreign ones after the job that owns the id.

        :param after: only those whose key comes later
        """
        jobs = [*self._jobs.values(), *self._foreign.values()]
        found = sorted(jobs, key=lambda job: job.key)
        return found if after is None else found[bisect_right(found, after, key=lambda job: job.key) :]

    def ids(self) -> Collection[str]:
        """Return the ids of all jobs, malformed and removed ones too."""
        return self._jobs.keys()

    def hosts(self) -> Sequence[HostCatalogue]:
        """Return each host's catalogue, sorted by name; the kernel's own file has an empty name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def file_problems(self) -> Sequence[Problem]:
        """Return the problems of whole files, which belong to no job."""
        return [problem for known in self.hosts() for problem in known.load.problems]

    def kind_of(self, host: str, callable: str) -> str:
        """Return ``"async"`` or ``"sync"``; ``"async"`` if the callable is unknown."""
        return kind_of(self._manifest(host), callable)

    def max_parallel(self, host: str) -> int | None:
        """Return how many steps a host runs at once, over all its instances; None for no such limit."""
        bound = self._manifest(host).get("max_parallel")
        return bound if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0 else None

    def check_keys(
        self, host: str, callable: str, keys: Collection[str], given: Collection[str]
    ) -> tuple[str | None, list[str]]:
        """Return why keys of op_kwargs are refused, or None, and a warning for each key that is ignored.

        :param given: all keys given, over all layers
        """
        return check_keys(callable, self._manifest(host), keys, given)

    def refuse_params(
        self, host: str, definition: JobDefinition, params: Collection[str], enabled_steps: Collection[str]
    ) -> str | None:
        """Return why a run param is refused: no enabled step's callable takes it.

        None if all are accepted, or if the callables are unknown.
        """
        manifest = self._manifest(host)
        return refuse_params(definition, manifest, params, enabled_steps) if manifest else None

    def _manifest(self, host: str) -> Mapping[str, Any]:
        known = self._hosts.get(host)
        return {} if known is None else known.manifest

    def own(self, job_ids: Iterable[str], host: str) -> None:
        """Make a host the owner of ids, as it was before a restart."""
        self._owners.update(dict.fromkeys(job_ids, host))

    def take_in(self, catalogue: HostCatalogue) -> CatalogueChange:
        """Replace all jobs of a host with the given ones; jobs whose ids belong to other hosts come in disabled."""
        host, load = catalogue.host, catalogue.load
        self._hosts[host] = catalogue
        before = {job_id: entry for job_id, entry in self._jobs.items() if entry.loaded.host == host}
        after: dict[str, Job] = {}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        for job in load.jobs:
            owner = self._owners.get(job.job_id, host)
            if owner != host:
                self._foreign[job.job_id, host] = Job(loaded=job, foreign=True)
            elif job.job_id not in after:
                after[job.job_id] = Job(loaded=job)
        removed = {job_id: entry for job_id, entry in before.items() if job_id not in after}
        self._owners.update(dict.fromkeys(after, host))
        self._jobs.update(after)
        self._jobs.update({job_id: replace(entry, removed=True) for job_id, entry in removed.items()})
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

    def drop(self, host: str) -> CatalogueChange:
        """Drop a host's jobs and release its ids; a job of another host that claimed such an id takes it."""
        self._hosts.pop(host, None)
        gone = tuple(job_id for job_id, entry in self._jobs.items() if entry.loaded.host == host)
        self._owners = {job_id: owner for job_id, owner in self._owners.items() if owner != host}
        self._jobs = {job_id: entry for job_id, entry in self._jobs.items() if entry.loaded.host != host}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        taken = []
        for (job_id, waiting), entry in list(self._foreign.items()):
            if job_id not in self._owners:
                self._owners[job_id] = waiting
                self._jobs[job_id] = Job(loaded=_without_owner_problem(entry.loaded))
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


def why_kept(job: LoadedJob) -> str:
    """Return in one sentence why a job keeps its last good definition, and how to fix that."""
    problem = next(problem for problem in job.problems if problem.is_error)
    place = f"{problem.place}, {problem.path}" if problem.path else problem.place
    reload = f"nomaflow reload {job.host}".strip()
    return (
        f"job {job.job_id!r} keeps its last good definition: {place}: {problem.message}; "
        f"correct the file, then `{reload}`"
    )
