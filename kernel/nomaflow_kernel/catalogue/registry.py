"""The catalogue in memory: all known jobs, valid or not, and the host of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Self

from msgspec import Struct, field, structs

from nomaflow_api.bounds import IDS_OF_HOST
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.jobs_for_other_hosts import FOREIGN_IMAGE, NOT_OFFERED, UNACCEPTED, objection
from nomaflow_kernel.catalogue.served import ServedManifests, names_in_manifest
from nomaflow_kernel.catalogue.wording import called, way_to_release
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.jobs.text_forms import is_job_id
from nomaflow_project.reading.problems import Problem

_ACCESS_REVOKED = "access_revoked"
_REMOVED_KEPT = 1_000
"""The removed jobs of a host that are known, those that went last: a project may have new ids with each release."""


class HostCatalogue(Struct, frozen=True, kw_only=True):
    """The manifest and jobs that a host introduced last."""

    host: str
    digest: str = ""
    introduced_at_us: int = 0
    manifest: Mapping[str, Any] = field(default_factory=dict)
    load: CatalogueLoad = field(default_factory=CatalogueLoad)

    @property
    def invalid(self) -> list[str]:
        """The ids of its jobs that cannot run; a second table with the id of a job does not count."""
        valid = {job.job_id for job in self.load.jobs if job.valid}
        return [job.job_id for job in self.load.jobs if job.job_id not in valid]

    @property
    def shut_out(self) -> bool:
        """True if the access of the host was revoked since. No manifest has this digest, so any one replaces it."""
        return self.digest == _ACCESS_REVOKED

    def without_access(self) -> Self:
        """Return the catalogue of the host once its access is revoked: a manifest of any version replaces it."""
        return structs.replace(self, digest=_ACCESS_REVOKED, manifest={**self.manifest, "version": None})


class CatalogueChange(Struct, frozen=True, kw_only=True):
    """The ids that an introduction or a removal changed; each is in only one of the first three fields.

    :param changed: jobs whose definition or problems changed, and removed jobs that are back
    :param disabled: introduced jobs that cannot run, including held and foreign ones
    :param stopped: schedules of jobs that stay, which fire no more: a job's id, or ``id (preset name)``
    :param refused: jobs that are another host's from now on: their ids, or the host that would run them
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    refused: tuple[Job, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.job_ids)

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids of all jobs that changed."""
        return *self.added, *self.changed, *self.removed


class Catalogue:
    """All jobs, in memory. A job id belongs to the host that first brought it, until that host is forgotten.

    From then on it is free: a job that waited for it gets it when its host introduces a manifest again, and not before.

    :param reserved: returns the host that a free id is reserved for; empty for nobody
    """

    def __init__(self, *, reserved: Callable[[str], str] = lambda _: "") -> None:
        self._reserved = reserved
        self._owners: dict[str, str] = {}
        self._jobs: dict[str, Job] = {}
        self._brought: dict[str, tuple[str, ...]] = {}  # a change of one host looks at its own jobs
        self._aiming: set[str] = set()  # and at those that another host runs
        self._foreign: dict[tuple[str, str], Job] = {}
        self._nameless: dict[str, list[Job]] = {}
        self._ordered: list[Job] | None = None
        self._hosts: dict[str, HostCatalogue] = {}
        self._served = ServedManifests()

    def job(self, job_id: str) -> Job | None:
        """Return the job that owns the id, even a malformed or removed one; None if the id is unknown."""
        return self._jobs.get(job_id)

    def definition(self, job_id: str) -> JobDefinition | None:
        """Return the definition of the job that owns the id; None if it is malformed or the id is unknown."""
        job = self._jobs.get(job_id)
        return None if job is None else job.definition

    def jobs(self, *, after: tuple[str, ...] | None = None) -> list[Job]:
        """Return all jobs by id, foreign ones after the job that owns the id; those without an id by their place.

        :param after: only those whose key comes later
        """
        if self._ordered is None:
            others = chain(self._foreign.values(), *self._nameless.values())
            self._ordered = sorted([*self._jobs.values(), *others], key=lambda job: job.key)
        start = 0 if after is None else bisect_right(self._ordered, after, key=lambda job: job.key)
        return self._ordered[start:]

    def ids(self) -> Collection[str]:
        """Return the ids of all jobs, malformed and removed ones too."""
        return self._jobs.keys()

    def foreign_ids(self, host: str) -> list[str]:
        """Return the jobs of a host that are refused because of another one, by id, sorted.

        Their ids belong to the other one, or they name it and it does not accept them.
        """
        return sorted(job_id for job_id, brought_by in self._refused() if brought_by == host)

    def hosts(self) -> Sequence[HostCatalogue]:
        """Return each host's catalogue, sorted by name; the kernel's own file has an empty name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def host(self, name: str) -> HostCatalogue:
        """Return a host's catalogue; an empty one if it has introduced none."""
        return self._hosts.get(name) or HostCatalogue(host=name)

    def manifest(self, host: str) -> Mapping[str, Any]:
        """Return the manifest that a host introduced last; an empty one if it has introduced none."""
        return self.host(host).manifest

    def max_parallel(self, host: str) -> int | None:
        """Return how many steps a host runs at once, over all its instances; None for no such limit."""
        bound = self.manifest(host).get("max_parallel")
        return bound if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0 else None

    def own(self, job_ids: Iterable[str], host: str) -> None:
        """Make a host the owner of ids, as it was before a restart."""
        self._owners.update(dict.fromkeys(job_ids, host))

    def may_own(self, job_id: str, host: str, *, claims: bool) -> bool:
        """Return whether an id is a host's, or free for a host that claims it.

        The kernel's own file is its owner's, who has made the reservations.
        """
        if job_id in self._owners:
            return self._owners[job_id] == host
        return claims and (not host or self._reserved(job_id) in ("", host))

    def ids_of(self, catalogue: HostCatalogue, *, claims: bool) -> list[str]:
        """Return the ids of a catalogue's jobs that are its host's, or free for a host that claims them.

        :raises QuotaExceeded: if too many would be a host's; the kernel's own file is its owner's
        """
        host, ids = catalogue.host, (job.job_id for job in catalogue.load.jobs if is_job_id(job.job_id))
        found = [job_id for job_id in ids if self.may_own(job_id, host, claims=claims)]
        new = sum(job_id not in self._owners for job_id in dict.fromkeys(found))
        if host and new and (owned := new + sum(owner == host for owner in self._owners.values())) > IDS_OF_HOST:
            raise QuotaExceeded(
                f"{owned:,} job ids would be of host {host!r}, those of removed jobs too, expected at most "
                f"{IDS_OF_HOST:,}; stop the host, release them with: nomaflow hosts forget {host}, and start it again"
            )
        return found

    def take_in(self, catalogue: HostCatalogue, *, claims: bool = True) -> CatalogueChange:
        """Replace all jobs of a host with the given ones; jobs whose ids are not the host's come in disabled.

        :param claims: whether free ids become the host's; False for what is only read again
        """
        host, load = catalogue.host, catalogue.load
        self._hosts[host], self._ordered = catalogue, None
        before = {job_id: self._jobs[job_id] for job_id in self._brought.get(host, ())}
        known, known_refused = {**before, **{each: self._jobs[each] for each in self._aiming}}, self._refused()
        after: dict[str, Job] = {}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        # Another host may have one without an id in the same place of a file of the same name.
        self._nameless[host] = []
        for job in load.jobs:
            if not is_job_id(job.job_id):
                self._nameless[host].append(Job(loaded=job, owner=host, foreign=True))
            elif not self.may_own(job.job_id, host, claims=claims):
                self._foreign[job.job_id, host] = Job(loaded=job, foreign=True)
            elif job.job_id not in after:
                after[job.job_id] = _shut_out(job) if catalogue.shut_out else Job(loaded=job, owner=host)
        removed = {job_id: entry for job_id, entry in before.items() if job_id not in after}
        self._owners.update(dict.fromkeys(after, host))
        kept = islice(removed.items(), _REMOVED_KEPT)  # those that went last come first
        self._put(host, {**after, **{job_id: structs.replace(entry, removed=True) for job_id, entry in kept}})
        return CatalogueChange(
            added=tuple(job_id for job_id in after if job_id not in before),
            changed=tuple(each for each, entry in known.items() if each not in removed and self._jobs[each] != entry),
            removed=tuple(job_id for job_id, entry in removed.items() if not entry.removed),
            disabled=tuple(
                dict.fromkeys(
                    job.job_id
                    for job in load.jobs
                    if (entry := after.get(job.job_id)) is None
                    or (entry.loaded is job and (job.held or not self._jobs[job.job_id].valid))
                )
            ),
            stopped=tuple(
                sorted(_fires(each for each in before.values() if each.job_id in after) - _fires(after.values()))
            ),
            refused=tuple(job for at, job in self._refused().items() if at not in known_refused),
        )

    def drop(self, host: str) -> CatalogueChange:
        """Drop a host's jobs and release its ids. No other host gets one this way: only introductions claim ids."""
        known, known_refused = {each: self._jobs[each] for each in self._aiming}, self._refused()
        self._hosts.pop(host, None)
        self._served.forget(host)
        self._nameless.pop(host, None)
        self._ordered = None
        gone = self._brought.get(host, ())
        self._owners = {job_id: owner for job_id, owner in self._owners.items() if owner != host}
        self._foreign = {at: entry for at, entry in self._foreign.items() if at[1] != host}
        self._put(host, {})
        return CatalogueChange(
            changed=tuple(each for each, entry in known.items() if self._jobs.get(each, entry) != entry),
            removed=gone,
            refused=tuple(job for at, job in self._refused().items() if at not in known_refused),
        )

    def _put(self, host: str, jobs: Mapping[str, Job]) -> None:
        """Replace the jobs that a host has brought, and judge anew what depends on other hosts."""
        for job_id in self._brought.get(host, ()):
            del self._jobs[job_id]
            self._aiming.discard(job_id)
        self._jobs.update(jobs)
        self._brought[host] = tuple(jobs)
        self._aiming.update(job_id for job_id, entry in jobs.items() if entry.of_other_host)
        self._explain_foreign()
        self._judge_aims()

    def unaccepted(self) -> list[Job]:
        """Return the jobs that the host that would run them does not accept."""
        return [entry for job_id in sorted(self._aiming) if (entry := self._jobs[job_id]).unaccepted]

    def accepts_calls(self, host: str, other: str) -> bool:
        """Return whether a host says in its nomaflow.toml that jobs of another host may call its own."""
        manifest = self.manifest(host)
        return any(other in names_in_manifest(manifest, key) for key in ("accept_jobs_from", "accept_calls_from"))

    def knows_code(self, host: str, digest: str) -> bool:
        """Return whether a manifest is the host's catalogue, or remembered as one that its instances serve."""
        known = self._hosts.get(host)
        return (known is not None and known.digest == digest) or self._served.get(host, digest) is not None

    def left_out(self, host: str, digest: str) -> list[str]:
        """Return the jobs that a manifest beside the host's catalogue brings and the catalogue does not, sorted."""
        known, served = self._hosts.get(host), self._served.get(host, digest)
        if known is None or known.digest == digest or served is None:
            return []
        brought = {job_id for job_id, _ in served.definitions if (job_id, host) not in self._foreign}
        return sorted(each for each in brought if (job := self._jobs.get(each)) is None or job.removed)

    def may_serve(self, host: str, digest: str, job_id: str, definition_digest: str) -> bool:
        """Return whether an instance that serves a manifest may run a definition of a job.

        One that serves the host's catalogue runs all that its host may run. Any other runs what its own manifest brings
        or accepts: nobody can have a process run a job of a manifest that it does not have. Jobs of the kernel's own
        file are in no manifest.
        """
        known = self._hosts.get(host)
        if known is None or known.digest == digest:
            return True
        job, served = self._jobs.get(job_id), self._served.get(host, digest)
        if job is not None and not job.loaded.host:
            return True
        if served is None:
            return False
        if job is not None and job.of_other_host:
            return job.loaded.host in served.accepts
        return (job_id, definition_digest) in served.definitions

    def _judge_aims(self) -> None:
        """Refuse each job that aims at a host that does not accept it, and let each job run that is accepted again."""
        for job_id in self._aiming:
            entry = self._jobs[job_id]
            job, problem = _without(entry.loaded, UNACCEPTED, NOT_OFFERED, FOREIGN_IMAGE), None
            if entry.definition is not None:
                problem = self.objection(entry, entry.definition)
            if problem is not None:
                # First, so that it is the reason: whatever else is wrong, the host's owner has not allowed it.
                job = replace(job, problems=(problem, *job.problems))
            self._jobs[job_id] = structs.replace(entry, loaded=job, unaccepted=problem is not None)

    def objection(self, job: Job, definition: JobDefinition) -> Problem | None:
        """Return why the host that a job aims at does not run a current or former definition of it; None if it does."""
        known = self._hosts.get(job.host)
        return objection(
            definition,
            job.loaded.place,
            own=job.loaded.host,
            target=job.host,
            manifest=None if known is None else known.manifest,
        )

    def _refused(self) -> dict[tuple[str, str], Job]:
        """Return the jobs that are refused because of another host, by id and the host that brought them."""
        return {**self._foreign, **{(job.job_id, job.loaded.host): job for job in self.unaccepted()}}

    def _explain_foreign(self) -> None:
        """Give every foreign job the problem that names the present owner of its id, or says that it is free."""
        for at, entry in self._foreign.items():
            owner, job = self._owners.get(at[0]), _without(entry.loaded, ID_OF_ANOTHER)
            reserved = self._reserved(at[0]) if owner is None else ""
            if reserved not in ("", at[1]):
                what = f"the id {job.job_id!r} is reserved for the host {reserved!r}"
                fix, owner = (
                    "rename the job; an administrator has given the id to that host with its join string",
                    reserved,
                )
            elif owner is None:
                what = f"the id {job.job_id!r} is free: its host was forgotten, and nobody has claimed it since"
                fix = f"rename the job, or claim the id: nomaflow reload {at[1]}".strip()
            else:
                own = self._jobs.get(at[0])
                fix = way_to_release(owner, removed=own is not None and own.removed)
                what = f"the id {job.job_id!r} belongs to {called(owner)}"
            problem = (job.place / "id").error(ID_OF_ANOTHER, what, fix=fix)
            self._foreign[at] = structs.replace(entry, loaded=job.with_problem(problem), owner=owner or "")


ID_OF_ANOTHER = "id_of_another_host"
REFUSALS = (ID_OF_ANOTHER, UNACCEPTED, NOT_OFFERED, FOREIGN_IMAGE)
"""Codes of the problems of jobs that are refused because of another host."""


def _fires(jobs: Iterable[Job]) -> set[str]:
    """Return the schedules of jobs as people read them, also those of jobs that cannot run: these have a problem."""
    return {name for job in jobs if not job.removed for name in job.loaded.schedule_names()}


def _shut_out(job: LoadedJob) -> Job:
    fix = f"let it join again: nomaflow token create --host {job.host}; or: nomaflow hosts forget {job.host}"
    problem = job.place.error(_ACCESS_REVOKED, f"the access of host {job.host!r} was revoked", fix=fix)
    return Job(loaded=replace(job, problems=(problem, *job.problems)), owner=job.host, shut_out=True)


def _without(job: LoadedJob, *codes: str) -> LoadedJob:
    return replace(job, problems=tuple(problem for problem in job.problems if problem.code not in codes))
