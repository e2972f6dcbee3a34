"""Conversion of events to client messages."""

from __future__ import annotations

import json

from nomaflow_api.v1 import event_pb2
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.rpc.run_messages import attempt_state_number, reason_message, run_state_number, timestamp

__all__ = ["event_message"]


def event_message(event: EventRecord) -> event_pb2.Event:
    """Return the message of an event."""
    message = event_pb2.Event(
        seq=event.seq,
        at=timestamp(event.at_us),
        kind=event.kind,
        run_id=event.run_id,
        job_id=event.job_id,
        step=event.step,
        attempt=event.attempt,
        reason=reason_message(event.reason),
        host=event.host,
        data_json=json.dumps(event.data, separators=(",", ":")).encode() if event.data else b"",
    )
    if event.state:
        if event.kind.startswith("run."):
            message.run_state = run_state_number(RunState(event.state))
        elif event.kind.startswith("attempt."):
            message.attempt_state = attempt_state_number(AttemptState(event.state))
    return message
