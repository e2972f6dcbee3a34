"""A kernel's life in a simulation: the real engine, store operations and host gateway, without process and server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import sqlalchemy
from simulated_store import SimulatedDatabase, StoreFaults
from simulated_time import VirtualClock

from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.state import EngineSettings
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.rpc.host_gateway import HostGateway
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.models.settings_file import KernelSection, QuotaSection

__all__ = ["SETTINGS", "KernelGone", "SimulatedCatalogue", "SimulatedKernel"]

_T = TypeVar("_T")

SETTINGS = EngineSettings(lease_seconds=12, grace_seconds=30, grace_margin_seconds=3, max_waiting=500)


class KernelGone(Exception):
    """Raised to a client whose kernel died while it waited: what became of its call is not known."""


class SimulatedCatalogue:
    """The jobs of a schedule, which do not change."""

    def __init__(self, definitions: Sequence[JobDefinition], *, sync: Collection[str]) -> None:
        self._jobs = {
            each.id: Job(loaded=LoadedJob(job_id=each.id, host=each.host, definition=each)) for each in definitions
        }
        self._manifest = {"callables": {each: {"kind": "sync", "catch_all": "_"} for each in sync}}

    def job(self, job_id: str) -> Job | None:
        """Return the job."""
        return self._jobs.get(job_id)

    def definition(self, job_id: str) -> JobDefinition | None:
        """Return the job's definition."""
        job = self.job(job_id)
        return None if job is None else job.definition

    def ids(self) -> Collection[str]:
        """Return the ids."""
        return self._jobs.keys()

    def manifest(self, host: str) -> Mapping[str, Any]:
        """Return the kinds of the callables."""
        return self._manifest

    def may_serve(self, host: str, digest: str, job_id: str, definition_digest: str) -> bool:
        """Let every instance serve everything."""
        return True

    def unaccepted(self) -> list[Job]:
        """Return none."""
        return []

    def accepts_calls(self, host: str, other: str) -> bool:
        """Accept every host."""
        return True

    def max_parallel(self, host: str) -> int | None:
        """Return that there is no bound."""
        return None


class _NoManifests:
    async def knows_manifest(self, host: str, digest: str, *, loaded_at_us: int) -> bool:
        return True

    def hosts(self) -> list[HostCatalogue]:
        """Return none."""
        return []

    def knows_code(self, host: str, digest: str) -> bool:
        return True

    async def introduce(
        self, host: str, *, digest: str, manifest: Mapping[str, Any], explicit: bool
    ) -> tuple[bool, Sequence[str]]:
        return True, ()


class SimulatedKernel:
    """One life of the kernel: opened on the file, and later stopped, or dead.

    :param on_ended: called with the reason if it ends by itself
    :param on_taken_back: called with how many turns that were decided ahead of a commit are decided once more
    """

    def __init__(
        self,
        *,
        database: sqlalchemy.Engine,
        rng: random.Random,
        clock: VirtualClock,
        jobs: SimulatedCatalogue,
        faults: StoreFaults,
        committed_at: dict[int, float],
        on_ended: Callable[[SimulatedKernel, Exception], None],
        on_taken_back: Callable[[int], None],
    ) -> None:
        self._on_taken_back = on_taken_back
        self._rng = rng
        self._clock = clock
        self._jobs = jobs
        self._on_ended = on_ended
        self._database = SimulatedDatabase(engine=database, faults=faults, committed_at=committed_at, on_crash=self.die)
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in order: a set's would differ from run to run
        self.store = Store(database=self._database)
        self.epoch = 0
        self.alive = False
        self.engine: Engine
        self.gateway: HostGateway
        self._sessions = SessionRegistry()

    async def open(self) -> None:
        """Start.

        :raises StoreError: where the store cannot be opened
        """
        info = await self.store.open()
        self.epoch = info.epoch
        self.engine = Engine(
            store=self.store,
            info=info,
            clock=self._clock,
            jobs=self._jobs,
            feed=EventFeed(info.last_event_seq),
            settings=SETTINGS,
            on_ended=lambda error: self._on_ended(self, error),
        )
        self._count_taken_back()
        # All chance comes from the seed.
        self.engine._state.rng = random.Random(self._rng.random())
        self.engine._state.ids = RunIds(now_ms=lambda: self._clock.now_us() // 1000, random_bits=self._rng.getrandbits)
        await self.engine.start()
        clocks = KernelSection(
            heartbeat_seconds=4,
            lease_seconds=SETTINGS.lease_seconds,
            lost_after_seconds=SETTINGS.grace_seconds,
        )
        parts: Any = SimpleNamespace(
            engine=self.engine,
            catalogue=_NoManifests(),
            sessions=self._sessions,
            audit=AuditLog(store=None, clock=self._clock),
            info=info,
            settings=KernelSettings(project=Path(), kernel=clocks),
            quotas=Quotas(limits=QuotaSection(), clock=self._clock),
            clock=self._clock,
            guard=None,
            store=self.store,
            feed=None,
        )
        self.gateway = HostGateway(parts)
        self.alive = True

    def _count_taken_back(self) -> None:
        loop = self.engine._loop
        take_back = loop._take_back

        def counted() -> None:
            self._on_taken_back(len(loop._unanswered[-1].turns))
            take_back()

        loop._take_back = counted  # type: ignore[method-assign]  # looks on, and changes nothing

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run something that dies with the kernel."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        if not self.alive:
            task.cancel()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # the caller has it; where nobody waits, it is a refusal of something sent twice

    async def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have a client's call done.

        :raises KernelGone: where the kernel dies meanwhile
        """
        task = self.spawn(work)
        await asyncio.wait([task])
        if task.cancelled():
            raise KernelGone
        return task.result()

    def die(self) -> None:
        """End without closing anything: nothing more is committed, and no client is informed."""
        self.alive = False
        self._database.die()
        engine = getattr(self, "engine", None)
        if engine is not None:
            loop = engine._loop
            for task in (loop._task, *loop._side_tasks):
                if task is not None:
                    task.cancel()
        for task in list(self._tasks):
            task.cancel()

    async def stop(self) -> None:
        """Stop as a kernel does that is asked to."""
        self._sessions.stop()
        await self.engine.stop()
        await self.store.close()
        self.die()
