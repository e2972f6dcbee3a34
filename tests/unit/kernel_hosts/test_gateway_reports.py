"""Reports of hosts: each event checked alone, committed, then answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from gateway_session import INCARNATION, KEY
from rpc_world import World

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import run_pb2
from nomaflow_kernel.engine.host_messages import ReportedFinished, ReportedLog
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.store.errors import StoreBusy


async def send(world: World, *reports: gateway.AttemptReport, epoch: int = 1) -> Sequence[gateway.AttemptAck]:
    """Report and return the answers."""
    request = gateway.ReportRequest(incarnation=INCARNATION, epoch=epoch, attempts=reports)
    return (await world.gateway.Report(request, timeout=10)).acks


def event(**fields: Any) -> gateway.AttemptEvent:
    """Return an event."""
    return gateway.AttemptEvent(**fields)


def end(**fields: Any) -> gateway.AttemptEvent:
    """Return the end of an attempt."""
    return event(finished=gateway.AttemptFinished(**{"state": run_pb2.ATTEMPT_STATE_SUCCEEDED, **fields}))


CHUNK = {"line_count": 1, "codec": gateway.LOG_CODEC_JSONL, "body": b"x"}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (gateway.AttemptReport(attempt_key="x", first_seq=1), "not an attempt key"),
        (gateway.AttemptReport(attempt_key="run_%/a/1", first_seq=1), "not an attempt key"),
        (gateway.AttemptReport(attempt_key=KEY + "x" * 500, first_seq=1), "characters"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=0), "first_seq"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=2**63), "first_seq"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[event()]), "does not know"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(), end()]), "after finished"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(state=3)]), "state number 3"),
        (gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end(state=8)]), "state number 8"),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[end(result=run_pb2.StepResult(extras_json=b"[1]"))]
            ),
            "expected an object",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[end(result=run_pb2.StepResult(extras_json=b'{"a": NaN}'))]
            ),
            "cannot be read",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[event(log=gateway.LogChunk(**{**CHUNK, "line_count": 0}))]
            ),
            "0 lines",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY, first_seq=1, events=[event(log=gateway.LogChunk(**{**CHUNK, "codec": 9}))]
            ),
            "codec",
        ),
        (
            gateway.AttemptReport(
                attempt_key=KEY,
                first_seq=1,
                events=[event(log=gateway.LogChunk(**{**CHUNK, "body": b"x" * (1024 * 1024 + 1)}))],
            ),
            "bytes",
        ),
        (gateway.AttemptReport(attempt_key=KEY, events=[end()], unknown=True), "one or the other"),
    ],
)
async def test_an_invalid_report_is_answered_alone(world: World, report: gateway.AttemptReport, said: str) -> None:
    """The others of the same call are taken in, and the answers keep the order."""
    good = gateway.AttemptReport(attempt_key=KEY, first_seq=4, events=[event(log=gateway.LogChunk(**CHUNK))])
    acks = await send(world, good, report, good)
    assert [ack.status for ack in acks] == [
        gateway.ACK_STATUS_OK,
        gateway.ACK_STATUS_INVALID,
        gateway.ACK_STATUS_OK,
    ]
    assert said in acks[1].detail
    assert [ack.acknowledged_seq for ack in acks] == [4, 0, 4]
    assert len(world.engine.reports) == 2


async def test_a_report_arrives_whole_and_unread(world: World) -> None:
    """Log bytes are passed on unchanged; a progress of NaN becomes 0, and an infinite total None."""
    body = bytes(range(256))
    packed = gateway.LogChunk(line_count=3, levels=4, codec=gateway.LOG_CODEC_JSONL_ZLIB, body=body)
    progress = gateway.AttemptProgress(progress=run_pb2.Progress(done=float("nan"), total=float("inf")))
    result = run_pb2.StepResult(rows_affected=0)
    await send(
        world,
        gateway.AttemptReport(
            attempt_key=KEY, first_seq=1, events=[event(log=packed), event(progress=progress), end(result=result)]
        ),
    )
    (told,) = world.engine.reports
    log, progressed, done = told.events
    assert isinstance(log, ReportedLog)
    assert (log.body, log.line_count, log.levels) == (body, 3, 4)
    assert (progressed.done, progressed.total) == (0.0, None)  # type: ignore[union-attr]  # the second is progress
    assert isinstance(done, ReportedFinished)
    assert (done.state, done.rows_affected, done.has_result) == (AttemptState.SUCCEEDED, 0, True)


async def test_what_could_not_be_committed_is_not_acknowledged(world: World) -> None:
    """The call fails with a status that says to try again; a report of another epoch is refused whole."""
    report = gateway.AttemptReport(attempt_key=KEY, first_seq=1, events=[end()])
    world.engine.trouble = StoreBusy("locked")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, report)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    world.engine.trouble = None
    for epoch in (0, 2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(world, report, epoch=epoch)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert world.engine.reports == []
