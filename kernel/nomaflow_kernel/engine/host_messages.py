"""Messages between the kernel and a host instance, as values: the gRPC side converts them to and from protobuf.

Times are microseconds since the epoch, by the clock of the sender.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from nomaflow_api.value_class import value_class
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import Ancestor, RunTrigger
from nomaflow_kernel.history.states import AttemptState
from nomaflow_project.reading.problems import Problem

__all__ = [
    "AckStatus",
    "AttemptAck",
    "AttemptReport",
    "CancelOrder",
    "DispatchOrder",
    "HeartbeatInfo",
    "HeldAttempt",
    "InstanceHello",
    "InstanceLink",
    "LoadInfo",
    "RefusedLoad",
    "ReportedEvent",
    "ReportedFinished",
    "ReportedLog",
    "ReportedProgress",
    "ReportedStarted",
    "TimeoutKind",
    "Verdict",
    "VerdictAction",
    "WorkerStatus",
]


class TimeoutKind(enum.StrEnum):
    """The time limit that an attempt's deadline belongs to."""

    NONE = "none"
    STEP = "step"
    JOB = "job"


@value_class
class DispatchOrder:
    """An order to run one attempt. See DispatchCommand in host_gateway_service.proto for each field."""

    attempt_key: str
    epoch: int
    run_id: str
    job_id: str
    step: str
    attempt: int
    callable: str
    kwargs_json: str
    strict_keys: tuple[str, ...]
    params_json: str
    trigger: RunTrigger
    prev_rows_affected: int | None
    parent_chain: tuple[Ancestor, ...]
    previous_steps_json: str
    timeout_ms: int = 0
    timeout_kind: TimeoutKind = TimeoutKind.NONE
    cancel_grace_ms: int | None = None
    isolation: str = ""
    log_level: str = "INFO"
    retry_on_lost: bool = False
    grace_ms: int = 0
    max_log_bytes: int = 0
    traceparent: str = ""


@value_class
class CancelOrder:
    """An order to stop an attempt."""

    attempt_key: str
    by: str
    why: str
    reason_code: str


class InstanceLink(Protocol):
    """The kernel's end of one session. Its methods never block: messages are queued and coalesced."""

    def send(self, orders: Sequence[DispatchOrder | CancelOrder]) -> None:
        """Send orders, in order. A broken link drops them: the reattach settles what happened to them."""

    @property
    def loading(self) -> bool:
        """True if the instance has not loaded and introduced its first generation yet."""

    def end(self, reason: str) -> None:
        """End the session: a newer one of the same incarnation has taken over, or the kernel stops."""


@value_class
class HeldAttempt:
    """One attempt of an instance's inventory."""

    attempt_key: str
    state: AttemptState
    last_seq: int
    epoch: int


@value_class
class RefusedLoad:
    """A load of plugin code that an instance refused: the previous code stays in service."""

    at_us: int
    message: str
    problems: tuple[Problem, ...] = ()

    @property
    def summary(self) -> str:
        """The first problem with its place, in one line."""
        if not self.problems:
            return self.message.partition("\n")[0]
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return (f"{first.place}: " if first.place else "") + first.message.partition("\n")[0] + more


@value_class
class LoadInfo:
    """The result of an instance's newest load: refused, or in service with its number of jobs."""

    refused: RefusedLoad | None = None
    generation: int = 0
    jobs: int = 0
    callables: int = 0
    removed_job_ids: tuple[str, ...] = ()
    added_job_ids: tuple[str, ...] = ()
    stopped_schedules: tuple[str, ...] = ()


@value_class
class InstanceHello:
    """An instance's introduction of itself."""

    host: str
    incarnation: str
    boot_id: str
    machine: str
    pid: int
    version: str
    generation: int
    manifest_digest: str
    max_async: int
    max_sync: int
    inventory: tuple[HeldAttempt, ...] = ()
    ended_incarnations: tuple[str, ...] = ()
    loaded_at_us: int = 0
    isolation_mechanism: str = ""
    refused_load: RefusedLoad | None = None
    watching: bool = False
    loading: bool = False


@value_class
class WorkerStatus:
    """One worker process of an instance."""

    pid: int
    exclusive: bool
    generation: int
    running: int


@value_class
class HeartbeatInfo:
    """The contents of a heartbeat; ``workers`` None means unchanged."""

    running: int = 0
    spilled_bytes: int = 0
    saturated: bool = False
    code_newer: bool = False
    draining: bool = False
    generation: int = 0
    manifest_digest: str = ""
    loaded_at_us: int = 0
    loading: bool = False
    workers: tuple[WorkerStatus, ...] | None = None


class VerdictAction(enum.StrEnum):
    """The action that an instance takes on an attempt of its inventory."""

    KEEP = "keep"
    CANCEL = "cancel"
    FORGET = "forget"
    KILL = "kill"


@value_class
class Verdict:
    """The kernel's answer to one attempt of an inventory."""

    attempt_key: str
    action: VerdictAction
    acknowledged_seq: int = 0
    cancel: CancelOrder | None = None


@value_class
class ReportedStarted:
    """The callable is about to be called."""

    at_us: int
    worker_pid: int
    generation: int
    exclusive: bool


@value_class
class ReportedLog:
    """Consecutive lines of the log, packed; the kernel does not look inside."""

    line_count: int
    first_at_us: int
    last_at_us: int
    levels: int
    codec: int
    body: bytes


@value_class
class ReportedProgress:
    """Progress that the callable reported."""

    at_us: int
    done: float
    total: float | None
    message: str


@value_class
class ReportedFinished:
    """The end of the attempt: SUCCEEDED, FAILED or CANCELED."""

    at_us: int
    state: AttemptState
    reason: Reason | None = None
    error: str = ""
    rows_affected: int | None = None
    extras_json: bytes = b""
    has_result: bool = False
    exception_types: tuple[str, ...] = ()
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    not_started: bool = False


ReportedEvent = ReportedStarted | ReportedLog | ReportedProgress | ReportedFinished


@value_class
class AttemptReport:
    """Consecutive events of one attempt, numbered from ``first_seq``."""

    attempt_key: str
    first_seq: int
    events: Sequence[ReportedEvent] = ()
    unknown: bool = False


class AckStatus(enum.StrEnum):
    """The result of taking in reported events."""

    OK = "ok"
    GAP = "gap"
    FENCED = "fenced"
    CONFLICT = "conflict"
    INVALID = "invalid"


@value_class
class AttemptAck:
    """The kernel's answer to one attempt's report: the highest contiguous number that is durable."""

    attempt_key: str
    acknowledged_seq: int
    status: AckStatus = AckStatus.OK
    detail: str = ""
