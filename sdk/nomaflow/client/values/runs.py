"""Runs, steps and attempts as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nomaflow.client.values.times import iso

__all__ = [
    "RUN_TERMINAL",
    "AncestorView",
    "AttemptView",
    "CancelView",
    "FoldView",
    "ProgressView",
    "ReasonView",
    "RunView",
    "StepView",
    "TriggerView",
]

RUN_TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "MISSED"})
"""The states that a run never leaves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasonView:
    """The reason for the state of a run or an attempt: a stable code and one sentence."""

    code: str
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerView:
    """The trigger of a run.

    :param kind: ``cron``, ``manual``, ``api``, ``cli``, ``call_job`` or ``replay``
    :param by: the caller's name, empty if unknown
    :param at: the instant of the fire; for cron the scheduled one
    """

    kind: str
    by: str = ""
    at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the trigger in the shape of docs/cli.md."""
        return {"kind": self.kind, "by": self.by, "at": iso(self.at)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressView:
    """The last progress that a callable reported; ``total`` is None if it is unknown."""

    done: float
    total: float | None = None
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the progress in the shape of docs/cli.md."""
        return {"done": self.done, "total": self.total, "message": self.message}


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptView:
    """One try at one step. Times are aware UTC, ``peak_rss_bytes`` and ``cpu_seconds`` 0 if not measured."""

    attempt_key: str
    attempt: int
    state: str
    reason: ReasonView | None = None
    rows_affected: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    host: str = ""
    incarnation: str = ""
    worker_pid: int = 0
    generation: int = 0
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: ProgressView | None = None
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    child_run_id: str = ""
    child_job_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the attempt in the shape of docs/cli.md."""
        return {
            **_outcome_json(self),
            "attempt_key": self.attempt_key,
            "host": self.host,
            "incarnation": self.incarnation,
            "worker_pid": self.worker_pid or None,
            "generation": self.generation or None,
            "dispatched_at": iso(self.dispatched_at),
            "peak_rss_bytes": self.peak_rss_bytes or None,
            "cpu_seconds": self.cpu_seconds or None,
        }


_NOT_REACHED = AttemptView(attempt_key="", attempt=0, state="PENDING")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepView:
    """One step of a run with every attempt at it, oldest first."""

    name: str
    index: int = 0
    type: str = "python"
    callable: str = ""
    attempts: tuple[AttemptView, ...] = ()

    @property
    def last(self) -> AttemptView:
        """The newest attempt; one in state PENDING, numbered 0, if the step has not been reached."""
        return self.attempts[-1] if self.attempts else _NOT_REACHED

    def to_json(self) -> dict[str, Any]:
        """Return the step in the shape of docs/cli.md: its last attempt's values, and all attempts."""
        return {
            "name": self.name,
            "type": self.type,
            "callable": self.callable,
            **_outcome_json(self.last),
            "attempts": [attempt.to_json() for attempt in self.attempts],
        }


def _outcome_json(attempt: AttemptView) -> dict[str, Any]:
    return {
        "state": attempt.state,
        "attempt": attempt.attempt,
        "rows_affected": attempt.rows_affected,
        "extras": dict(attempt.extras),
        "error": attempt.error or None,
        "reason": attempt.reason.code if attempt.reason else None,
        "reason_message": attempt.reason.message if attempt.reason else None,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "progress": attempt.progress.to_json() if attempt.progress else None,
        "child_run_id": attempt.child_run_id or None,
        "child_job_id": attempt.child_job_id or None,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class AncestorView:
    """One run in the chain of call_job steps that led to a run."""

    job_id: str
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelView:
    """A request to cancel: the caller, the time and the reason."""

    requested_at: datetime | None
    by: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the request in the shape of docs/cli.md."""
        return {"requested_at": iso(self.requested_at), "by": self.by, "why": self.why}


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldView:
    """The fires that one MISSED or SKIPPED row stands for."""

    first: datetime | None
    last: datetime | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return the fold in the shape of docs/cli.md."""
        return {"first": iso(self.first), "last": iso(self.last), "count": self.count}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One execution of a job. ``steps`` is empty in lists; times are aware UTC."""

    run_id: str
    job_id: str
    state: str
    reason: ReasonView | None = None
    error: str = ""
    trigger: TriggerView = field(default_factory=lambda: TriggerView(kind="api"))
    rows_affected: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    host: str = ""
    preset: str = ""
    log_level: str = ""
    steps: tuple[StepView, ...] = ()
    parent_chain: tuple[AncestorView, ...] = ()
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel: CancelView | None = None
    fold: FoldView | None = None
    replay_of: str = ""
    log_lines: int = 0
    last_event_seq: int = 0
    current_step: str = ""
    priority: int = 0

    @property
    def terminal(self) -> bool:
        """True if the state is final."""
        return self.state in RUN_TERMINAL

    def to_json(self) -> dict[str, Any]:
        """Return the run in the shape of docs/cli.md."""
        return {
            "run_id": self.run_id,
            "job_id": self.job_id,
            "state": self.state,
            "reason": self.reason.code if self.reason else None,
            "reason_message": self.reason.message if self.reason else None,
            "rows_affected": self.rows_affected,
            "error": self.error or None,
            "trigger": self.trigger.to_json(),
            "params": dict(self.params),
            "host": self.host,
            "preset": self.preset or None,
            "log_level": self.log_level or None,
            "queued_at": iso(self.queued_at),
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at),
            "cancel": self.cancel.to_json() if self.cancel else None,
            "fold": self.fold.to_json() if self.fold else None,
            "parent_chain": [{"job_id": one.job_id, "run_id": one.run_id} for one in self.parent_chain],
            "replay_of": self.replay_of or None,
            "current_step": self.current_step or None,
            "log_lines": self.log_lines,
            "steps": [step.to_json() for step in self.steps],
        }
