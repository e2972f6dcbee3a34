"""Transitions: the only ways in which history changes.

Each is a value with the fields that the change needs and no others. The engine makes them, the store applies a batch
of them in one transaction by compare-and-set on the state, and appends the event that each stands for.

Within one batch the changes of a row build on each other in the order in which the engine gives them, as do the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from nomaflow_api.v1.letters import Stopping
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.event_kinds import NoticeKind
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import (
    AttemptRecord,
    CancelRequest,
    EventRecord,
    LogChunkRecord,
    PauseRecord,
    RunRecord,
)
from nomaflow_kernel.history.states import AttemptState, RunState


class QueueRun(Struct, frozen=True, kw_only=True):
    """Insert a run: QUEUED, or terminal from birth (SKIPPED, MISSED). Event ``run.queued`` or ``run.finished``.

    If ``request_id`` or ``slot`` is taken, the result is a duplicate, and every other transition of that run id in the
    batch is dropped.

    :param definition_json: canonical JSON of the job's snapshot, stored once per digest
    """

    run: RunRecord
    definition_json: str


class FoldRun(Struct, frozen=True, kw_only=True):
    """Widen the fold of a SKIPPED or MISSED row by one or more fires. No event.

    :param otherwise: records the fires if there is no such row: retention removed it, or it was refused as a duplicate
    """

    run_id: str
    last_us: int
    add_count: int
    otherwise: QueueRun


class _OfRun(Struct, frozen=True):
    """A change of a run that exists."""

    run_id: str
    job_id: str


class StartRun(_OfRun, frozen=True, kw_only=True):
    """Move a run from QUEUED to RUNNING. Event ``run.started``."""

    at_us: int


class RequestCancel(_OfRun, frozen=True, kw_only=True):
    """Set the cancel request of a QUEUED or RUNNING run; the first one stays. Event ``run.cancel_requested``."""

    cancel: CancelRequest


class OpenAttempt(Struct, frozen=True, kw_only=True):
    """Insert an attempt: PENDING, DISPATCHED, RUNNING (call_job), or terminal from birth (SKIPPED, reused SUCCEEDED).

    Event ``attempt.pending``, ``attempt.dispatched``, ``attempt.started`` or ``attempt.finished``, by state.
    """

    job_id: str
    attempt: AttemptRecord


class _OfAttempt(_OfRun, frozen=True):
    """A change of an attempt that exists; the fields that name it may be given by position."""

    step_index: int
    step: str
    attempt: int


class DispatchAttempt(_OfAttempt, frozen=True, kw_only=True):
    """Move an attempt from PENDING to DISPATCHED, with the instance and epoch. Event ``attempt.dispatched``."""

    host: str
    incarnation: str
    epoch: int
    at_us: int


class StartAttempt(_OfAttempt, frozen=True, kw_only=True):
    """Move an attempt from DISPATCHED (PENDING for call_job) to RUNNING. Event ``attempt.started``."""

    at_us: int
    worker_pid: int = 0
    generation: int = 0
    child_run_id: str = ""
    exclusive: bool = False


class RecordRung(_OfAttempt, frozen=True, kw_only=True):
    """Record a rung of the ladder by which an attempt is being stopped. Event ``attempt.stopping``.

    :param facts: those of the attempt so far, the rung among them
    """

    rung: Stopping
    facts: AttemptFacts


class RecordReport(_OfAttempt, frozen=True, kw_only=True):
    """Raise the stored report number of an attempt, and its progress if there is newer progress.

    Event ``attempt.progress`` if ``progress_json`` is set, otherwise none.

    :param facts: those of the attempt, if they have changed
    """

    report_seq: int
    progress_json: str = ""
    facts: AttemptFacts | None = None


class AppendLog(Struct, frozen=True, kw_only=True):
    """Store a chunk of log lines and raise the run's line count. No event."""

    chunk: LogChunkRecord


class AttemptEnd(Struct, frozen=True, kw_only=True):
    """A terminal state of an attempt, with its details.

    :param exception_types: decides whether another try follows, and is not stored
    :param data: contents of the event besides state and reason
    """

    state: AttemptState
    reason: Reason | None = None
    error: str = ""
    rows_affected: int | None = None
    extras_json: bytes = b""
    has_result: bool = False
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    facts: AttemptFacts = NO_FACTS
    exception_types: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


class FinishAttempt(_OfAttempt, frozen=True, kw_only=True):
    """Move an open attempt to a terminal state. Event ``attempt.finished``."""

    end: AttemptEnd
    at_us: int


class FinishRun(_OfRun, frozen=True, kw_only=True):
    """Move a QUEUED or RUNNING run to a terminal state. Event ``run.finished``.

    :param data: contents of the event besides state, reason, rows and error
    """

    state: RunState
    at_us: int
    reason: Reason | None = None
    error: str = ""
    rows_affected: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


class Notice(EventRecord, frozen=True, kw_only=True):
    """An event that changes no run: about a host, a job, or a late result. The commit gives its number and its time."""

    kind: NoticeKind
    seq: int = 0
    at_us: int = 0


class SetNextFire(Struct, frozen=True, kw_only=True):
    """Store the next fire of a schedule; None if it has no further one, and its row goes. No event.

    :param preset: empty for the job's own schedule
    :param fingerprint: identifies expression, zone and zone data, so that a change of any is noticed
    """

    job_id: str
    preset: str
    next_fire_us: int | None
    fingerprint: str


class SetPause(Struct, frozen=True, kw_only=True):
    """Keep a pause, which replaces one of the same scope and name. Event ``pause.set``."""

    pause: PauseRecord


class ClearPause(Struct, frozen=True, kw_only=True):
    """Remove a pause; one that is not there is lost. Event ``pause.cleared``.

    :param by: who ended it; empty if it ended by itself
    """

    scope: str
    name: str
    by: str = ""


class AppendAudit(Struct, frozen=True, kw_only=True):
    """Append a row to the audit: it is stored with the change that it records, or not at all. No event.

    If its ``correlation`` is a run that turns out to be a duplicate, the row names the other run.
    """

    record: AuditRecord


def end_data(
    *,
    host: str,
    preset: str,
    slot_us: int | None,
    started_us: int | None = None,
    attempts: int = 0,
    failed_step: str = "",
) -> dict[str, Any]:
    """Return the facts that ``run.finished`` carries besides the outcome, so that watchers need not ask for them."""
    return {
        "host": host,
        "preset": preset,
        "slot_us": slot_us,
        "started_us": started_us,
        "attempts": attempts,
        "failed_step": failed_step,
    }


Transition = (
    QueueRun
    | FoldRun
    | StartRun
    | RequestCancel
    | OpenAttempt
    | DispatchAttempt
    | StartAttempt
    | RecordRung
    | RecordReport
    | AppendLog
    | FinishAttempt
    | FinishRun
    | Notice
    | SetNextFire
    | SetPause
    | ClearPause
    | AppendAudit
)


def run_of(transition: Transition) -> str:
    """Return the id of the run that a transition is about; empty if it is about none."""
    match transition:
        case QueueRun():
            return transition.run.run_id
        case OpenAttempt():
            return transition.attempt.run_id
        case AppendLog():
            return transition.chunk.run_id
        case SetNextFire() | SetPause() | ClearPause() | AppendAudit():
            return ""
        case _:
            return transition.run_id
