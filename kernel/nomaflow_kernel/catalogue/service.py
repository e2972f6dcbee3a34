"""The catalogue of a running kernel: stored, answered from memory, and announced to its subscribers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from nomaflow_api.bounds import CATALOGUE_BYTES, MANIFEST_SECONDS
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.own_file import OWN_FILE, own_manifest, read_own_file
from nomaflow_kernel.catalogue.registry import ID_OF_ANOTHER, REFUSALS, Catalogue, CatalogueChange, HostCatalogue
from nomaflow_kernel.catalogue.served import ServedManifest
from nomaflow_kernel.catalogue.stored_load import StoredManifests, with_load
from nomaflow_kernel.catalogue.wording import losses, removal, texts_without_owner, why_kept
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import BadRequest, QuotaExceeded, StaleSession
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import HostManifest
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.jobs.loaded import CatalogueLoad
from nomaflow_project.reading.files import JobFile
from nomaflow_project.reading.work_time import OutOfTime, working_time

_LOG = logging.getLogger(__name__)
_CHECKS = 2
"""The most manifests checked at once: each has a thread, which takes its share of the processor."""
_LOGGED, _NAMED = 20, 50
"""The most refused jobs that the log names for one change, and the most removed ones that its event names."""


class CatalogueService(Catalogue):
    """All jobs of a kernel. Answers come from memory; changes are stored first.

    :param jobs_file: a jobs.toml that the kernel itself reads, or None
    :param reserved: returns the host that a free job id is reserved for; empty for nobody
    :param stored: reads the stored manifests, which it may have read ahead
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        feed: EventFeed,
        jobs_file: Path | None = None,
        reserved: Callable[[str], str] = lambda _: "",
        stored: StoredManifests | None = None,
    ) -> None:
        super().__init__(reserved=reserved)
        self.jobs_file = jobs_file
        self._store = store
        self._clock = clock
        self._feed = feed
        self._stored = stored or StoredManifests(store)
        self._listeners: list[Callable[[Collection[str]], None]] = []
        self._changing = asyncio.Lock()
        self._of_host: dict[str, asyncio.Lock] = {}
        self._bytes: dict[str, int] = {}
        self._removed: set[str] = set()
        self._checks = asyncio.Semaphore(_CHECKS)

    def subscribe(self, listener: Callable[[Collection[str]], None]) -> None:
        """Call a listener after every change, with the ids of the jobs that changed."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read the stored catalogue, then the kernel's own file. Only what is stored says whose an id is."""
        kept = await self._store.manifests()
        for item in kept:
            self.own(item.owned_job_ids, item.host)
        for item in kept:
            self.take_in(await self._read(item), claims=False)
        self._stored.forget()
        own = self._hosts.get(OWN_FILE)
        if self.jobs_file is None and own is not None and not own.load.jobs:
            await self.forget(OWN_FILE)  # its owner has removed all its jobs, and then the file: their ids are free
        await self.reload_jobs_file()

    async def _read(self, item: HostManifest) -> HostCatalogue:
        """Return the stored catalogue of a host; check it again and store the result if other code checked it.

        Jobs that the other code found valid stay: stricter checks are not a decision of a job's owner. All stays as it
        was if checking takes too long.
        """
        known, checked_here = self._stored.read(item)
        if not checked_here:
            try:
                known = replace(known, load=await self._checked(known.host, known.manifest, known.load))
            except BadRequest as error:
                _LOG.error("%s; the earlier result stays in effect", error)
            _tell_kept(known.load)
            try:
                await self._keep(known, explicit=True, claims=False)
            except StoreError as error:
                _LOG.warning("the jobs of host %r will be checked again at the next start: %s", item.host, error)
        return known

    async def _checked(self, host: str, manifest: Mapping[str, Any], before: CatalogueLoad | None) -> CatalogueLoad:
        """Return the jobs of a manifest, checked on a thread.

        :raises BadRequest: if that takes too long
        """
        async with self._checks:
            try:
                with working_time(MANIFEST_SECONDS):
                    return await asyncio.to_thread(load_manifest, manifest, before=before)
            except OutOfTime as error:
                what = f"the manifest of host {host!r}" if host else "the kernel's own jobs file"
                raise BadRequest(
                    f"{what} is refused: {error}; give it fewer jobs or callables", field="manifest_json_zlib"
                ) from None

    async def _keep(self, known: HostCatalogue, *, explicit: bool, claims: bool = True) -> bool:
        job_ids = self.ids_of(known, claims=claims)
        manifest = await asyncio.to_thread(with_load, known.manifest, known.load)  # a second for thousands of jobs
        return await self._store.introduce_manifest(
            known.host,
            digest=known.digest,
            manifest=manifest,
            job_ids=job_ids,
            explicit=explicit,
            at_us=known.introduced_at_us,
        )

    async def reload_jobs_file(self, *, explicit: bool = False) -> CatalogueLoad | None:
        """Read the kernel's own file, if it has one or had one with jobs, and return the load.

        The jobs are announced, and stored if the file changed. The jobs of a file that is no longer named stay.

        :param explicit: whether a person asked for it: ids that became free are claimed even by an unchanged file
        """
        before = self._hosts.get(OWN_FILE)
        if self.jobs_file is None and before is None:
            return None
        file = await asyncio.to_thread(read_own_file, self.jobs_file, {} if before is None else before.manifest)
        try:
            load = await self._take_in_own(file, explicit=explicit)
        except BadRequest as error:
            _LOG.error("%s; what was read before stays in effect", error)
            return None if before is None else before.load
        of_jobs = (each for job in load.jobs if not job.kept for each in job.problems)
        for problem in {str(each): each for each in (*load.problems, *of_jobs)}.values():  # a job has its file's, too
            _LOG.log(logging.ERROR if problem.is_error else logging.WARNING, "%s", problem)
        _tell_kept(load)
        return load

    async def _take_in_own(self, file: JobFile, *, explicit: bool) -> CatalogueLoad:
        digest, manifest = own_manifest(file)
        async with self._loaded(OWN_FILE, digest, manifest) as known:
            before = self._hosts.get(OWN_FILE)
            claims = explicit or before is None or before.digest != digest
            if before is not None and before.digest == digest:
                known = replace(known, introduced_at_us=before.introduced_at_us)
            if claims:
                try:
                    await self._keep(known, explicit=True)
                except StoreError as error:
                    _LOG.warning("the jobs of %s are in effect, but could not be stored: %s", file.path, error)
                    known = replace(known, digest="")
            change = self.take_in(known, claims=claims)
            if change.removed:
                former = "" if before is None else before.manifest["job_files"][0]["path"]
                _LOG.info("%s", removal(file.path, change.removed, former=former))
                self._removed.update(change.removed)
            await self._changed(OWN_FILE, change)
        return known.load

    def removed_from_own_file(self) -> list[str]:
        """Return the jobs that are gone from the kernel's own file, each only once, whichever reading removed it."""
        gone = sorted(job_id for job_id in self._removed if (job := self.job(job_id)) is not None and job.removed)
        self._removed.clear()
        return gone

    @asynccontextmanager
    async def _loaded(self, host: str, digest: str, manifest: Mapping[str, Any]) -> AsyncIterator[HostCatalogue]:
        """Lock the catalogue, once a manifest's jobs are checked against what the host brought before.

        The jobs keep the last good definition of each broken one that nobody clearly removed. Checking takes a while,
        and does not keep other hosts waiting.

        :raises BadRequest: if checking takes too long
        """
        async with self._of_host.setdefault(host, asyncio.Lock()):
            while True:
                before = self._hosts.get(host)
                load = await self._checked(host, manifest, None if before is None else before.load)
                async with self._changing:
                    if self._hosts.get(host) is before:
                        at_us = self._clock.now_us()
                        yield HostCatalogue(
                            host=host, digest=digest, introduced_at_us=at_us, manifest=manifest, load=load
                        )
                        return

    async def knows_manifest(self, host: str, digest: str, *, loaded_at_us: int, served: Collection[str] = ()) -> bool:
        """Return whether an instance brings no news: its manifest is, or once was, the host's catalogue.

        A load newer than the catalogue counts as news even if its manifest was shown before, as after a reverted edit,
        unless another instance serves the catalogue: restarting an instance with older code must not roll it back.

        :param loaded_at_us: when the instance loaded it, by its own clock
        :param served: the digests that other instances of the host serve
        """
        known = self._hosts.get(host)
        if known is not None:
            if known.digest == digest:
                return True
            if known.shut_out or (loaded_at_us > known.introduced_at_us and known.digest not in served):
                return False
        return await self._store.knows_digest(host, digest)

    def disabled_in(self, host: str, digest: str, *, asked: bool, loaded_at_us: int) -> Sequence[str] | None:
        """Return the ids of the disabled jobs of the host's catalogue, if introducing a manifest changes nothing.

        It is the catalogue already. If a person asked for it, nothing may be left to claim, and the catalogue must have
        been introduced since the instance loaded it, as by the first of several instances that a person had reloaded.

        :return: None if it has to be introduced
        """
        known = self._hosts.get(host)
        if known is None or known.digest != digest:
            return None
        if asked and (loaded_at_us > known.introduced_at_us or self.foreign_ids(host)):
            return None
        return known.invalid

    async def introduce(
        self,
        host: str,
        *,
        digest: str,
        manifest: Mapping[str, Any],
        explicit: bool,
        asked: bool = False,
        leads: bool = True,
        size: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[bool, Sequence[str]]:
        """Keep a manifest; return whether it is now the host's catalogue, and the ids of its disabled jobs.

        :param explicit: whether it counts even if its digest was seen before
        :param asked: whether a person asked for it: then it counts even if its version is lower than the catalogue's
        :param leads: False for an instance that runs one attempt: it does not decide which jobs there are
        :param size: its bytes, unpacked
        :param wanted: whether it still counts once it is checked
        :raises StaleSession: if it does not
        :raises BadRequest: if checking it takes too long
        :raises QuotaExceeded: if there is no room for it beside those of the other hosts, or for its new ids
        """
        await self._check_room(host, size)
        async with self._loaded(host, digest, manifest) as known:
            if not wanted():
                raise StaleSession(f"host {host!r} has left before its manifest was checked")
            before = self._hosts.get(host)
            if not explicit and before is not None and before.digest == digest:
                return True, before.invalid  # meanwhile another instance introduced it
            outdated = before is not None and (not leads or (not asked and _is_lower(manifest, before.manifest)))
            if outdated or not await self._keep(known, explicit=explicit):
                await self._remember(known)
                return False, known.invalid
            if before is not None:
                await self._remember(before)
            _tell_kept(known.load)
            change = self.take_in(known)
            await self._changed(host, change, digest=digest)
        return True, change.disabled

    async def _check_room(self, host: str, size: int) -> None:
        unknown = [each for each in self.hosts() if each.host not in self._bytes]
        if unknown:  # those of an earlier kernel
            self._bytes |= await asyncio.to_thread(lambda: {each.host: _size(each.manifest) for each in unknown})
        others = sum(self._bytes[each.host] for each in self.hosts() if each.host != host)
        if others + size > CATALOGUE_BYTES:
            raise QuotaExceeded(
                f"the manifest of host {host!r} has {size:,} bytes and those of the other hosts {others:,}, "
                f"expected at most {CATALOGUE_BYTES:,} together; forget hosts that are gone: nomaflow hosts forget NAME"
            )
        self._bytes[host] = size

    async def _remember(self, known: HostCatalogue) -> None:
        """Remember a manifest that is not the catalogue: there may be instances that serve it."""
        served = await asyncio.to_thread(ServedManifest.of, known.load, known.manifest)
        self._served.keep(known.host, known.digest, served)

    async def forget(self, host: str, *, by: str = "") -> Sequence[str]:
        """Drop a host and return the job ids that this frees.

        :param by: who asks for it
        """
        async with self._changing:
            forgotten = await self._store.forget_host(host, at_us=self._clock.now_us(), by=by)
            self._feed.publish(forgotten.events)
            self._bytes.pop(host, None)
            await self._changed(host, self.drop(host))
        return sorted(forgotten.job_ids)

    async def shut_out(self, host: str) -> None:
        """Take the jobs of a host whose access was revoked off their schedules, until it introduces a manifest again.

        :raises StoreError: if that cannot be stored; it holds until the kernel's next start
        """
        async with self._changing:
            known = self._hosts.get(host)
            if known is None:
                return
            change = self.take_in(known.without_access(), claims=False)
            _LOG.warning("the access of host %r was revoked: its jobs are disabled", host)
            await self._changed(host, change)
            await self._keep(self._hosts[host], explicit=True, claims=False)

    async def _changed(self, host: str, change: CatalogueChange, *, digest: str = "") -> None:
        """Announce a change and write its events. The change itself is done: a failing store costs only the events."""
        for listener in self._listeners:
            listener(change.job_ids)
        notices = [
            Notice(kind="job.changed", job_id=job_id, host=host, data={"change": kind})
            for kind, job_ids in (("added", change.added), ("changed", change.changed), ("removed", change.removed))
            for job_id in job_ids
        ]
        notices += [
            Notice(kind="job.refused", job_id=job.job_id, host=job.loaded.host, data={"why": _refusal(job)})
            for job in change.refused
        ]
        for job in change.refused[:_LOGGED]:
            _LOG.warning("job %s of host %s is disabled: %s", job.job_id, job.loaded.host, _refusal(job))
        if len(change.refused) > _LOGGED:
            _LOG.warning("%d more jobs are disabled: nomaflow jobs --all", len(change.refused) - _LOGGED)
        if digest:
            for text in losses(host, change.removed, change.stopped):
                _LOG.info("%s", text)
            removed, stopped = list(change.removed[:_NAMED]), list(change.stopped[:_NAMED])
            data = {"disabled_job_ids": list(change.disabled), "removed_job_ids": removed, "stopped_schedules": stopped}
            notices.append(Notice(kind="host.manifest", host=host, data={"digest": digest, **data}))
        if not notices:
            return
        try:
            result = await self._store.apply(notices, at_us=self._clock.now_us())
        except StoreError as error:
            _LOG.warning("the catalogue of host %r changed, but its events could not be stored: %s", host, error)
        else:
            self._feed.publish(result.events)


def _size(manifest: Mapping[str, Any]) -> int:
    return len(json.dumps(manifest, separators=(",", ":")))


def _refusal(job: Job) -> str:
    """Return why a job is refused because of another host."""
    problem = next(each for each in job.loaded.problems if each.code in REFUSALS)
    texts = (problem.message, problem.fix)
    return "; ".join(texts_without_owner(job.job_id) if problem.code == ID_OF_ANOTHER else texts)


def _is_lower(manifest: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Return whether both manifests have a version, and the first one's is lower."""
    mine, others = manifest.get("version"), than.get("version")
    return isinstance(mine, int) and isinstance(others, int) and mine < others


def _tell_kept(load: CatalogueLoad) -> None:
    """Log which jobs keep their last good definition, and which of those cannot run anyway."""
    kept, held = [job for job in load.jobs if job.kept], [job for job in load.jobs if job.held]
    if kept:
        names = ", ".join(job.job_id for job in kept)
        _LOG.warning("keeping the last good definitions of: %s; %s", names, why_kept(kept[0]))
    if held:
        names = ", ".join(job.job_id for job in held)
        _LOG.error("jobs that cannot run but stay scheduled: %s; %s", names, held[0].held)
