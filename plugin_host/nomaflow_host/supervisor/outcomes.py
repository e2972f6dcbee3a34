"""Determines the end of an attempt from its worker's report, the requests to stop it, and its worker's death."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nomaflow_host.attempt.messages import Finished, FinishedState
from nomaflow_host.supervisor.causes import death_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.values import StopRequest
    from nomaflow_host.worker.outcome import Outcome

__all__ = ["finished_of"]


def finished_of(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> Finished:
    """Return the last event of an attempt whose code has stopped.

    :param exited: the reaper's message about its worker, None if that still lives
    """
    outcome = attempt.outcome
    state, code, reason = _verdict(attempt, exited)
    usage = _usage(attempt, exited)
    kept = outcome is not None and outcome.state == "SUCCEEDED"
    masked = attempt.worker.masker.now.text
    silent = outcome is None or (attempt.stop is not None and outcome.cancelled_error)
    return Finished(
        at_us=time.time_ns() // 1000,
        state=state,
        rows_affected=outcome.rows_affected if outcome is not None and kept else None,
        extras_json=outcome.extras_json.encode("utf-8") if outcome is not None and kept else b"",
        has_result=outcome.has_result if outcome is not None and kept else False,
        error="" if outcome is None or silent else masked(outcome.error),
        reason_code=code,
        reason=masked(reason),
        exception_types=() if outcome is None or silent else outcome.exception_types,
        peak_rss_bytes=int(usage["peak_rss_bytes"]),
        cpu_seconds=float(usage["cpu_seconds"]),
        warnings=tuple(map(masked, _warnings(attempt, outcome))),
        not_started=outcome.not_started if outcome is not None else not attempt.started,
    )


def _verdict(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> tuple[FinishedState, str, str]:
    stop, outcome, note = attempt.stop, attempt.outcome, attempt.worker.kill_note
    if stop is not None:
        return stop.state, stop.reason_code, stop.reason
    if outcome is not None:
        return FinishedState(outcome.state), outcome.reason_code, outcome.reason
    if exited is not None and exited.get("cause") is None and note is not None:
        return FinishedState.FAILED, "worker_killed", _killed(attempt, note.culprit, note.why)
    return FinishedState.FAILED, *death_of(exited or {})


def _killed(attempt: HeldAttempt, culprit: HeldAttempt | None, why: str) -> str:
    if culprit is None:
        return f"its worker was killed: {why}"
    order = culprit.order
    who = "it" if culprit is attempt else f"step {order.step!r} of run {order.run_id} ({order.callable})"
    return f"its shared worker was killed because {who} did not stop: {why}"


def _usage(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if attempt.finished is not None:
        return attempt.finished
    if exited is None or "cpu_seconds" not in exited:
        return {"peak_rss_bytes": 0, "cpu_seconds": 0.0}
    spent = max(0.0, float(exited["cpu_seconds"]) - attempt.cpu_before)
    return {"peak_rss_bytes": exited["peak_rss_bytes"], "cpu_seconds": spent}


def _warnings(attempt: HeldAttempt, outcome: Outcome | None) -> tuple[str, ...]:
    given = () if outcome is None else outcome.warnings
    if not attempt.left:
        return given
    return (*given, f"it left {attempt.left} running when it returned; the host has stopped them")


def stop_sentence(stop: StopRequest) -> str:
    """Return the reason for a stop, for the ladder's lines."""
    return f"{stop.reason} ({stop.reason_code})"
