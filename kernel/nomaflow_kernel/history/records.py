"""Runs, attempts and events as values: the values that the store keeps and returns.

Times are microseconds since the epoch (``…_us``); JSON columns are text of ``nomaflow_api.v1.lossless_json``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.states import AttemptState, RunState


class TriggerKind(enum.StrEnum):
    """The kind of event that fired a run."""

    CRON = "cron"
    MANUAL = "manual"
    API = "api"
    CLI = "cli"
    CALL_JOB = "call_job"
    REPLAY = "replay"


class RunTrigger(Struct, frozen=True, kw_only=True):
    """The cause of a run, its initiator, and its time (for a cron fire: the scheduled instant)."""

    kind: TriggerKind
    by: str = ""
    at_us: int = 0


def author_of(kind: TriggerKind, by: str) -> str:
    """Return the principal that triggered a run, without its note; empty for a schedule or a calling run."""
    return "" if kind in (TriggerKind.CRON, TriggerKind.CALL_JOB) else by.partition(" (for ")[0]


class Ancestor(Struct, frozen=True, kw_only=True):
    """One run in the chain of call_job steps that led to a run."""

    job_id: str
    run_id: str


class RunRequest(Struct, frozen=True, kw_only=True):
    """The layers that one run lays over its job; stored whole, so that a replay can repeat it.

    The host resolves references to its environment in values of its own files only; all others are literal.

    :param preset: name of a preset of the job, or empty; the stored text begins with it, for lists
    :param log_level: empty for the job's own; follows it there
    :param inherited: tagged JSON object laid over the job's params, below all other layers: the job params of a parent
    :param params: tagged JSON object laid over the job's and the preset's params
    :param inherited_of_files: the keys of ``inherited`` whose values are from the files of the host that runs it
    :param params_of_files: the same for ``params``: values that a call_job step of that host's files gives
    :param brought_by: the other host that brought the job: then its own values are literal too; a definition without
        one is from the host that ran it, or from the kernel's own file
    :param sealed_by: the principal that gave the secret params which a replay repeats; empty for the run's author
    :param op_kwargs: step name → tagged JSON object, the last layer
    :param switches: step name → switched on or off
    :param reuse: step name → ``{"run_id", "rows_affected", "extras_json"}``: outputs that a replay from a later step
        reuses instead of running the step; extras that later steps would not see are None
    :param allow_overlap: start regardless of the job's overlap policy
    :param traceparent: the W3C trace context of its trigger, or empty
    """

    preset: str = ""
    log_level: str = ""
    inherited: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    inherited_of_files: Sequence[str] = ()
    params_of_files: Sequence[str] = ()
    brought_by: str = ""
    sealed_by: str = ""
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)
    reuse: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allow_overlap: bool = False
    traceparent: str = ""

    @property
    def changes_plan(self) -> bool:
        """True if a run with this request differs from what its job says."""
        return any(getattr(self, name) for name in PLAN_FIELDS)

    @property
    def changes_steps(self) -> bool:
        """True if a run with this request may begin with another step than its job says."""
        return any(getattr(self, name) for name in STEP_FIELDS)

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON-ready dict, without empty fields."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRequest:
        """Return the request that :meth:`to_json` wrote; keys of a newer version are ignored."""
        return cls(**{name: data[name] for name in cls.__struct_fields__ if name in data})


class CancelRequest(Struct, frozen=True, kw_only=True):
    """The author, time and cause of a cancel request."""

    at_us: int
    by: str
    why: str
    code: str = "canceled_by_user"


class Fold(Struct, frozen=True, kw_only=True):
    """The fires that one MISSED or SKIPPED row stands for."""

    first_us: int
    last_us: int
    count: int


class RunRecord(Struct, frozen=True, kw_only=True):
    """One row of history.

    :param definition_digest: identifies the snapshot of the job it started with
    :param request_id: the caller's idempotency key, or empty
    :param request_hash: hash of the request that used it
    :param slot: ``job/preset/instant`` of a cron fire, unique; or empty
    :param log_lines: number of stored log lines
    :param log_levels: the levels that occur in them: bit ``level // 10`` is set for each
    :param last_event_seq: the newest event of this run
    """

    run_id: str
    job_id: str
    host: str
    state: RunState
    trigger: RunTrigger
    definition_digest: str
    request: RunRequest
    queued_at_us: int
    reason: Reason | None = None
    error: str = ""
    rows_affected: int | None = None
    priority: int = 0
    parent_chain: tuple[Ancestor, ...] = ()
    started_at_us: int | None = None
    finished_at_us: int | None = None
    cancel: CancelRequest | None = None
    fold: Fold | None = None
    replay_of: str = ""
    request_id: str = ""
    request_hash: str = ""
    slot: str = ""
    log_lines: int = 0
    log_levels: int = 0
    last_event_seq: int = 0
    current_step: str = ""

    @property
    def slot_us(self) -> int | None:
        """The scheduled start time; None for a run that no schedule fired."""
        return self.trigger.at_us if self.trigger.kind is TriggerKind.CRON else None


LARGE_REQUEST = 8 * 1024
"""Characters of the text of a request from which on it is large."""


def is_large(request: RunRequest) -> bool:
    """Return whether a request is large, without making its text."""
    left = LARGE_REQUEST
    parts: list[Any] = [request.inherited, request.params, request.op_kwargs, request.reuse]
    while parts and left > 0:
        part = parts.pop()
        left -= len(part) if isinstance(part, str) else 3
        if isinstance(part, Mapping):
            parts += [*part, *part.values()]
        elif isinstance(part, list):
            parts += part
    return left <= 0


PLAN_FIELDS = ("inherited", "params", "op_kwargs", "switches", "preset", "log_level", "reuse", "brought_by")
"""The fields of a request that make a run differ from what its job says."""
STEP_FIELDS = ("switches", "preset", "reuse")
"""Those of them that may make it begin with another step."""


NO_HOST = "*"
"""The lane of waiting runs that need no host to start: their first step is a call_job, or no step will run."""


class QueuedRun(Struct, frozen=True, kw_only=True):
    """The data about a waiting run that the engine keeps in memory.

    :param host: the lane it waits in: that of a host, or NO_HOST
    :param job_host: the host that its job belongs to
    :param slot_us: its scheduled start time
    :param author: the user or service that triggered it; empty for the owner, a schedule or a calling run
    :param kind: the kind of its trigger
    :param definition_digest: the digest of its definition; empty if its request may make it begin with another step
    :param queue_timeout_seconds: how long it may wait; None without a limit
    :param large: whether its data is read only when it is its turn: a request of 4 MiB may take 90 MiB of memory
    """

    run_id: str
    job_id: str
    host: str
    priority: int
    queued_at_us: int
    allow_overlap: bool = False
    job_host: str = ""
    preset: str = ""
    slot_us: int | None = None
    author: str = ""
    kind: TriggerKind = TriggerKind.API
    definition_digest: str = ""
    queue_timeout_seconds: float | None = None
    large: bool = False


PREVIOUS_STEPS_BYTES = 512 * 1024
"""The most bytes of the results of a run's steps that later steps may read."""


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One try at one step of one run.

    :param extras_json: its result; None if it was not read
    :param report_seq: the highest contiguous event number of the host that is stored
    :param not_before_us: when a PENDING attempt may be dispatched
    :param child_run_id: the run that a call_job step started
    :param exclusive: whether no other attempt shares its worker
    :param facts: what else its host reported
    """

    run_id: str
    step_index: int
    step: str
    attempt: int
    state: AttemptState
    reason: Reason | None = None
    error: str = ""
    host: str = ""
    incarnation: str = ""
    epoch: int = 0
    rows_affected: int | None = None
    extras_json: bytes | None = b""
    has_result: bool = False
    report_seq: int = 0
    not_before_us: int | None = None
    dispatched_at_us: int | None = None
    started_at_us: int | None = None
    finished_at_us: int | None = None
    worker_pid: int = 0
    generation: int = 0
    progress_json: str = ""
    child_run_id: str = ""
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    exclusive: bool = False
    facts: AttemptFacts = NO_FACTS


class AttemptLogRecord(Struct, frozen=True, kw_only=True):
    """The stored part of an attempt's log.

    :param last_seq: the last line in the run's log; lines of other attempts may lie between
    :param levels: the levels that occur: bit ``level // 10`` is set for each
    """

    first_seq: int
    last_seq: int
    lines: int
    levels: int


class EventRecord(Struct, frozen=True, kw_only=True):
    """One committed transition or notice; ``seq`` is store-wide, in commit order.

    :param by: who asked for it; empty if nobody did
    """

    seq: int
    at_us: int
    kind: str
    run_id: str = ""
    job_id: str = ""
    step: str = ""
    attempt: int = 0
    state: str = ""
    reason: Reason | None = None
    host: str = ""
    by: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class _LogBlock(Struct, frozen=True, kw_only=True):
    """The lines in a stored block of them; ``first_seq`` is the run-wide number of the first."""

    first_seq: int
    line_count: int
    step: str
    attempt: int
    levels: int
    first_at_us: int
    codec: int

    @property
    def last_seq(self) -> int:
        """The number of its last line."""
        return self.first_seq + self.line_count - 1


class LogChunkRecord(_LogBlock, frozen=True, kw_only=True):
    """A stored block of log lines."""

    run_id: str
    last_at_us: int
    body: bytes


class LogHead(_LogBlock, frozen=True, kw_only=True):
    """The head of a stored block of log lines: all but its body.

    :param size_bytes: the size of the body as stored
    """

    size_bytes: int


class PauseRecord(Struct, frozen=True, kw_only=True):
    """A pause: of a job (``scope`` "job"), a host ("host") or everything ("all", name empty)."""

    scope: str
    name: str
    by: str
    why: str
    since_us: int
    until_us: int | None

    def holds_at(self, at_us: int) -> bool:
        """Return whether the pause is in effect at an instant."""
        return self.since_us <= at_us and not self.ends_by(at_us)

    def ends_by(self, at_us: int) -> bool:
        """Return whether the pause has ended at an instant."""
        return self.until_us is not None and self.until_us <= at_us
