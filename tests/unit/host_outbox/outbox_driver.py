"""Drives an outbox as a session does."""

from __future__ import annotations

from typing import Any

from nomaflow_host.attempt.messages import AttemptOrder, Finished, FinishedState, LogChunk, Progress, Started
from nomaflow_host.outbox import AckKind, Batch, Outbox

KEY = "run_1/one/1"


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def encode(event: Any) -> bytes:
    if isinstance(event, LogChunk):
        return event.body
    if isinstance(event, Progress):
        return f"progress {event.done:g}".encode()
    if isinstance(event, Started):
        return f"started {event.worker_pid}".encode()
    return b"finished " + event.state.value.encode() + b" " + event.reason_code.encode() + b" " + event.extras_json


def order(key: str = KEY, **more: Any) -> AttemptOrder:
    run, step, attempt = key.split("/")
    return AttemptOrder(
        attempt_key=key, epoch=1, run_id=run, job_id="job", step=step, attempt=int(attempt), callable="m:f", **more
    )


def chunk(body: bytes) -> LogChunk:
    return LogChunk(line_count=1, first_at_us=0, last_at_us=0, levels=2, compressed=False, body=body)


def started(pid: int = 7) -> Started:
    return Started(at_us=0, worker_pid=pid, generation=1, exclusive=False)


def finished(**more: Any) -> Finished:
    return Finished(at_us=0, **{"state": FinishedState.SUCCEEDED, **more})


def texts(batch: Batch | None) -> dict[str, list[bytes]]:
    return {} if batch is None else {group.attempt_key: list(group.events) for group in batch.groups}


def acknowledge(outbox: Outbox, batch: Batch | None) -> None:
    assert batch is not None
    for group in batch.groups:
        outbox.acknowledge(group.attempt_key, group.first_seq + len(group.events) - 1, AckKind.OK)


def deliver_all(outbox: Outbox) -> dict[str, list[bytes]]:
    """Acknowledge batch after batch, checking that the numbers follow without a gap."""
    got: dict[str, list[bytes]] = {}
    while (batch := outbox.next_batch()) is not None:
        for group in batch.groups:
            mine = got.setdefault(group.attempt_key, [])
            assert group.first_seq == len(mine) + 1
            mine += group.events
        acknowledge(outbox, batch)
    return got
