"""Orders for hosts: to run an attempt, and to stop it."""

from __future__ import annotations

from nomaflow_kernel.engine.active import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.host_messages import CancelOrder, DispatchOrder, TimeoutKind
from nomaflow_kernel.engine.plan import PlannedStep
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.records import CancelRequest
from nomaflow_project.jobs.definitions import IsolationChoice

__all__ = ["cancel_order", "dispatch_order"]


def dispatch_order(state: EngineState, run: ActiveRun, current: CurrentAttempt, now_us: int) -> DispatchOrder:
    """Return the order for the current attempt. Each time it is sent, it is built again with the time that is left."""
    record, definition = run.record, run.definition
    timeout_ms, timeout_kind = _time_limit(run, current.step, now_us)
    return DispatchOrder(
        attempt_key=current.key,
        epoch=state.epoch,
        run_id=run.run_id,
        job_id=run.job_id,
        step=current.step.name,
        attempt=current.number,
        callable=current.step.callable,
        kwargs_json=current.step.kwargs_json,
        strict_keys=current.step.strict_keys,
        params_json=run.plan.params_json,
        trigger=record.trigger,
        prev_rows_affected=run.prev_rows,
        parent_chain=record.parent_chain,
        previous_steps_json=run.previous_steps_json(),
        timeout_ms=timeout_ms,
        timeout_kind=timeout_kind,
        cancel_grace_ms=None
        if current.step.cancel_grace_seconds is None
        else int(current.step.cancel_grace_seconds * 1000),
        isolation="" if current.step.isolation is IsolationChoice.BY_KIND else str(current.step.isolation),
        log_level=run.plan.log_level,
        retry_on_lost=definition.retry_on_lost,
        grace_ms=int((definition.lost_after_seconds or 0) * 1000),
        max_log_bytes=definition.max_log_bytes or 0,
        traceparent=state.traceparent(record),
    )


def _time_limit(run: ActiveRun, step: PlannedStep, now_us: int) -> tuple[int, TimeoutKind]:
    step_ms = None if step.timeout_seconds is None else max(1, int(step.timeout_seconds * 1000))
    job_us = run.job_us_left(now_us)
    job_ms = None if job_us is None else max(1, job_us // 1000)
    if job_ms is not None and (step_ms is None or job_ms < step_ms):
        return job_ms, TimeoutKind.JOB
    if step_ms is not None:
        return step_ms, TimeoutKind.STEP
    return 0, TimeoutKind.NONE


def cancel_order(attempt_key: str, cancel: CancelRequest) -> CancelOrder:
    """Return the order that passes a cancel to a host."""
    return CancelOrder(attempt_key=attempt_key, by=cancel.by, why=cancel.why, reason_code=cancel.code)
