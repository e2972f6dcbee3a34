"""Drives an outbox as a session does."""

from __future__ import annotations

from typing import Any

from nomaflow_api.v1.letter_words import AckStatus, FinishedState, LogCodec
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptReport,
    DispatchOrder,
    Event,
    Finished,
    LogChunk,
    Progress,
    Started,
    Stopping,
)
from nomaflow_api.v1.log_lines import unpacked
from nomaflow_api.v1.sealing import open_event
from nomaflow_host.outbox.outbox import Outbox

KEY = "run_1/one/1"


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(event: Event) -> bytes:
    """Return an event in a form that is easy to compare."""
    if isinstance(event, LogChunk):
        return unpacked(event.body, compressed=event.codec is LogCodec.JSONL_ZLIB) or b""
    if isinstance(event, Progress):
        return f"progress {event.done:g}".encode()
    if isinstance(event, Stopping):
        return f"rung {event.rung}".encode()
    if isinstance(event, Started):
        return f"started {event.worker_pid}".encode()
    return f"finished {event.state} {event.reason_code} ".encode() + event.outcome


def order(key: str = KEY, **more: Any) -> DispatchOrder:
    return DispatchOrder(attempt_key=key, epoch=1, callable="m:f", **more)


def chunk(body: bytes) -> LogChunk:
    return LogChunk(line_count=1, first_at_us=0, last_at_us=0, levels=2, codec=LogCodec.JSONL, body=body)


def started(pid: int = 7) -> Started:
    return Started(at_us=0, worker_pid=pid, generation=1, exclusive=False)


def finished(**more: Any) -> Finished:
    return Finished(at_us=0, **{"state": FinishedState.SUCCEEDED, **more})


def texts(batch: list[AttemptReport]) -> dict[str, list[bytes]]:
    return {report.attempt_key: [shown(open_event(event)) for event in report.events] for report in batch}


def answer(
    outbox: Outbox, seq: int, status: AckStatus = AckStatus.OK, detail: str = "", *, key: str = KEY
) -> DispatchOrder | None:
    """Answer one attempt as a kernel does."""
    return outbox.acknowledge(AttemptAck(attempt_key=key, acknowledged_seq=seq, status=status, detail=detail))


def acknowledge(outbox: Outbox, batch: list[AttemptReport]) -> None:
    assert batch
    for report in batch:
        answer(outbox, report.first_seq + len(report.events) - 1, key=report.attempt_key)


def deliver_all(outbox: Outbox) -> dict[str, list[bytes]]:
    """Acknowledge batch after batch, checking that the numbers follow without a gap."""
    got: dict[str, list[bytes]] = {}
    while batch := outbox.next_batch():
        told = texts(batch)
        for report in batch:
            mine = got.setdefault(report.attempt_key, [])
            assert report.first_seq == len(mine) + 1
            mine += told[report.attempt_key]
        acknowledge(outbox, batch)
    return got
