"""From the kernel's orders to the messages a host receives."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.domain.hosting import (
    AckStatus,
    AttemptAck,
    CancelOrder,
    DispatchOrder,
    TimeoutKind,
    Verdict,
    VerdictAction,
)
from nomaflow_kernel.domain.records import TriggerKind

__all__ = ["MOST_MS", "ack_messages", "cancel_message", "dispatch_message", "verdict_message"]

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

MOST_MS = 2**32 - 1
"""Milliseconds that the wire can say, 49 days: a longer time is as good as that."""


def dispatch_message(order: DispatchOrder) -> gateway.DispatchCommand:
    """Return the command that runs an attempt."""
    message = gateway.DispatchCommand(
        attempt_key=order.attempt_key,
        epoch=order.epoch,
        run_id=order.run_id,
        job_id=order.job_id,
        step=order.step,
        attempt=order.attempt,
        callable=order.callable,
        kwargs_json=_json_bytes(order.kwargs_json),
        strict_keys=order.strict_keys,
        params_json=_json_bytes(order.params_json),
        previous_steps_json=b"" if order.previous_steps_json in ("", "[]") else order.previous_steps_json.encode(),
        timeout_ms=order.timeout_ms,
        timeout_kind=_TIMEOUT_KINDS[order.timeout_kind],
        isolation=_ISOLATIONS.get(order.isolation, gateway.ISOLATION_UNSPECIFIED),
        log_level=order.log_level,
        retry_on_lost=order.retry_on_lost,
        grace_ms=min(order.grace_ms, MOST_MS),
        max_log_bytes=min(order.max_log_bytes, 2**64 - 1),
    )
    message.trigger.kind = _TRIGGER_KINDS[order.trigger.kind]
    message.trigger.by = order.trigger.by
    message.trigger.at.FromMicroseconds(order.trigger.at_us)
    if order.prev_rows_affected is not None:
        message.prev_rows_affected = order.prev_rows_affected
    if order.cancel_grace_ms is not None:
        message.cancel_grace_ms = min(order.cancel_grace_ms, MOST_MS)
    if order.traceparent:
        message.traceparent = order.traceparent
    for ancestor in order.parent_chain:
        message.parent_chain.add(job_id=ancestor.job_id, run_id=ancestor.run_id)
    return message


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


def ack_messages(acks: Sequence[AttemptAck]) -> list[gateway.AttemptAck]:
    """Return the answers to the attempts of a report."""
    return [
        gateway.AttemptAck(
            attempt_key=ack.attempt_key,
            acknowledged_seq=ack.acknowledged_seq,
            status=_ACK_STATUSES[ack.status],
            detail=ack.detail,
        )
        for ack in acks
    ]


def _json_bytes(text: str) -> bytes:
    return b"" if text in _EMPTY else text.encode("utf-8", "surrogatepass")
