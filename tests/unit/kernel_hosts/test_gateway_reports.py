"""Reports of hosts: passed on sealed, committed, then answered."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import pytest
from gateway_session import INCARNATION, KEY
from rpc_world import World

from nomaflow_api.bounds import REPORTED_ATTEMPTS, REPORTED_EVENTS
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import AttemptAck, AttemptReport
from nomaflow_api.v1.sealing import open_acks, seal
from nomaflow_kernel.store.errors import StoreBusy


async def send(world: World, *reports: AttemptReport, epoch: int = 1) -> Sequence[AttemptAck]:
    """Report and return the answers."""
    request = gateway.ReportRequest(incarnation=INCARNATION, epoch=epoch, attempts=seal(reports))
    return open_acks((await world.gateway.Report(request, timeout=10)).acks)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (AttemptReport(attempt_key="x", first_seq=1), "attempt_key"),
        (AttemptReport(attempt_key="/a/1", first_seq=1), "attempt_key"),
        (AttemptReport(attempt_key="run\0/a/1", first_seq=1), "attempt_key"),
        (AttemptReport(attempt_key=KEY + "1" * 500, first_seq=1), "attempt_key"),
        (AttemptReport(attempt_key=KEY, first_seq=0), "first_seq"),
        (AttemptReport(attempt_key=KEY, first_seq=2**63), "first_seq"),
    ],
)
async def test_a_report_whose_envelope_is_malformed_is_refused(world: World, report: AttemptReport, said: str) -> None:
    """The host then sends its reports one by one, and finds the one at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, AttemptReport(attempt_key=KEY, first_seq=4), report)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (caught.value.details() or "")
    assert world.engine.reports == []


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([AttemptReport(attempt_key=KEY, first_seq=1)] * (REPORTED_ATTEMPTS + 1), "length <= 1000"),
        ([AttemptReport(attempt_key=KEY, first_seq=1, events=(b"",) * (REPORTED_EVENTS + 1))], "length <= 10000"),
    ],
    ids=["attempts", "events"],
)
async def test_a_report_outside_the_bounds_is_refused(world: World, reports: list[AttemptReport], said: str) -> None:
    """V10: one attempt, or one event of an attempt, more than the most: nothing of it is taken in."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, *reports)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (caught.value.details() or "")
    assert world.engine.reports == []


async def test_reports_arrive_unopened_and_the_answers_keep_their_order(world: World) -> None:
    """Only the engine reads the contents of an event."""
    first = AttemptReport(attempt_key=KEY, first_seq=4, events=(b"\x00\xff", b"anything"))
    second = AttemptReport(attempt_key=KEY, first_seq=1, unknown=True)
    acks = await send(world, first, second)
    assert [ack.acknowledged_seq for ack in acks] == [5, 0]
    assert world.engine.reports == [first, second]


async def test_what_could_not_be_committed_is_not_acknowledged(world: World) -> None:
    """The call fails with a status that says to try again; a report of another epoch is refused whole."""
    report = AttemptReport(attempt_key=KEY, first_seq=1, events=(b"end",))
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
