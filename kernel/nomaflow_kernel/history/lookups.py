"""Values of the store's lists: filters of runs, events and logs, and the pages that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from nomaflow_kernel.history.records import (
    EventRecord,
    LogChunkRecord,
    LogHead,
    RunRecord,
    TriggerKind,
)
from nomaflow_kernel.history.states import RunState

__all__ = [
    "ALL_EVENTS",
    "EventFilter",
    "EventPage",
    "LastState",
    "LogFilter",
    "LogHeads",
    "LogPage",
    "RecentRun",
    "RunCount",
    "RunFilter",
    "RunPage",
    "VisibleRuns",
]


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


class RecentRun(Struct, frozen=True, kw_only=True):
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
    """One page of events, newest first.

    :param next_before_seq: the page after it has events before that one; 0 for the last page
    """

    events: Sequence[EventRecord]
    next_before_seq: int


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


class LogPage(Struct, frozen=True, kw_only=True):
    """Chunks in the order asked for, and whether there may be more."""

    chunks: Sequence[LogChunkRecord]
    more: bool


class LogHeads(Struct, frozen=True, kw_only=True):
    """Heads of chunks in order, and whether there may be more."""

    heads: Sequence[LogHead]
    more: bool
