"""The end of an attempt, as reported or concluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from nomaflow_api.value_class import value_class
from nomaflow_kernel.engine.active import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.host_messages import ReportedFinished
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import FinishAttempt

__all__ = ["Outcome"]


@value_class
class Outcome:
    """A terminal state with its details.

    :param innocent: True if the attempt was killed because of a neighbour
    """

    state: AttemptState
    reason: Reason | None = None
    error: str = ""
    rows_affected: int | None = None
    extras_json: bytes = b""
    has_result: bool = False
    exception_types: tuple[str, ...] = ()
    peak_rss_bytes: int = 0
    cpu_seconds: float = 0.0
    innocent: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def reported(cls, event: ReportedFinished) -> Outcome:
        """Return the outcome of a reported event."""
        data: dict[str, Any] = {"warnings": list(event.warnings)} if event.warnings else {}
        if event.not_started:
            data["not_started"] = True
        return cls(
            state=event.state,
            reason=event.reason,
            error=event.error,
            rows_affected=event.rows_affected,
            extras_json=event.extras_json,
            has_result=event.has_result,
            exception_types=event.exception_types,
            peak_rss_bytes=event.peak_rss_bytes,
            cpu_seconds=event.cpu_seconds,
            innocent=event.reason is not None and event.reason.code == "worker_killed",
            data=data,
        )

    def transition(self, run: ActiveRun, attempt: CurrentAttempt, now_us: int) -> FinishAttempt:
        """Return the transition that records this outcome."""
        return FinishAttempt(
            run_id=run.run_id,
            job_id=run.job_id,
            step_index=attempt.step.index,
            step=attempt.step.name,
            attempt=attempt.number,
            state=self.state,
            at_us=now_us,
            reason=self.reason,
            error=self.error,
            rows_affected=self.rows_affected,
            extras_json=self.extras_json,
            has_result=self.has_result,
            peak_rss_bytes=self.peak_rss_bytes,
            cpu_seconds=self.cpu_seconds,
            data=self.data,
        )
