"""The store port, implemented over a database that can read and write."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from nomaflow_kernel.history.port import (
    ActiveRuns,
    ApplyResult,
    CommitObserver,
    HostManifest,
    LogPage,
    PauseRecord,
    RunDetail,
    RunFilter,
    RunOfRequest,
    RunPage,
    ScheduleRow,
    StoreInfo,
)
from nomaflow_kernel.history.records import EventRecord, RunRecord
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.store.operations import duplicates, events, hosts, logs, prune, runs, scheduling
from nomaflow_kernel.store.operations.apply import apply_transitions
from nomaflow_kernel.store.session import WriteSession

__all__ = ["Database", "SqlStore"]

T = TypeVar("T")

_PRUNED_TOGETHER = 50
"""Number of runs removed in one transaction: small, so that no other write waits long."""


class Database(Protocol):
    """A database that runs the store's operations."""

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""

    async def open(self) -> StoreInfo:
        """Migrate the schema and take the store for this kernel alone."""

    async def close(self) -> None:
        """Finish waiting operations and close the database."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own."""

    def write(self, operation: Callable[[WriteSession], T]) -> Awaitable[T]:
        """Run an operation, possibly with others, in a transaction guarded by the epoch."""


class SqlStore:
    """Keeps history in an SQL database; see the port for its guarantees.

    :param database: SQLite or PostgreSQL
    :param observer: called after each applied batch
    """

    def __init__(self, *, database: Database, observer: CommitObserver | None = None) -> None:
        self._database = database
        self._observer = observer
        self._pruned_through_seq = 0

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""
        return self._database.waiting

    async def open(self) -> StoreInfo:
        """Migrate the schema, take the store for this kernel alone and raise the epoch."""
        info = await self._database.open()
        self._pruned_through_seq = info.pruned_through_seq
        return info

    @property
    def pruned_through_seq(self) -> int:
        """The newest event that retention has removed, 0 for none."""
        return self._pruned_through_seq

    async def close(self) -> None:
        """Finish waiting operations and close the store. Closing twice is allowed."""
        await self._database.close()

    def apply(self, transitions: Sequence[Transition], *, at_us: int) -> Awaitable[ApplyResult]:
        """Apply a batch in one transaction, guarded by this kernel's epoch; it is submitted when this returns."""
        began = time.perf_counter()
        kept = self._database.write(partial(apply_transitions, transitions=tuple(transitions), at_us=at_us))
        return kept if self._observer is None else _observed(self._observer, transitions, kept, began=began)

    async def active_runs(self) -> ActiveRuns:
        """Return every run that is not terminal."""
        return await self._database.read(runs.active_runs)

    async def run_details(self, run_ids: Sequence[str]) -> Sequence[RunDetail]:
        """Return the runs that exist, in the order asked for."""
        return await self._database.read(partial(runs.run_details, run_ids=tuple(run_ids)))

    async def list_runs(self, filter: RunFilter, *, before: str, limit: int) -> RunPage:
        """Return runs newest first, only ids lower than ``before``."""
        return await self._database.read(partial(runs.list_runs, filter=filter, before=before, limit=limit))

    async def events_after(
        self, seq: int, *, limit: int, run_id: str = "", kinds: Sequence[str] = ()
    ) -> Sequence[EventRecord]:
        """Return events with a greater sequence, in order."""
        return await self._database.read(
            partial(events.events_after, seq=seq, limit=limit, run_id=run_id, kinds=tuple(kinds))
        )

    async def log_page(self, run_id: str, *, after_seq: int, limit: int, step: str = "", min_level: int = 0) -> LogPage:
        """Return chunks that hold lines after ``after_seq``, in order, skipping those that cannot match."""
        return await self._database.read(
            partial(
                logs.log_page,
                run_id=run_id,
                after_seq=after_seq,
                limit=limit,
                step=step,
                min_level=min_level,
            )
        )

    async def last_runs(self, job_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """Return the newest run of each job that has one."""
        return await self._database.read(partial(runs.last_runs, job_ids=tuple(job_ids)))

    async def runs_of_requests(self, request_ids: Sequence[str]) -> Mapping[str, RunOfRequest]:
        """Return the run that was started with each of some request ids; unused ids are left out."""
        return await self._database.read(partial(duplicates.runs_of_requests, request_ids=tuple(request_ids)))

    async def slots_taken(self, slots: Sequence[str]) -> frozenset[str]:
        """Return the subset of some slots that have a run."""
        return await self._database.read(partial(duplicates.slots_taken, slots=tuple(slots)))

    async def job_ids(self) -> Sequence[str]:
        """Return every job id that has a run, sorted."""
        return await self._database.read(runs.job_ids)

    async def introduce_manifest(
        self,
        host: str,
        *,
        digest: str,
        manifest: Mapping[str, Any],
        job_ids: Sequence[str],
        explicit: bool,
        at_us: int,
    ) -> bool:
        """Keep a manifest and claim its unowned job ids; return whether it is now the host's catalogue."""

        def introduce(session: WriteSession) -> bool:
            return hosts.introduce_manifest(
                session.connection,
                host,
                digest=digest,
                manifest=manifest,
                job_ids=job_ids,
                explicit=explicit,
                at_us=at_us,
            )

        return await self._database.write(introduce)

    async def knows_digest(self, host: str, digest: str) -> bool:
        """Return whether the host has shown that manifest before."""
        return await self._database.read(partial(hosts.knows_digest, host=host, digest=digest))

    async def manifests(self) -> Sequence[HostManifest]:
        """Return the current manifest of every host."""
        return await self._database.read(hosts.manifests)

    async def forget_host(self, host: str) -> Sequence[str]:
        """Remove a host's manifests and return the job ids it owned."""
        return await self._database.write(lambda session: hosts.forget_host(session.connection, host))

    async def schedules(self) -> Sequence[ScheduleRow]:
        """Return every stored next fire."""
        return await self._database.read(scheduling.schedules)

    async def pauses(self) -> Sequence[PauseRecord]:
        """Return every pause."""
        return await self._database.read(scheduling.pauses)

    async def prune(
        self,
        *,
        job_id: str,
        keep_runs: int | None,
        before_us: int | None,
        limit: int,
        proofs_after_us: int | None = None,
    ) -> int:
        """Delete old terminal runs with all their data, a few at a time; return the number deleted."""
        found = await self._database.read(
            partial(
                prune.prunable_runs,
                job_id=job_id,
                keep_runs=keep_runs,
                before_us=before_us,
                limit=limit,
                proofs_after_us=proofs_after_us,
            )
        )
        gone = 0
        for start in range(0, len(found), _PRUNED_TOGETHER):
            some = found[start : start + _PRUNED_TOGETHER]
            gone += await self._database.write(partial(self._remove_runs, run_ids=some))
        if before_us is not None and not job_id:
            await self._database.write(partial(self._remove_notices, before_us=before_us, limit=limit))
        return gone

    async def prune_notices(self, *, before_us: int, limit: int) -> int:
        """Delete up to ``limit`` events without a run that are older than ``before_us``; return the number deleted."""
        return await self._database.write(partial(self._remove_notices, before_us=before_us, limit=limit))

    def _remove_runs(self, session: WriteSession, *, run_ids: Sequence[str]) -> int:
        return prune.remove_runs(session.connection, run_ids, on_gone=self._note_pruned)

    def _remove_notices(self, session: WriteSession, *, before_us: int, limit: int) -> int:
        return prune.remove_notices(session.connection, before_us=before_us, limit=limit, on_gone=self._note_pruned)

    def _note_pruned(self, seq: int) -> None:
        # Set before the commit, on the writer's thread: a watcher that misses an event finds that it may be gone.
        self._pruned_through_seq = max(self._pruned_through_seq, seq)

    async def ping(self) -> None:
        """Make a write without an effect, to test that the store can be written."""
        await self._database.write(_do_nothing)


async def _observed(
    observer: CommitObserver, transitions: Sequence[Transition], kept: Awaitable[ApplyResult], *, began: float
) -> ApplyResult:
    result = await kept
    observer.applied(transitions, result, seconds=time.perf_counter() - began)
    return result


def _do_nothing(_session: WriteSession) -> None:
    """Do nothing: the transaction counts itself, so its commit is a write."""
