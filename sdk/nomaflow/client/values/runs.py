"""Runs, steps and attempts as a client sees them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import Struct, field

from nomaflow.client.values.attempts import AttemptLogView, ExitView, StopView
from nomaflow.client.values.shapes import HIDDEN, IF_KNOWN, NULL_IF_EMPTY, NullableCount, NullableText, Shaped

__all__ = [
    "RUN_TERMINAL",
    "AncestorView",
    "AttemptView",
    "CancelView",
    "FoldView",
    "ProgressView",
    "ReasonView",
    "RunRequestView",
    "RunView",
    "StepSwitchView",
    "StepValuesView",
    "StepView",
    "TriggerView",
]

RUN_TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "MISSED"})
"""The states that a run never leaves."""


class ReasonView(Struct, frozen=True, kw_only=True):
    """The reason for the state of a run or an attempt: a stable code, one sentence, and the way out if there is one."""

    code: str
    message: str = ""
    fix: str = ""


class TriggerView(Shaped, frozen=True, kw_only=True):
    """The trigger of a run.

    :param kind: ``cron``, ``manual``, ``api``, ``cli``, ``call_job`` or ``replay``
    :param by: the caller's name, of ``cron`` the schedule, of ``call_job`` the calling step; empty if unknown
    :param at: the instant of the fire; for cron the scheduled one
    """

    kind: Annotated[str, str.lower]
    by: str = ""
    at: datetime | None = None

    @property
    def has_caller(self) -> bool:
        """True if a user or a service started the run, whom *by* names if it is known."""
        return self.kind not in ("cron", "call_job")


class ProgressView(Shaped, frozen=True, kw_only=True):
    """The last progress that a callable reported; ``total`` is None if it is unknown."""

    done: float
    total: float | None = None
    message: str = ""


class AttemptView(Shaped, frozen=True, kw_only=True):
    """One try at one step. Times are aware UTC, ``peak_rss_bytes`` and ``cpu_seconds`` 0 if not measured.

    :param kwargs: what it was given, merged from all layers: references are not resolved, secret values are ``***``
    :param not_before: when a retry's back-off ends
    :param deadline_at: when its time is up, None without a limit
    :param exclusive: True if no other attempt shared its worker
    :param exit: how its process ended, None if the process lives on
    :param warnings: what the host and the worker noted about it
    :param log: None in lists
    :param stop: None if nobody stopped it
    """

    state: str
    attempt: int
    rows_affected: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    error: NullableText = ""
    reason: ReasonView | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: ProgressView | None = None
    child_run_id: NullableText = ""
    child_job_id: NullableText = ""
    attempt_key: str
    host: str = ""
    incarnation: str = ""
    worker_pid: NullableCount = 0
    generation: NullableCount = 0
    dispatched_at: datetime | None = None
    peak_rss_bytes: NullableCount = 0
    cpu_seconds: Annotated[float, NULL_IF_EMPTY] = 0.0
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    deadline_at: datetime | None = None
    exclusive: bool = False
    exit: ExitView | None = None
    warnings: tuple[str, ...] = ()
    log: AttemptLogView | None = None
    stop: StopView | None = None


_NOT_REACHED = AttemptView(attempt_key="", attempt=0, state="PENDING")
_OUTCOME = (
    "state", "attempt", "rows_affected", "extras", "error", "reason", "reason_message", "started_at", "finished_at",
    "progress", "child_run_id", "child_job_id",
)  # fmt: skip


class StepView(Shaped, frozen=True, kw_only=True):
    """One step of a run with every attempt at it, oldest first."""

    name: str
    index: Annotated[int, HIDDEN] = 0
    type: str = "python"
    callable: str = ""
    enabled: bool = True
    max_attempts: int = 1
    attempts: tuple[AttemptView, ...] = ()

    @property
    def last(self) -> AttemptView:
        """The newest attempt; one in state PENDING, numbered 0, if the step has not been reached."""
        return self.attempts[-1] if self.attempts else _NOT_REACHED

    def to_json(self) -> dict[str, Any]:
        """Return the step in the shape of docs/cli.md: its last attempt's outcome, and all attempts."""
        shape, last = Shaped.to_json(self), self.last.to_json()
        attempts = shape.pop("attempts")
        return {**shape, **{name: last[name] for name in _OUTCOME}, "attempts": attempts}


class StepValuesView(Shaped, frozen=True, kw_only=True):
    """The op_kwargs of one step; environment references are not resolved, secret values are ``***``."""

    step: str
    op_kwargs: Mapping[str, Any] = field(default_factory=dict)


class AncestorView(Shaped, frozen=True, kw_only=True):
    """One run in the chain of call_job steps that led to a run."""

    job_id: str
    run_id: str


class CancelView(Shaped, frozen=True, kw_only=True):
    """A request to cancel: the caller, the time and the reason."""

    requested_at: datetime | None
    by: str = ""
    why: str = ""


class FoldView(Shaped, frozen=True, kw_only=True):
    """The fires that one MISSED or SKIPPED row stands for."""

    first: datetime | None
    last: datetime | None
    count: int


class StepSwitchView(Shaped, frozen=True, kw_only=True):
    """A step that a request switched on or off."""

    step: str
    enabled: bool


class RunRequestView(Shaped, frozen=True, kw_only=True):
    """The request of a trigger or a replay, without the job and the preset."""

    params: Mapping[str, Any] = field(default_factory=dict)
    step_values: tuple[StepValuesView, ...] = ()
    step_switches: tuple[StepSwitchView, ...] = ()
    allow_overlap: bool = False


class RunView(Shaped, frozen=True, kw_only=True):
    """One execution of a job; times are aware UTC. Lists have no ``steps``; only ``get_run`` has the last two fields.

    :param log_levels: the levels that occur in its log: bit ``level // 10`` is set for each, ``1 << 3`` for warnings
    :param deadline_at: when the time of the whole run is up; None without a limit, or before it has started
    :param definition_digest: names the definition that it runs with, as a job's ``digest`` does
    :param definition: that definition
    :param request: what was asked for
    """

    run_id: str
    job_id: str
    state: str
    reason: ReasonView | None = None
    rows_affected: int | None = None
    error: NullableText = ""
    trigger: TriggerView = field(default_factory=lambda: TriggerView(kind="api"))
    params: Mapping[str, Any] = field(default_factory=dict)
    host: str = ""
    preset: NullableText = ""
    log_level: NullableText = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel: CancelView | None = None
    fold: FoldView | None = None
    parent_chain: tuple[AncestorView, ...] = ()
    replay_of: NullableText = ""
    current_step: NullableText = ""
    log_lines: int = 0
    last_event_seq: Annotated[int, HIDDEN] = 0
    priority: Annotated[int, HIDDEN] = 0
    deadline_at: datetime | None = None
    definition_digest: NullableText = ""
    log_levels: int = 0
    steps: tuple[StepView, ...] = ()
    request: Annotated[RunRequestView | None, IF_KNOWN] = None
    definition: Annotated[Mapping[str, Any], IF_KNOWN] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """True if the state is final."""
        return self.state in RUN_TERMINAL

    @property
    def log_level_names(self) -> tuple[str, ...]:
        """The levels that occur in its log, lowest first, such as ``("INFO", "WARNING")``."""
        return tuple(logging.getLevelName(10 * bit) for bit in range(1, 6) if self.log_levels >> bit & 1)

    def to_json(self) -> dict[str, Any]:
        """Return the run in the shape of docs/cli.md, with the names of levels."""
        return {**Shaped.to_json(self), "log_levels": list(self.log_level_names)}
