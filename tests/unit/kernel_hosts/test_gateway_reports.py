"""Reports of hosts: passed on sealed, committed, then answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grpc
import pytest
from gateway_session import INCARNATION, KEY
from rpc_world import ScriptedEngine, World

from nomaflow_api.bounds import REPORTED_ATTEMPTS, REPORTED_EVENTS
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import AttemptAck, AttemptReport
from nomaflow_api.v1.sealing import open_acks, seal
from nomaflow_kernel.access.principals import Caller, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_kernel.engine import Engine
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.hosts.gateway import HostGateway
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.models.settings_file import QuotaSection


class StandingClock(SystemClock):
    """A clock that stands still."""

    def monotonic(self) -> float:
        """Return the same time at each call."""
        return 1000.0


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
    """V10: a report with one attempt or event more than allowed is refused as a whole."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, *reports)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (caught.value.details() or "")
    assert world.engine.reports == []


async def test_reports_arrive_unopened_and_the_answers_keep_their_order(world: World) -> None:
    """Only the engine reads the contents of an event."""
    first = AttemptReport(attempt_key=KEY, first_seq=4, events=(b"\x00\xff", b"anything"))
    second = AttemptReport(attempt_key=KEY, first_seq=1)
    acks = await send(world, first, second)
    assert [ack.acknowledged_seq for ack in acks] == [5, 0]
    assert world.engine.reports == [first, second]
    assert world.engine.report_sizes == [len(seal([first, second]))]


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


async def test_reports_on_a_stream_are_answered_one_after_the_other(world: World) -> None:
    """Each answer comes before the next report is sent, and an error speaks of its own report only."""
    first = AttemptReport(attempt_key=KEY, first_seq=1, events=(b"begin",))
    second = AttemptReport(attempt_key=KEY, first_seq=2, events=(b"end",))
    stream = world.gateway.StreamReports(timeout=20)
    for report, acknowledged in ((first, 1), (second, 2)):
        await stream.write(_on_a_stream(report))
        (ack,) = open_acks((await stream.read()).answer.acks)
        assert ack.acknowledged_seq == acknowledged
    assert world.engine.reports == [first, second]
    await stream.write(_on_a_stream(first, epoch=2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert world.engine.reports == [first, second]


async def test_a_report_counts_by_the_attempts_that_it_tells_of() -> None:
    """Else a host could say more in a large report than in many small ones."""
    quotas = Quotas(limits=QuotaSection(), clock=StandingClock())
    answered = ScriptedEngine()
    unused: Any = None
    served = HostGateway(
        engine=cast(Engine, answered),
        manifests=unused,
        sessions=unused,
        audit=unused,
        info=StoreInfo(kind="sqlite", epoch=1, last_event_seq=0),
        settings=unused,
        quotas=quotas,
    )
    caller = Caller(principal=Principal(kind=PrincipalKind.HOST, name="demo"), peer="here")
    report = _on_a_stream(*[AttemptReport(attempt_key=KEY, first_seq=1)] * 160).report
    for _ in range(1_000):
        await served.report(report, caller)
    with pytest.raises(QuotaExceeded):
        await served.report(report, caller)
    assert len(answered.reports) == 1_000 * 160  # 10,000 calls at once, and sixteen attempts are worth one


def _on_a_stream(*reports: AttemptReport, epoch: int = 1) -> gateway.StreamReportsRequest:
    report = gateway.ReportRequest(incarnation=INCARNATION, epoch=epoch, attempts=seal(reports))
    return gateway.StreamReportsRequest(report=report)
