"""Orders for hosts: to run an attempt, and to stop it."""

from __future__ import annotations

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_api.v1.letter_words import Isolation, TimeoutKind
from nomaflow_api.v1.letters import AttemptOrder, CancelOrder, DispatchOrder
from nomaflow_api.v1.sealing import seal
from nomaflow_kernel.access.secret_params import SecretParamsUnreadable, secret_keys
from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.run_plan import PlannedStep, dump_values
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import CancelRequest


def dispatch_order(state: EngineState, run: ActiveRun, instance: Instance, now: float) -> DispatchOrder:
    """Return the order for the current attempt. Each time it is sent, it is built again with the time that is left.

    :param instance: the one that it is sent to, and which has to read it
    :param now: the monotonic time
    """
    current, definition, step = run.attempt, run.definition, run.attempt.step
    timeout_ms, timeout_kind = _time_limit(run, step, now)
    reported = current.report_seq > 0
    letter = b"" if reported else _letter(state, run, current, timeout_ms)
    instance.sent(current.key, len(letter))
    return DispatchOrder(
        attempt_key=current.key,
        epoch=state.epoch,
        callable=step.callable,
        isolation=Isolation.EXCLUSIVE if step.wants_instance else Isolation(step.isolation.value),
        timeout_ms=timeout_ms,
        timeout_kind=timeout_kind,
        cancel_grace_ms=None if step.cancel_grace_seconds is None else _milliseconds(step.cancel_grace_seconds),
        retry_on_lost=definition.retry_on_lost,
        grace_ms=_milliseconds(definition.lost_after_seconds or 0),
        max_log_bytes=min(definition.max_log_bytes or 0, MOST_NUMBER),
        traceparent=state.traceparent(run.record),
        reported=reported,
        order=letter,
    )


def _letter(state: EngineState, run: ActiveRun, current: CurrentAttempt, timeout_ms: int) -> bytes:
    """Return the sealed letter that the worker opens."""
    record, definition, step = run.record, run.definition, current.step
    values, literal = step.values
    kwargs_json, params_json = dump_values(values), run.plan.params_json
    hidden = {key for text in (kwargs_json, params_json) for key in secret_keys(text, definition.secret_params)}
    if hidden:
        kwargs_json, params_json = _opened(state, kwargs_json), _opened(state, params_json)
    order = AttemptOrder(
        attempt_key=current.key,
        run_id=run.run_id,
        job_id=run.job_id,
        step=step.name,
        attempt=current.number,
        callable=step.callable,
        kwargs_json=_json_bytes(kwargs_json),
        strict_keys=step.strict_keys,
        literal_kwargs=tuple(literal),
        params_json=_json_bytes(params_json),
        literal_params=tuple(run.plan.literal_params),
        secret_keys=tuple(sorted(hidden)),
        trigger_kind=record.trigger.kind.value,
        trigger_by=record.trigger.by,
        trigger_at_us=record.trigger.at_us,
        prev_rows_affected=run.prev_rows,
        parent_chain=tuple((each.job_id, each.run_id) for each in record.parent_chain),
        previous_steps_json=run.previous_steps_json().encode() if run.previous else b"",
        timeout_ms=timeout_ms,
        log_level=run.plan.log_level,
    )
    return seal(order)


def unreadable_secrets(state: EngineState, run: ActiveRun, step: PlannedStep) -> Reason | None:
    """Return why an attempt cannot be given its secret params; None if it can, or has none."""
    # A sealed value of the step is in one of these. All of its values are not merged for each look at an attempt that
    # waits.
    try:
        for text in (run.plan.params_json, dump_values(run.record.request.op_kwargs.get(step.name, {}))):
            state.secrets.opened(text)
    except SecretParamsUnreadable as error:
        return Reason("secret_params_unreadable", str(error))
    return None


def _opened(state: EngineState, text: str) -> str:
    """Return the values for the host. What cannot be opened stays sealed: an attempt that was sent before continues."""
    try:
        return state.secrets.opened(text)
    except SecretParamsUnreadable:
        return text


def _milliseconds(seconds: float) -> int:
    return min(int(seconds * 1000), MOST_NUMBER)


def _json_bytes(text: str) -> bytes:
    return b"" if text == "{}" else text.encode("utf-8", "surrogatepass")


def _time_limit(run: ActiveRun, step: PlannedStep, now: float) -> tuple[int, TimeoutKind]:
    step_ms = None if step.timeout_seconds is None else max(1, int(step.timeout_seconds * 1000))
    job_ms = None if run.definition.timeout_seconds is None else max(1, int((run.due - now) * 1000))
    if job_ms is not None and (step_ms is None or job_ms < step_ms):
        return job_ms, TimeoutKind.JOB
    if step_ms is not None:
        return step_ms, TimeoutKind.STEP
    return 0, TimeoutKind.NONE


def cancel_order(attempt_key: str, cancel: CancelRequest) -> CancelOrder:
    """Return the order that passes a cancel to a host."""
    return CancelOrder(attempt_key=attempt_key, by=cancel.by, why=cancel.why, reason_code=cancel.code)
