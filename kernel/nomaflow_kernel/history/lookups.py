"""Values that the store is asked with, such as filters, and those that it answers with, such as pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct, field

from nomaflow_kernel.history.records import (
    AttemptRecord,
    EventRecord,
    LogChunkRecord,
    LogHead,
    QueuedRun,
    RunRecord,
    TriggerKind,
)
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import Transition

_Chunk = TypeVar("_Chunk", LogChunkRecord, LogHead)


class VisibleRuns(Struct, frozen=True, kw_only=True):
    """The runs that a caller may read: those of some jobs, of jobs whose ids have some prefixes, or of some hosts.

    :param jobs_of_hosts: job ids, each with a host: the runs of that job that this host has run
    """

    job_ids: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    jobs_of_hosts: tuple[tuple[str, str], ...] = ()


class RunFilter(Struct, frozen=True, kw_only=True):
    """A filter of listed runs; empty fields match all.

    :param visible: the runs that the caller may read; None for all
    :param since_us: runs queued at or after it
    :param until_us: runs queued before it
    :param job_ids: runs of these jobs, such as those of a tag; None for all
    :param triggered_by: who triggered them: the principal, with or without a note, or the name in the note
    :param run_ids: these runs; None for all
    :param parent_run_id: runs that a call_job step of that run started
    :param log_levels: bits of levels, of which one occurs in the log
    :param oldest_first: reverses the order
    """

    job_id: str = ""
    host: str = ""
    states: tuple[RunState, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    visible: VisibleRuns | None = None
    job_ids: tuple[str, ...] | None = None
    exclude_job_ids: tuple[str, ...] = ()
    trigger_kinds: tuple[TriggerKind, ...] = ()
    triggered_by: str = ""
    reason_codes: tuple[str, ...] = ()
    run_id_prefix: str = ""
    run_ids: tuple[str, ...] | None = None
    replay_of: str = ""
    parent_run_id: str = ""
    log_levels: int = 0
    oldest_first: bool = False


class RunPage(Struct, frozen=True, kw_only=True):
    """One page; ``next_before`` is the run id that the next page follows, empty on the last page.

    :param scanned_to: the run id that the page has looked up to, if a filter without an index left it short
    """

    runs: Sequence[RunRecord]
    next_before: str
    scanned_to: str = ""


class RunCount(Struct, frozen=True, kw_only=True):
    """The number of runs in a state, by job, host and trigger kind as far as these are counted separately, else empty.

    :param runs: rows
    :param fires: the fires that they stand for
    """

    state: RunState
    runs: int
    fires: int
    rows_affected: int
    job_id: str = ""
    host: str = ""
    trigger_kind: str = ""


class LastState(NamedTuple):
    """The state of a job's newest run, and the host that ran it."""

    state: RunState
    host: str


class RecentRun(Struct, frozen=True):
    """The main facts of one run.

    :param host: the host that ran it
    """

    run_id: str
    host: str
    state: RunState
    queued_at_us: int
    started_at_us: int | None
    finished_at_us: int | None
    rows_affected: int | None


class EventFilter(Struct, frozen=True, kw_only=True):
    """A filter of events; empty fields match all.

    :param kinds: kinds, or the parts of kinds before a dot
    :param job_id: events of that job and of its runs
    :param by: who asked for them: the principal, with or without a note, or the name in the note
    :param acts: events that somebody asked for
    :param since_us: events at or after it
    :param until_us: events before it
    """

    kinds: tuple[str, ...] = ()
    run_id: str = ""
    job_id: str = ""
    host: str = ""
    by: str = ""
    acts: bool = False
    since_us: int | None = None
    until_us: int | None = None

    def keeps(self, event: EventRecord) -> bool:
        """Return whether an event is of these kinds, this run, job and host."""
        return (
            (not self.kinds or any(event.kind == each or event.kind.startswith(each + ".") for each in self.kinds))
            and self.run_id in ("", event.run_id)
            and self.job_id in ("", event.job_id)
            and self.host in ("", event.host)
        )


ALL_EVENTS = EventFilter()
"""The filter that keeps all."""


class EventPage(Struct, frozen=True, kw_only=True):
    """One page of events, in the order asked for. It ends with the one that reaches the bytes of a page.

    :param next_seq: the page after it has events beyond that one; 0 for the last page
    """

    events: Sequence[EventRecord]
    next_seq: int


class LogFilter(Struct, frozen=True, kw_only=True):
    """A filter of a run's log chunks; empty fields match all.

    :param after_seq: keeps chunks with a line after it
    :param before_seq: keeps chunks with a line before it
    :param levels: keeps chunks in which one of these levels occurs: bit n is levels 10·n to 10·n+9
    """

    after_seq: int = 0
    before_seq: int = 0
    step: str = ""
    attempt: int = 0
    levels: int = 0


class LogPage(Struct, Generic[_Chunk], frozen=True, kw_only=True):
    """Chunks in the order asked for, whole or their heads only, and whether there may be more."""

    chunks: Sequence[_Chunk]
    more: bool


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


CommitObserver = Callable[[Sequence[Transition], ApplyResult, float], None]
"""A listener to commits: it is given each durable batch, its result, and the seconds from submission to confirmation.

It runs on the event loop, after the commit and before the effects of the commit.
"""


class EndedAttempt(Struct, frozen=True, kw_only=True):
    """The remembered facts about a terminal attempt, to answer late or repeated reports.

    :param host: the host that it was given to
    :param final_seq: the highest event number that is stored
    :param exists: False for a key that the store does not know
    """

    job_id: str
    host: str
    incarnation: str
    state: AttemptState
    final_seq: int
    exists: bool = True
    retry_on_lost: bool = False

    @property
    def result_is_wanted(self) -> bool:
        """True if its code may still run, and what it reports at its end is kept as an event."""
        return self.exists and self.state is AttemptState.LOST and not self.retry_on_lost


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

    :param author: the principal that triggered it, as ``records.author_of`` says
    """

    run_id: str
    job_id: str
    host: str
    author: str


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
