"""The store: each of its methods is an operation on a database that can read and write."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import ArgumentError

from nomaflow_kernel.history.access_records import AuditRecord, AuditVerdict
from nomaflow_kernel.history.lookups import ApplyResult, CommitObserver, ForgottenHost, RunCount, StoreInfo
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.store.errors import StoreUnavailable, UnsupportedStore
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.operations import (
    audit,
    duplicates,
    events,
    hosts,
    logs,
    run_lists,
    runs,
    tallies,
)
from nomaflow_kernel.store.operations import prune as pruning
from nomaflow_kernel.store.operations.apply import apply_transitions
from nomaflow_kernel.store.operations.whole_tables import every, remove_credentials, replacing
from nomaflow_kernel.store.rows import CERTIFICATES, FIRES, PAUSES, TOKENS
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.slice_counts import SliceCounts, counted_runs
from nomaflow_kernel.store.urls import driver_url, parsed_url, sqlite_file, unusable_part
from nomaflow_kernel.store.writer import LOCK_WAIT_SECONDS, Database

P = ParamSpec("P")
T = TypeVar("T")

_PRUNED_TOGETHER = 50
"""Number of runs removed in one transaction: small, so that no other write waits long."""

_ROWS_VERIFIED_TOGETHER = 1000


def _reading(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Return the method that runs a query in a read transaction of its own."""

    async def method(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._read(lambda connection: query(connection, *args, **kwargs))

    return method


def _writing(
    change: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Return the method that makes a change in a transaction guarded by the epoch."""

    async def method(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write(lambda session: change(session.connection, *args, **kwargs))

    return method


def _pruning(
    query: Callable[Concatenate[Connection, P], Sequence[str]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, int]]:
    """Return the method that deletes the terminal runs that a query finds, a few at a time; it returns how many."""

    async def method(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> int:
        found = await self._read(lambda connection: query(connection, *args, **kwargs))
        gone = 0
        for start in range(0, len(found), _PRUNED_TOGETHER):
            some = found[start : start + _PRUNED_TOGETHER]
            gone += await self._write(partial(self._remove_runs, some))
        return gone

    return method


class Store:
    """Keeps history. Everything it has confirmed is durable: it survives a loss of power.

    Writes of one kernel are applied in the order they were submitted. All operations that wait when the writer becomes
    free share one transaction, and each gets its own result; one bad operation fails alone. A read transaction never
    outlives its call. The functions of ``store.operations`` say what each method does.

    Every method may raise the errors of ``nomaflow_kernel.store.errors``: StoreFull, StoreBusy, StoreUnavailable,
    StaleEpoch. After any of them nothing of that operation was applied, except for a StoreUnavailable with
    ``outcome_unknown``: then the caller reads whether it was applied.

    :param database: SQLite or PostgreSQL
    :param observer: called after each applied batch
    """

    def __init__(self, *, database: Database, observer: CommitObserver | None = None) -> None:
        self._database = database
        self._closed = False
        self._observer = observer
        self.pruned_through_seq = 0
        """The newest event that retention has removed, 0 for none: all later ones exist."""
        self._counts = SliceCounts()

    active_runs = _reading(runs.active_runs)
    run_details = _reading(runs.run_details)
    run_subjects = _reading(runs.run_subjects)
    ended_attempts = _reading(runs.ended_attempts)
    list_runs = _reading(run_lists.list_runs)
    recent_runs = _reading(tallies.recent_runs)
    last_runs = _reading(tallies.last_runs)
    last_states = _reading(tallies.last_states)
    job_ids = _reading(runs.job_ids)
    runs_of_requests = _reading(duplicates.runs_of_requests)
    slots_taken = _reading(duplicates.slots_taken)
    events_after = _reading(events.events_after)
    events_before = _reading(events.events_before)
    events_of = _reading(events.events_of)
    log_page = _reading(logs.log_page)
    log_heads = _reading(logs.log_heads)
    attempt_logs = _reading(logs.attempt_logs)
    knows_digest = _reading(hosts.knows_digest)
    manifests = _reading(hosts.manifests)
    schedules = _reading(every(FIRES, "job_id", "preset"))
    pauses = _reading(every(PAUSES, "scope", "name"))
    tokens = _reading(every(TOKENS, "created_at_us", "token_id"))
    certificates = _reading(every(CERTIFICATES, "issued_at_us", "serial"))
    audit_ends = _reading(audit.audit_ends)
    audit_rows = _reading(audit.audit_rows)
    audit_tail = _reading(audit.audit_tail)
    keep_tokens = _writing(replacing(TOKENS))
    keep_certificates = _writing(replacing(CERTIFICATES))
    remove_credentials = _writing(remove_credentials)
    prune = _pruning(pruning.prunable_runs)
    prune_audit = _writing(audit.prune_audit)
    introduce_manifest = _writing(hosts.introduce_manifest)
    _remove_events = _writing(pruning.remove_events)

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""
        return self._database.writer.waiting

    async def open(self) -> StoreInfo:
        """Migrate the schema, take the store for this kernel alone and raise the epoch.

        :raises StoreInUse: if another kernel holds it; after any error it may be tried again
        """
        self._counts = SliceCounts()
        info = await self._database.claim()
        self._closed = False
        self.pruned_through_seq = info.pruned_through_seq
        return info

    async def close(self) -> None:
        """Finish waiting operations, close every connection, and release the database. Closing twice is allowed.

        It is released even if the caller does not wait for the operations any longer.
        """
        self._closed = True
        try:
            await self._database.writer.stop()
        finally:
            await self._database.release()
        await self._database.reading.close()

    async def _read(self, query: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await self._database.reading.run(query)

    def _write(self, operation: Callable[[WriteSession], T]) -> Awaitable[T]:
        """Run an operation together with all others that wait; finished once it is durable."""
        return self._database.writer.submit(operation)

    def apply(self, transitions: Sequence[Transition], *, at_us: int) -> Awaitable[ApplyResult]:
        """Apply a batch in one transaction, guarded by this kernel's epoch; it is submitted when this returns.

        :raises StaleEpoch: if a newer kernel has taken over; nothing was applied
        """
        began = time.perf_counter()
        batch, counts = tuple(transitions), self._counts

        def apply_noted(session: WriteSession) -> ApplyResult:
            counts.note(counted_runs(batch), commits=session.ends.commits)
            return apply_transitions(session, batch, at_us=at_us)

        kept = self._write(apply_noted)
        return kept if self._observer is None else _observed(self._observer, transitions, kept, began=began)

    async def count_runs(
        self,
        *,
        since_us: int,
        until_us: int,
        job_id: str = "",
        host: str = "",
        by: Collection[Literal["job_id", "host", "trigger_kind"]] = (),
    ) -> list[RunCount]:
        """Return the number of runs queued in a range, by state and whatever else is asked for."""
        count: Callable[..., list[RunCount]] = self._counts.count
        if job_id or host or by:
            count = partial(tallies.count_runs, job_id=job_id, host=host, by=by)
        return await self._read(partial(count, since_us=since_us, until_us=until_us))

    def _remove_runs(self, run_ids: Sequence[str], session: WriteSession) -> int:
        self._counts.note(run_ids, commits=session.ends.commits)
        return pruning.remove_runs(session, run_ids, on_gone=self._note_pruned)

    async def prune_notices(self, *, before_us: int, limit: int) -> int:
        """Delete up to ``limit`` events without a run that are older than ``before_us``; return the number deleted.

        They are found by reading: there may be many that are younger, and no write waits until all were looked at.
        """
        found = await self._read(partial(pruning.old_notices, before_us=before_us, limit=limit))
        if found:
            await self._remove_events(found, on_gone=self._note_pruned)
        return len(found)

    def _note_pruned(self, seq: int) -> None:
        # Set before the commit, on the writer's thread: a watcher that misses an event finds that it may be gone.
        self.pruned_through_seq = max(self.pruned_through_seq, seq)

    def append_audit(self, records: Sequence[AuditRecord]) -> Awaitable[None]:
        """Append rows to the audit, numbered and chained in the order given; they are submitted when this returns."""
        return self._write(partial(audit.append_audit, records=tuple(records)))

    async def verify_audit(self) -> AuditVerdict:
        """Compute the audit's chain again, a page of rows at a time."""
        verdict: AuditVerdict | None = None
        while True:
            page = partial(audit.verify_page, verdict=verdict, limit=_ROWS_VERIFIED_TOGETHER)
            found, complete = await self._read(page)
            if complete:
                return found
            verdict = found

    async def forget_host(self, host: str, *, at_us: int, by: str = "") -> ForgottenHost:
        """Remove a host's manifests. Event ``host.forgotten``; none for the kernel's own file, whose name is empty."""
        return await self._write(partial(hosts.forget_host, host=host, at_us=at_us, by=by))

    async def ping(self) -> None:
        """Make a write without an effect but that the transaction counts itself: the store can be written then."""
        await self._write(lambda _: None)


async def _observed(
    observer: CommitObserver, transitions: Sequence[Transition], kept: Awaitable[ApplyResult], *, began: float
) -> ApplyResult:
    result = await kept
    observer(transitions, result, time.perf_counter() - began)
    return result


def open_store(
    url: str,
    *,
    holder: str = "",
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    lease: LeasePolicy | None = None,
    observer: CommitObserver | None = None,
) -> Store:
    """Return the store that ``url`` names, not yet opened.

    :param url: ``sqlite:///PATH`` (four slashes for an absolute path, ``%3F`` for a question mark in it), or
        ``postgresql+asyncpg://USER:PASSWORD@HOST/NAME``
    :param holder: name of this kernel, kept in the store; by default host name and process id
    :param lock_wait_seconds: time that a write waits for another process's lock before StoreBusy
    :param lease: leadership settings, if several kernels share a database; None: a lease of 12 s, without addresses
    :param observer: called after each applied batch
    :raises UnsupportedStore: if the URL is of neither kind
    """
    holder = holder or f"{socket.gethostname()}:{os.getpid()}"
    database = _database(url, holder, lock_wait_seconds, lease or LeasePolicy())
    return Store(database=database, observer=observer)


def _database(given: str, holder: str, lock_wait_seconds: float, lease: LeasePolicy) -> Database:
    if file := sqlite_file(given):
        from nomaflow_kernel.store.sqlite import SqliteDatabase

        return SqliteDatabase(path=file, holder=holder, lock_wait_seconds=lock_wait_seconds)
    url = parsed_url(given)
    shown = url.render_as_string(hide_password=True)
    unusable = unusable_part(url)
    if unusable:
        raise UnsupportedStore(shown, unusable)
    try:
        # Imported here: a kernel on SQLite need not have asyncpg.
        from nomaflow_kernel.store.postgres import PostgresDatabase

        return PostgresDatabase(url=driver_url(url), holder=holder, lock_wait_seconds=lock_wait_seconds, lease=lease)
    except ModuleNotFoundError as error:
        raise UnsupportedStore(shown, f"{error.name} is not installed; pip install 'nomaflow[postgres]'") from None
    except (ArgumentError, ValueError) as error:
        raise UnsupportedStore(shown, f"one of its options has a wrong value: {error}") from None
