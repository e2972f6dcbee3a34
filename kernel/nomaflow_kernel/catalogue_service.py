"""The catalogue of a running kernel: kept in the store, answered from memory, told to those who depend on it."""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from nomaflow_kernel.catalogue import (
    Catalogue,
    CatalogueChange,
    CatalogueEntry,
    CatalogueLoad,
    Problem,
    kind_of,
    load_job_files,
    load_manifest,
    parse_toml_file,
    refuse_params,
)
from nomaflow_kernel.domain.clock import Clock, from_us
from nomaflow_kernel.domain.cron import CronError, CronExpression, zone
from nomaflow_kernel.domain.ids import is_job_id
from nomaflow_kernel.domain.jobs import JobDefinition
from nomaflow_kernel.domain.transitions import Notice
from nomaflow_kernel.feed import EventFeed
from nomaflow_kernel.ports import Store
from nomaflow_kernel.runs.api import KnownJob
from nomaflow_kernel.store.errors import StoreError

__all__ = ["CatalogueService", "HostCatalogue", "next_fires"]

_LOG = logging.getLogger(__name__)
_OWN_FILE = ""
"""The host name under which jobs of the kernel's own file are known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCatalogue:
    """What a host brings, as last introduced."""

    host: str
    digest: str = ""
    introduced_at_us: int = 0
    manifest: Mapping[str, Any] = field(default_factory=dict)
    load: CatalogueLoad = field(default_factory=CatalogueLoad)


class CatalogueService:
    """All jobs of a kernel. Answers come from memory; changes are kept in the store first.

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
        """Have a listener called after every change."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read what hosts have introduced before, then the kernel's own file."""
        kept = await self._store.manifests()
        self._catalogue = Catalogue(owners=[(job_id, item.host) for item in kept for job_id in item.owned_job_ids])
        for item in kept:
            load = await asyncio.to_thread(load_manifest, item.manifest)
            self._catalogue.introduce(item.host, load)
            self._hosts[item.host] = HostCatalogue(
                host=item.host,
                digest=item.digest,
                introduced_at_us=item.introduced_at_us,
                manifest=item.manifest,
                load=load,
            )
        await self.reload_jobs_file()
        self._announce()

    async def reload_jobs_file(self) -> None:
        """Read the kernel's own file, where one was named to it."""
        if self._jobs_file is None:
            return
        file = await asyncio.to_thread(parse_toml_file, self._jobs_file, environ=os.environ)
        async with self._changing:
            load = await asyncio.to_thread(load_job_files, [file], host=_OWN_FILE)
            before = self._hosts.get(_OWN_FILE)
            if file.error is not None and before is not None:
                # The last good jobs stay; only the problem is new.
                self._hosts[_OWN_FILE] = HostCatalogue(host=_OWN_FILE, load=_with_problems(before.load, load))
            else:
                self._hosts[_OWN_FILE] = HostCatalogue(host=_OWN_FILE, load=load)
                await self._changed(_OWN_FILE, self._catalogue.introduce(_OWN_FILE, load))
        for problem in load.all_problems():
            _LOG.log(logging.ERROR if problem.is_error else logging.WARNING, "%s", problem)

    async def knows_manifest(self, host: str, digest: str) -> bool:
        """Return whether the host has shown that manifest before."""
        known = self._hosts.get(host)
        return (known is not None and known.digest == digest) or await self._store.knows_digest(host, digest)

    async def introduce(
        self, host: str, *, digest: str, manifest: Mapping[str, Any], explicit: bool
    ) -> tuple[bool, Sequence[str]]:
        """Keep a manifest; return whether it is now the host's catalogue, and the jobs of it that are disabled."""
        load = await asyncio.to_thread(load_manifest, manifest)
        async with self._changing:
            now = self._clock.now_us()
            current = await self._store.introduce_manifest(
                host,
                digest=digest,
                manifest=manifest,
                job_ids=[job.job_id for job in load.jobs if is_job_id(job.job_id)],
                explicit=explicit,
                at_us=now,
            )
            if not current:
                return False, [job.job_id for job in load.jobs if not job.valid]
            change = self._catalogue.introduce(host, load)
            self._hosts[host] = HostCatalogue(
                host=host, digest=digest, introduced_at_us=now, manifest=manifest, load=load
            )
            await self._changed(host, change, digest=digest)
        return True, change.disabled

    async def forget(self, host: str) -> Sequence[str]:
        """Drop a host and return the job ids that it owned and that are free now."""
        async with self._changing:
            released = await self._store.forget_host(host)
            self._hosts.pop(host, None)
            await self._changed(host, self._catalogue.forget(host))
        return sorted(released)

    def job(self, job_id: str) -> KnownJob | None:
        """Return the job, also a malformed or removed one; None where the id is unknown."""
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
        """Return ids that look like an unknown one."""
        return self._catalogue.near(job_id)

    def hosts(self) -> Sequence[HostCatalogue]:
        """Return what each host brings, sorted by name; the kernel's own file has an empty name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def file_problems(self) -> Sequence[Problem]:
        """Return the problems of whole files, which belong to no job."""
        return [problem for known in self.hosts() for problem in known.load.problems]

    def kind_of(self, host: str, callable: str) -> str:
        """Return ``"async"`` or ``"sync"``; ``"async"`` where the callable is unknown."""
        known = self._hosts.get(host)
        return "async" if known is None else kind_of(known.manifest, callable)

    def refuse_params(self, job: KnownJob, params: Collection[str], enabled_steps: Collection[str]) -> str | None:
        """Return why run params cannot be taken; None where all can be, or where nothing is known of the callables."""
        known = self._hosts.get(job.host)
        if job.definition is None or known is None or not known.manifest:
            return None
        return refuse_params(job.definition, known.manifest, params, enabled_steps)

    async def _changed(self, host: str, change: CatalogueChange, *, digest: str = "") -> None:
        """Tell everybody, and write the events. The change itself is done: a store in trouble costs the events only."""
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
    except CronError as error:  # a snapshot of an older version, or a zone that the machine no longer has
        _LOG.debug("no next fire of %r: %s", expression, error)


def _known_job(entry: CatalogueEntry) -> KnownJob:
    definition = entry.definition
    why = next((problem.message for problem in entry.loaded.problems if problem.is_error), "")
    return KnownJob(
        job_id=entry.job_id,
        host=(definition.host if definition is not None else "") or entry.host,
        definition=definition,
        digest=definition.digest if definition is not None else "",
        definition_json=_canonical(definition) if definition is not None else "",
        valid=entry.loaded.valid and not entry.foreign,
        removed=entry.removed,
        enabled=entry.loaded.enabled,
        why_invalid=why,
    )


def _canonical(definition: JobDefinition) -> str:
    return json.dumps(definition.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _with_problems(good: CatalogueLoad, failed: CatalogueLoad) -> CatalogueLoad:
    return CatalogueLoad(jobs=good.jobs, problems=failed.problems, retention=good.retention)
