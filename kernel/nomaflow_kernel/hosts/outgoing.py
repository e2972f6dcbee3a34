"""Conversion of the kernel's orders to the messages that hosts receive."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.engine.host_messages import (
    AckStatus,
    AttemptAck,
    CancelOrder,
    DispatchOrder,
    TimeoutKind,
    Verdict,
    VerdictAction,
)
from nomaflow_kernel.history.records import TriggerKind

__all__ = ["MOST_MS", "Order", "fill_command", "fill_dispatch", "report_response", "verdict_message"]

Order = DispatchOrder | CancelOrder | gateway.DrainCommand | gateway.ReloadCommand | gateway.CheckCommand

_TRIGGER_KINDS = {kind: run_pb2.TriggerKind.Value(f"TRIGGER_KIND_{kind.name}") for kind in TriggerKind}
_TIMEOUT_KINDS = {
    TimeoutKind.NONE: gateway.TIMEOUT_KIND_UNSPECIFIED,
    TimeoutKind.STEP: gateway.TIMEOUT_KIND_STEP,
    TimeoutKind.JOB: gateway.TIMEOUT_KIND_JOB,
}
_ISOLATIONS = {"shared": gateway.ISOLATION_SHARED, "exclusive": gateway.ISOLATION_EXCLUSIVE}
_ACTIONS = {action: gateway.VerdictAction.Value(f"VERDICT_ACTION_{action.name}") for action in VerdictAction}
_ACK_STATUSES = {status: gateway.AckStatus.Value(f"ACK_STATUS_{status.name}") for status in AckStatus}
_EMPTY = ("", "{}")
_NO_STEPS = ("", "[]")

MOST_MS = 2**32 - 1
"""The largest number of milliseconds on the wire, 49 days; longer times are cut to it."""


def fill_command(command: gateway.Command, order: Order) -> None:
    """Write an order into a command of a message under construction, without copying it."""
    match order:
        case DispatchOrder():
            fill_dispatch(command.dispatch, order)
        case CancelOrder():
            command.cancel.CopyFrom(cancel_message(order))
        case gateway.ReloadCommand():
            command.reload.CopyFrom(order)
            command.reload.SetInParent()
        case gateway.CheckCommand():
            command.check.CopyFrom(order)
            command.check.SetInParent()
        case _:
            command.drain.CopyFrom(order)
            command.drain.SetInParent()


def fill_dispatch(message: gateway.DispatchCommand, order: DispatchOrder) -> None:
    """Write the order that runs an attempt into its message."""
    message.attempt_key = order.attempt_key
    message.epoch = order.epoch
    message.run_id = order.run_id
    message.job_id = order.job_id
    message.step = order.step
    message.attempt = order.attempt
    message.callable = order.callable
    message.log_level = order.log_level
    trigger = message.trigger
    trigger.kind = _TRIGGER_KINDS[order.trigger.kind]
    trigger.by = order.trigger.by
    trigger.at.seconds, micros = divmod(order.trigger.at_us, 1_000_000)
    trigger.at.nanos = micros * 1000
    # Rare fields are written only if they are set: each field costs as much as all the checks.
    if order.kwargs_json not in _EMPTY:
        message.kwargs_json = _json_bytes(order.kwargs_json)
    if order.strict_keys:
        message.strict_keys.extend(order.strict_keys)
    if order.params_json not in _EMPTY:
        message.params_json = _json_bytes(order.params_json)
    if order.previous_steps_json not in _NO_STEPS:
        message.previous_steps_json = order.previous_steps_json.encode()
    if order.timeout_ms:
        message.timeout_ms = order.timeout_ms
        message.timeout_kind = _TIMEOUT_KINDS[order.timeout_kind]
    if order.isolation:
        message.isolation = _ISOLATIONS.get(order.isolation, gateway.ISOLATION_UNSPECIFIED)
    if order.retry_on_lost:
        message.retry_on_lost = True
    if order.grace_ms:
        message.grace_ms = min(order.grace_ms, MOST_MS)
    if order.max_log_bytes:
        message.max_log_bytes = min(order.max_log_bytes, 2**64 - 1)
    if order.prev_rows_affected is not None:
        message.prev_rows_affected = order.prev_rows_affected
    if order.cancel_grace_ms is not None:
        message.cancel_grace_ms = min(order.cancel_grace_ms, MOST_MS)
    if order.traceparent:
        message.traceparent = order.traceparent
    for ancestor in order.parent_chain:
        message.parent_chain.add(job_id=ancestor.job_id, run_id=ancestor.run_id)


def cancel_message(order: CancelOrder) -> gateway.CancelCommand:
    """Return the command that stops an attempt."""
    return gateway.CancelCommand(
        attempt_key=order.attempt_key, by=order.by, why=order.why, reason_code=order.reason_code
    )


def verdict_message(verdict: Verdict) -> gateway.Verdict:
    """Return the answer to one attempt of an inventory."""
    return gateway.Verdict(
        attempt_key=verdict.attempt_key,
        action=_ACTIONS[verdict.action],
        acknowledged_seq=verdict.acknowledged_seq,
        cancel=cancel_message(verdict.cancel) if verdict.cancel else None,
    )


def report_response(acks: Iterable[AttemptAck]) -> gateway.ReportResponse:
    """Return the answers to the attempts of a report."""
    response = gateway.ReportResponse()
    for ack in acks:
        message = response.acks.add()
        message.attempt_key = ack.attempt_key
        message.acknowledged_seq = ack.acknowledged_seq
        message.status = _ACK_STATUSES[ack.status]
        if ack.detail:
            message.detail = ack.detail
    return response


def _json_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
