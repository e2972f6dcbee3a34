"""The catalogue of a running kernel: stored, answered from memory, and announced to its subscribers."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from nomaflow_kernel.catalogue import (
    Catalogue,
    CatalogueChange,
    CatalogueEntry,
    checked_here,
    keep_load,
    read_kept_load,
)
from nomaflow_kernel.domain.clock import Clock, from_us
from nomaflow_kernel.engine.commands import KnownJob
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.port import HostManifest, Store
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.store.errors import StoreError
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.jobs.callables import check_keys, kind_of, refuse_params
from nomaflow_project.jobs.definitions import JobDefinition, is_job_id
from nomaflow_project.jobs.load import CatalogueLoad, LoadedJob, load_manifest
from nomaflow_project.reading.files import parse_toml_file
from nomaflow_project.reading.problems import Problem

__all__ = ["CatalogueService", "HostCatalogue", "next_fires"]

_LOG = logging.getLogger(__name__)
_OWN_FILE = ""
"""The host name of the jobs in the kernel's own file."""
_KEPT_LOAD = "kept_load"
"""The key of a stored manifest under which the result of loading its jobs is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCatalogue:
    """The manifest and jobs that a host introduced last."""

    host: str
    digest: str = ""
    introduced_at_us: int = 0
    manifest: Mapping[str, Any] = field(default_factory=dict)
    load: CatalogueLoad = field(default_factory=CatalogueLoad)


class CatalogueService:
    """All jobs of a kernel. Answers come from memory; changes are stored first.

    :param jobs_file: a jobs.toml that the kernel itself reads, or None
    """

    def __init__(self, *, store: Store, clock: Clock, feed: EventFeed, jobs_file: Path | None = None) -> None:
        self._store = store
        self._clock = clock
        self._feed = feed
        self._jobs_file = jobs_file
        self._catalogue = Catalogue()
        self._hosts: dict[str, HostCatalogue] = {}
        self._known: dict[str, KnownJob] = {}
        self._listeners: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call a listener after every change."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read the stored catalogue, then the kernel's own file."""
        kept = await self._store.manifests()
        if self._jobs_file is None and any(item.host == _OWN_FILE for item in kept):
            # Started without the file it once had: its jobs are gone and their ids are free.
            gone = await self._store.forget_host(_OWN_FILE)
            _LOG.warning("no jobs file is named, and there was one; its jobs are gone: %s", ", ".join(gone) or "none")
            kept = [item for item in kept if item.host != _OWN_FILE]
        self._catalogue = Catalogue(owners=[(job_id, item.host) for item in kept for job_id in item.owned_job_ids])
        for item in kept:
            known = await self._read(item)
            self._catalogue.introduce(item.host, known.load)
            self._hosts[item.host] = known
        await self.reload_jobs_file()
        self._announce()

    async def _read(self, item: HostManifest) -> HostCatalogue:
        """Return the stored catalogue of a host; check it again and store the result if other code checked it.

        Jobs that the other code found valid stay: stricter checks are not a decision of a job's owner.
        """
        manifest = dict(item.manifest)
        kept = manifest.pop(_KEPT_LOAD)
        load = read_kept_load(kept)
        if not checked_here(kept):
            load = await asyncio.to_thread(load_manifest, manifest, before=load)
            _tell_kept(load)
            try:
                await self._keep(item.host, item.digest, manifest, load, explicit=True, at_us=item.introduced_at_us)
            except StoreError as error:
                _LOG.warning("the jobs of host %r will be checked again at the next start: %s", item.host, error)
        return HostCatalogue(
            host=item.host, digest=item.digest, introduced_at_us=item.introduced_at_us, manifest=manifest, load=load
        )

    async def _keep(
        self, host: str, digest: str, manifest: Mapping[str, Any], load: CatalogueLoad, *, explicit: bool, at_us: int
    ) -> bool:
        return await self._store.introduce_manifest(
            host,
            digest=digest,
            manifest={**manifest, _KEPT_LOAD: keep_load(load)},
            job_ids=[job.job_id for job in load.jobs if is_job_id(job.job_id)],
            explicit=explicit,
            at_us=at_us,
        )

    @property
    def jobs_file(self) -> Path | None:
        """The jobs.toml that the kernel itself reads, or None."""
        return self._jobs_file

    async def reload_jobs_file(self) -> CatalogueLoad | None:
        """Read the kernel's own file, if it has one, and return the load.

        The jobs are announced, and stored if the file changed.
        """
        if self._jobs_file is None:
            return None
        file = replace(await asyncio.to_thread(parse_toml_file, self._jobs_file, environ=os.environ), main=True)
        manifest = {"host": _OWN_FILE, "job_files": [file.to_json()]}
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        digest = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        async with self._changing:
            before = self._hosts.get(_OWN_FILE)
            load = await self._load(_OWN_FILE, manifest)
            same = before is not None and before.digest == digest
            now = self._clock.now_us()
            if not same:
                try:
                    await self._keep(_OWN_FILE, digest, manifest, load, explicit=True, at_us=now)
                except StoreError as error:
                    _LOG.warning("the jobs of %s hold, and could not be kept: %s", file.path, error)
                    digest = ""
            at_us = before.introduced_at_us if same and before is not None else now
            self._hosts[_OWN_FILE] = HostCatalogue(
                host=_OWN_FILE, digest=digest, introduced_at_us=at_us, manifest=manifest, load=load
            )
            await self._changed(_OWN_FILE, self._catalogue.introduce(_OWN_FILE, load))
        for problem in (*load.problems, *(each for job in load.jobs if not job.kept for each in job.problems)):
            _LOG.log(logging.ERROR if problem.is_error else logging.WARNING, "%s", problem)
        _tell_kept(load)
        return load

    async def _load(self, host: str, manifest: Mapping[str, Any]) -> CatalogueLoad:
        """Return a manifest's jobs, with the last good definition of each broken job that nobody clearly removed."""
        before = self._hosts.get(host)
        return await asyncio.to_thread(load_manifest, manifest, before=None if before is None else before.load)

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
            if loaded_at_us > known.introduced_at_us and known.digest not in served:
                return False
        return await self._store.knows_digest(host, digest)

    async def introduce(
        self, host: str, *, digest: str, manifest: Mapping[str, Any], explicit: bool
    ) -> tuple[bool, Sequence[str]]:
        """Keep a manifest; return whether it is now the host's catalogue, and the ids of its disabled jobs."""
        known = self._hosts.get(host)
        if not explicit and known is not None and known.digest == digest:
            return True, [job.job_id for job in known.load.jobs if not job.valid]
        async with self._changing:
            load = await self._load(host, manifest)
            now = self._clock.now_us()
            if not await self._keep(host, digest, manifest, load, explicit=explicit, at_us=now):
                return False, [job.job_id for job in load.jobs if not job.valid]
            _tell_kept(load)
            change = self._catalogue.introduce(host, load)
            self._hosts[host] = HostCatalogue(
                host=host, digest=digest, introduced_at_us=now, manifest=manifest, load=load
            )
            await self._changed(host, change, digest=digest)
        return True, change.disabled

    async def forget(self, host: str) -> Sequence[str]:
        """Drop a host and return the job ids that this frees."""
        async with self._changing:
            released = await self._store.forget_host(host)
            self._hosts.pop(host, None)
            await self._changed(host, self._catalogue.forget(host))
        return sorted(released)

    def job(self, job_id: str) -> KnownJob | None:
        """Return the job, even a malformed or removed one; None if the id is unknown."""
        known = self._known.get(job_id)
        if known is None:
            entry = self._catalogue.job(job_id)
            if entry is None:
                return None
            known = self._known[job_id] = _known_job(entry)
        return known

    def jobs(self) -> Iterator[KnownJob]:
        """Yield the job of every id, sorted by id."""
        for entry in self._catalogue.jobs():
            if not entry.foreign:
                known = self.job(entry.job_id)
                if known is not None:
                    yield known

    def entries(self) -> Sequence[CatalogueEntry]:
        """Return every job with its problems, foreign ones included, sorted by id."""
        return self._catalogue.jobs()

    def entry(self, job_id: str) -> CatalogueEntry | None:
        """Return the job of an id with its problems, or None."""
        return self._catalogue.job(job_id)

    def near(self, job_id: str) -> Sequence[str]:
        """Return known ids that look like an unknown one."""
        return self._catalogue.near(job_id)

    def hosts(self) -> Sequence[HostCatalogue]:
        """Return each host's catalogue, sorted by name; the kernel's own file has an empty name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def file_problems(self) -> Sequence[Problem]:
        """Return the problems of whole files, which belong to no job."""
        return [problem for known in self.hosts() for problem in known.load.problems]

    def kind_of(self, host: str, callable: str) -> str:
        """Return ``"async"`` or ``"sync"``; ``"async"`` if the callable is unknown."""
        known = self._hosts.get(host)
        return "async" if known is None else kind_of(known.manifest, callable)

    def max_parallel(self, host: str) -> int | None:
        """Return how many steps a host runs at once, over all its instances; None for no such limit."""
        known = self._hosts.get(host)
        bound = known.manifest.get("max_parallel") if known is not None else None
        return bound if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0 else None

    def check_keys(
        self, job: KnownJob, callable: str, keys: Collection[str], given: Collection[str]
    ) -> tuple[str | None, list[str]]:
        """Return why keys of op_kwargs are refused, or None, and a warning for each key that is ignored."""
        known = self._hosts.get(job.host)
        return (None, []) if known is None else check_keys(callable, known.manifest, keys, given)

    def refuse_params(self, job: KnownJob, params: Collection[str], enabled_steps: Collection[str]) -> str | None:
        """Return why run params are refused; None if all are accepted, or if the callables are unknown."""
        known = self._hosts.get(job.host)
        if job.definition is None or known is None or not known.manifest:
            return None
        return refuse_params(job.definition, known.manifest, params, enabled_steps)

    async def _changed(self, host: str, change: CatalogueChange, *, digest: str = "") -> None:
        """Announce a change and write its events. The change itself is done: a failing store costs only the events."""
        self._announce()
        now = self._clock.now_us()
        notices = [
            Notice(kind="job.changed", at_us=now, job_id=job_id, host=host, data={"change": kind})
            for kind, job_ids in (("added", change.added), ("changed", change.changed), ("removed", change.removed))
            for job_id in job_ids
        ]
        if digest:
            data = {"digest": digest, "disabled_job_ids": list(change.disabled)}
            notices.append(Notice(kind="host.manifest", at_us=now, host=host, data=data))
        if not notices:
            return
        try:
            result = await self._store.apply(notices, at_us=now)
        except StoreError as error:
            _LOG.warning("the catalogue of host %r changed, and its events could not be kept: %s", host, error)
        else:
            self._feed.publish(result.events)

    def _announce(self) -> None:
        self._known.clear()
        for listener in self._listeners:
            listener()


def next_fires(definition: JobDefinition, *, after_us: int, limit: int) -> list[tuple[datetime, str]]:
    """Return the next fires, earliest first, each with its preset (empty for the job's own schedule)."""
    after = from_us(after_us)
    merged = heapq.merge(*(_fires(schedule.expression, schedule.timezone, schedule.preset, after)
                           for schedule in definition.schedules()))  # fmt: skip
    return list(islice(merged, limit))


def _fires(expression: str, timezone: str, preset: str, after: datetime) -> Iterator[tuple[datetime, str]]:
    try:
        for at in CronExpression.parse(expression).iter_after(after, zone(timezone)):
            yield at, preset
    except CronError as error:  # an older version's snapshot, or a zone that the machine no longer has
        _LOG.debug("no next fire of %r: %s", expression, error)


def _known_job(entry: CatalogueEntry) -> KnownJob:
    definition, loaded = entry.definition, entry.loaded
    why = next((problem.message for problem in loaded.problems if problem.is_error), "")
    return KnownJob(
        job_id=entry.job_id,
        host=(definition.host if definition is not None else "") or entry.host,
        definition=definition,
        valid=loaded.valid and not entry.foreign,
        removed=entry.removed,
        enabled=loaded.enabled,
        why_invalid=why,
        why_kept=_why_kept(loaded) if loaded.kept else "",
        why_held=loaded.held,
    )


def _why_kept(job: LoadedJob) -> str:
    """Return in one sentence why a job keeps its last good definition, and how to fix that."""
    problem = next(problem for problem in job.problems if problem.is_error)
    place = f"{problem.place}, {problem.path}" if problem.path else problem.place
    reload = f"nomaflow reload {job.host}".strip()
    return (
        f"job {job.job_id!r} keeps its last good definition: {place}: {problem.message}; "
        f"correct the file, then `{reload}`"
    )


def _tell_kept(load: CatalogueLoad) -> None:
    """Log which jobs keep their last good definition, and which of those cannot run anyway."""
    kept, held = [job for job in load.jobs if job.kept], [job for job in load.jobs if job.held]
    if kept:
        names = ", ".join(job.job_id for job in kept)
        _LOG.warning("keeping the last good definitions of: %s; %s", names, _why_kept(kept[0]))
    if held:
        names = ", ".join(job.job_id for job in held)
        _LOG.error("jobs that cannot run but stay scheduled: %s; %s", names, held[0].held)
