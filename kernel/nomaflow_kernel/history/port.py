"""The kernel's interfaces to the outside. Docstrings state the invariants that every implementation keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from nomaflow_kernel.history.access_records import (
    AuditEnds,
    AuditFilter,
    AuditRecord,
    AuditVerdict,
    CertificateRecord,
    TokenRecord,
)
from nomaflow_kernel.history.lookups import (
    ALL_EVENTS,
    EventFilter,
    EventPage,
    LastState,
    LogFilter,
    LogHeads,
    LogPage,
    RecentRun,
    RunCount,
    RunFilter,
    RunPage,
    VisibleRuns,
)
from nomaflow_kernel.history.records import (
    AttemptLogRecord,
    AttemptRecord,
    EventRecord,
    PauseRecord,
    QueuedRun,
    RunRecord,
    TriggerKind,
    author_of,
)
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import SetNextFire, Transition

__all__ = [
    "ALL_EVENTS",
    "ActiveRuns",
    "ApplyResult",
    "CommitObserver",
    "EventFilter",
    "EventPage",
    "ForgottenHost",
    "HostManifest",
    "LastState",
    "LogFilter",
    "LogHeads",
    "LogPage",
    "PauseRecord",
    "RecentRun",
    "RunCount",
    "RunDetail",
    "RunFilter",
    "RunOfRequest",
    "RunPage",
    "RunSubject",
    "Store",
    "StoreInfo",
    "VisibleRuns",
]


class CommitObserver(Protocol):
    """A listener to commits. It runs on the event loop, after a commit and before the effects of the commit."""

    def applied(self, transitions: Sequence[Transition], result: ApplyResult, *, seconds: float) -> None:
        """Handle a durable batch; ``seconds`` is the time from its submission to its confirmation."""


class StoreInfo(Struct, frozen=True, kw_only=True):
    """Facts about an open store: its kind, this kernel's epoch, the newest event.

    :param store_id: identifies this history; a restored or reclaimed history has another id
    :param pruned_through_seq: the newest event that retention has removed, 0 for none
    """

    kind: str
    epoch: int
    last_event_seq: int
    store_id: str = ""
    pruned_through_seq: int = 0


class RunOfRequest(Struct, frozen=True, kw_only=True):
    """The run that a request id stands for."""

    run_id: str
    request_hash: str
    state: RunState


class ApplyResult(Struct, frozen=True, kw_only=True):
    """The result of a batch.

    :param duplicates: run id of a refused QueueRun → the run that has its id, its request id or its slot
    :param lost: indices of transitions that no longer matched the state (and of those dropped with a duplicate)
    :param dropped: the members of ``lost`` dropped with a duplicate, as expected
    :param unfolded: run id of a FoldRun whose row was gone → run id of the row created instead
    :param events: the events appended, in order
    """

    duplicates: Mapping[str, str] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()
    unfolded: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[EventRecord] = ()


class RunDetail(Struct, frozen=True, kw_only=True):
    """A run with its attempts (by step, then number) and the snapshot of its job."""

    run: RunRecord
    attempts: Sequence[AttemptRecord]
    definition: Mapping[str, Any]


class ActiveRuns(Struct, frozen=True, kw_only=True):
    """The runs an engine is rebuilt from: RUNNING ones whole, QUEUED ones slim, in the order they were queued."""

    running: Sequence[RunDetail]
    queued: Sequence[QueuedRun]


class RunSubject(Struct, frozen=True, kw_only=True):
    """The facts of a run that decide who may do what to it.

    :param by: who triggered it
    """

    run_id: str
    job_id: str
    host: str
    kind: TriggerKind
    by: str

    @property
    def author(self) -> str:
        """The principal that triggered it, without its note; empty for a schedule, or a run that calls a job."""
        return author_of(self.kind, self.by)


class HostManifest(Struct, frozen=True, kw_only=True):
    """A host's stored catalogue: the manifest most recently introduced, as JSON, and the job ids the host owns."""

    host: str
    digest: str
    text: str
    introduced_at_us: int
    owned_job_ids: frozenset[str]


class ForgottenHost(Struct, frozen=True, kw_only=True):
    """The job ids that a forgotten host owned, sorted, and the events of its removal."""

    job_ids: Sequence[str]
    events: Sequence[EventRecord] = ()


class Store(Protocol):
    """Keeps history. Everything it has confirmed is durable: it survives a loss of power.

    Writes of one kernel are applied in the order they were submitted. All operations that wait when the writer becomes
    free share one transaction, and each gets its own result; one bad operation fails alone. A read transaction never
    outlives its call.

    Every method may raise the errors of ``nomaflow_kernel.store.errors``: StoreFull, StoreBusy, StoreUnavailable,
    StaleEpoch. After any of them nothing of that operation was applied, except for a StoreUnavailable with
    ``outcome_unknown``: then the caller reads whether it was applied.
    """

    @property
    def pruned_through_seq(self) -> int:
        """The newest event that retention has removed, 0 for none: all later ones exist."""

    async def open(self) -> StoreInfo:
        """Migrate the schema, take the store for this kernel alone and raise the epoch.

        :raises StoreInUse: if another kernel holds it
        """

    async def close(self) -> None:
        """Finish waiting operations and close the store. Closing twice is allowed."""

    def apply(self, transitions: Sequence[Transition], *, at_us: int) -> Awaitable[ApplyResult]:
        """Apply a batch in one transaction, guarded by this kernel's epoch.

        :raises StaleEpoch: if a newer kernel has taken over; nothing was applied
        """

    async def active_runs(self) -> ActiveRuns:
        """Return every run that is not terminal."""

    async def run_details(self, run_ids: Sequence[str]) -> Sequence[RunDetail]:
        """Return the runs that exist, in the order asked for."""

    async def run_subjects(self, run_ids: Sequence[str]) -> Sequence[RunSubject]:
        """Return the subjects of the runs that exist; looking up one that does not exist takes as long."""

    async def list_runs(self, filter: RunFilter, *, before: str, limit: int) -> RunPage:
        """Return runs newest first, only ids lower than ``before`` (empty: from the newest).

        Oldest first, it returns only ids higher than ``before``. A filter without an index looks at a bounded number of
        runs, so that the page may be short, or empty, and still not be the last one.
        """

    async def count_runs(
        self,
        *,
        since_us: int,
        until_us: int,
        job_id: str = "",
        host: str = "",
        by: Collection[Literal["job_id", "host", "trigger_kind"]] = (),
    ) -> Sequence[RunCount]:
        """Return the number of runs queued in a range, by state and whatever else is asked for."""

    async def recent_runs(
        self, job_ids: Sequence[str], *, last: int, preset: str = ""
    ) -> Mapping[str, Sequence[RecentRun]]:
        """Return the newest runs of each job that has one, newest first.

        :param preset: only runs that were started with it, among a bounded number of the newest of each job
        """

    async def events_after(self, seq: int, *, limit: int, filter: EventFilter = ALL_EVENTS) -> Sequence[EventRecord]:
        """Return events with a greater sequence, in order; only kinds, run, job and host of the filter count."""

    async def events_before(self, seq: int, *, filter: EventFilter, limit: int) -> EventPage:
        """Return events with a lower sequence (0: from the newest), newest first.

        A filter without an index looks at a bounded number of events: the page may be short and not be the last one.
        """

    async def log_page(self, run_id: str, filter: LogFilter, *, limit: int, newest_first: bool = False) -> LogPage:
        """Return chunks of a run's log, in the order of their lines, skipping those that cannot match.

        :param newest_first: reverses the order
        """

    async def log_heads(self, run_id: str, filter: LogFilter, *, limit: int) -> LogHeads:
        """Return the heads of chunks of a run's log, in the order of their lines."""

    async def attempt_logs(self, run_id: str) -> Mapping[tuple[str, int], AttemptLogRecord]:
        """Return how much of the log of each attempt of a run is stored, by step and number of the try."""

    async def last_runs(self, job_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """Return the newest run of each job that has one."""

    async def last_states(self, job_ids: Sequence[str]) -> Mapping[str, LastState]:
        """Return the state of the newest run of each job that has one."""

    async def runs_of_requests(self, request_ids: Sequence[str]) -> Mapping[str, RunOfRequest]:
        """Return the run that was started with each of some request ids; unused ids are left out."""

    async def slots_taken(self, slots: Sequence[str]) -> frozenset[str]:
        """Return the subset of some slots that have a run."""

    async def job_ids(self) -> Sequence[str]:
        """Return every job id that has a run, sorted."""

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
        """Keep a manifest and claim its unowned job ids; return whether it is now the host's catalogue.

        It becomes the catalogue if the host has not shown the digest before, or if ``explicit`` is set.
        """

    async def knows_digest(self, host: str, digest: str) -> bool:
        """Return whether the host has shown that manifest before."""

    async def manifests(self) -> Sequence[HostManifest]:
        """Return the current manifest of every host."""

    async def forget_host(self, host: str, *, at_us: int, by: str = "") -> ForgottenHost:
        """Remove a host's manifests. Event ``host.forgotten``; none for the kernel's own file, whose name is empty."""

    async def schedules(self) -> Sequence[SetNextFire]:
        """Return every stored next fire."""

    async def pauses(self) -> Sequence[PauseRecord]:
        """Return every pause."""

    async def prune(
        self,
        *,
        job_id: str,
        keep_runs: int | None,
        before_us: int | None,
        limit: int,
        proofs_after_us: int | None = None,
    ) -> int:
        """Delete up to ``limit`` terminal runs of a job (empty: of all jobs) and return how many were deleted.

        Runs beyond the newest ``keep_runs`` or finished before ``before_us`` are deleted, with attempts, logs and
        events.

        :param proofs_after_us: runs of a fire or a request that finished after this time are kept, whatever their
            number: they prevent the same fire or request from running again; None for no such time
        """

    async def prune_notices(self, *, before_us: int, limit: int) -> int:
        """Delete up to ``limit`` events without a run that are older than ``before_us``; return the number deleted."""

    async def tokens(self) -> Sequence[TokenRecord]:
        """Return every token, in the order in which they were created."""

    async def keep_tokens(self, tokens: Sequence[TokenRecord]) -> None:
        """Keep tokens, each in place of the one with its id."""

    async def certificates(self) -> Sequence[CertificateRecord]:
        """Return every certificate, in the order in which they were issued."""

    async def keep_certificates(self, certificates: Sequence[CertificateRecord]) -> None:
        """Keep certificates, each in place of the one with its serial."""

    async def remove_credentials(self, token_ids: Sequence[str], serials: Sequence[str]) -> None:
        """Delete tokens and certificates; unknown ones are ignored."""

    def append_audit(self, records: Sequence[AuditRecord]) -> Awaitable[None]:
        """Append rows to the audit, numbered and chained in the order given; submitted when this returns."""

    async def audit_ends(self) -> AuditEnds:
        """Return both ends of the audit's chain."""

    async def audit_rows(self, after_seq: int, *, filter: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return audit rows with a greater number, in order."""

    async def audit_tail(self, *, filter: AuditFilter, limit: int) -> Sequence[AuditRecord]:
        """Return the newest audit rows, in order."""

    async def verify_audit(self) -> AuditVerdict:
        """Compute the audit's chain again, a page of rows at a time."""

    async def prune_audit(self, *, before_us: int, limit: int) -> int:
        """Delete up to ``limit`` of the oldest audit rows older than ``before_us``; return the number deleted."""

    async def ping(self) -> None:
        """Make a write without an effect, to test that the store can be written."""
