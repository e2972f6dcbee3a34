"""Reports of hosts: passed on sealed, committed, then answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from gateway_session import INCARNATION, KEY
from gateway_session import Session as ScriptedSession
from rpc_world import ScriptedEngine, World

from nomaflow_api.bounds import REPORTED_ATTEMPTS, REPORTED_EVENTS
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letter_words import AckStatus
from nomaflow_api.v1.letters import AttemptAck, AttemptReport
from nomaflow_api.v1.sealing import open_acks, seal
from nomaflow_kernel.access.principals import OWNER, Caller, Principal, PrincipalKind
from nomaflow_kernel.access.quotas import Quotas
from nomaflow_kernel.domain.clock import SystemClock
from nomaflow_kernel.domain.errors import KernelError, QuotaExceeded, StaleSession
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.hosts.session import Session
from nomaflow_kernel.rpc.host_gateway import HostGateway
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_project.models.settings_file import QuotaSection


class StandingClock(SystemClock):
    """A clock that stands still."""

    def monotonic(self) -> float:
        """Return the same time at each call."""
        return 1000.0


async def send(world: World, *reports: AttemptReport, epoch: int = 1) -> Sequence[AttemptAck]:
    """Report on a new session and return the answers."""
    session = ScriptedSession(world)
    await session.attach()
    stream = world.gateway.StreamReports(timeout=10)
    await stream.write(_on_a_stream(*reports, epoch=epoch))
    await stream.done_writing()
    await stream
    (answer,) = (await session.call.read()).commands.answers
    return open_acks(answer.acks)


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


async def test_reports_on_a_stream_are_answered_on_the_session(world: World) -> None:
    """An error ends the stream and speaks of its own report only; the session goes on."""
    session = ScriptedSession(world)
    await session.attach()
    first = AttemptReport(attempt_key=KEY, first_seq=1, events=(b"begin",))
    second = AttemptReport(attempt_key=KEY, first_seq=2, events=(b"end",))
    stream = world.gateway.StreamReports(timeout=20)
    for number, report, acknowledged in ((7, first, 1), (9, second, 2)):
        await stream.write(_on_a_stream(report, number=number))
        (answer,) = (await session.call.read()).commands.answers
        (ack,) = open_acks(answer.acks)
        assert (answer.number, ack.acknowledged_seq) == (number, acknowledged)
    assert world.engine.reports == [first, second]
    await stream.write(_on_a_stream(first, epoch=2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert world.engine.reports == [first, second]
    ended = world.gateway.StreamReports(timeout=20)
    await ended.done_writing()
    assert await ended == gateway.StreamReportsResponse()


async def test_a_report_on_a_stream_needs_the_session_of_its_instance(world: World) -> None:
    """There would be nowhere to answer it."""
    stream = world.gateway.StreamReports(timeout=20)
    await stream.write(_on_a_stream(AttemptReport(attempt_key=KEY, first_seq=1, events=(b"begin",))))
    with pytest.raises(grpc.aio.AioRpcError, match="is not attached; attach first") as caught:
        await stream
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert world.engine.reports == []


@pytest.mark.parametrize(
    ("attached_by", "caller"),
    [
        (OWNER, Principal(kind=PrincipalKind.HOST, name="team")),
        (OWNER, Principal(kind=PrincipalKind.HOST, name="other")),
        (Principal(kind=PrincipalKind.HOST, name="team"), OWNER),
    ],
    ids=["a host's, of its name", "a host's, of another name", "the owner's"],
)
async def test_no_report_is_answered_on_the_session_of_somebody_else(attached_by: Principal, caller: Principal) -> None:
    """A caller that knows the id of an instance hears nothing of its attempts, and its host hears of no others."""
    engine, sessions = ScriptedEngine(), SessionRegistry()
    hello = InstanceHello(
        host="team", incarnation=INCARNATION, machine="m", pid=1, version="0", principal=str(attached_by)
    )
    sessions.add(Session(hello=hello))
    report = _on_a_stream(AttemptReport(attempt_key=KEY, first_seq=1, events=(b"begin",)))
    served = _gateway(engine, sessions)
    with pytest.raises(StaleSession):
        await served.stream_reports(report, Caller(principal=caller, peer="here"))
    assert engine.reports == []
    await served.stream_reports(report, Caller(principal=attached_by, peer="here"))
    assert len(engine.reports) == 1


async def test_a_host_that_never_reads_its_answers_ends_its_session() -> None:
    """A hostile host reports without end: as much as it likes in each report, or next to nothing."""
    refused = AttemptAck(attempt_key=KEY, acknowledged_seq=0, status=AckStatus.INVALID, detail="x" * 500)
    for acks, kept in (([refused] * 1_000, 1), ([], 10_000)):
        session = Session(hello=InstanceHello(host="team", incarnation=INCARNATION))
        for number in range(kept):
            session.answer(number, acks)
        assert session.open
        for number in range(kept):
            session.answer(number, acks)
        with pytest.raises(KernelError, match="its host does not read the answers to its reports"):
            await anext(session.messages())
        session.answer(0, acks)
        assert not session.open


async def test_answers_that_are_read_leave_room_for_others() -> None:
    """The bound is one of those that wait."""
    session = Session(hello=InstanceHello(host="team", incarnation=INCARNATION))
    acks = [AttemptAck(attempt_key=KEY, acknowledged_seq=1, detail="x" * 500)] * 1_000
    messages = session.messages()
    for number in range(4):
        session.answer(number, acks)
        assert [answer.number for answer in (await anext(messages)).commands.answers] == [number]
    assert session.open


async def test_a_question_that_is_given_up_leaves_nothing_for_a_host_that_never_reads() -> None:
    """A check may have 2 MiB, and each trigger with values asks one."""
    session = Session(hello=InstanceHello(host="team", incarnation=INCARNATION))
    checks = [asyncio.create_task(session.check(gateway.CheckCommand(steps=b"x"))) for _ in range(3)]
    await asyncio.sleep(0)
    assert session.queued == 3
    checks[1].cancel()
    await asyncio.wait(checks[1:2])
    batch = (await anext(session.messages())).commands.commands
    assert [command.command_seq for command in batch] == [1, 3]
    session.leave()
    await asyncio.gather(*checks, return_exceptions=True)


async def test_a_report_counts_by_the_attempts_that_it_tells_of() -> None:
    """Else a host could say more in a large report than in many small ones."""
    answered, sessions = ScriptedEngine(), SessionRegistry()
    served = _gateway(answered, sessions)
    caller = Caller(principal=Principal(kind=PrincipalKind.HOST, name="team"), peer="here")
    hello = InstanceHello(host="team", incarnation=INCARNATION, principal=str(caller.principal))
    sessions.add(session := Session(hello=hello))
    report, answers = _on_a_stream(*[AttemptReport(attempt_key=KEY, first_seq=1)] * 160), session.messages()
    for _ in range(1_000):
        await served.stream_reports(report, caller)
        await anext(answers)
    with pytest.raises(QuotaExceeded):
        await served.stream_reports(report, caller)
    assert len(answered.reports) == 1_000 * 160  # 10,000 calls at once, and sixteen attempts are worth one


def _gateway(engine: ScriptedEngine, sessions: SessionRegistry) -> HostGateway:
    clock = StandingClock()
    parts: Any = SimpleNamespace(
        engine=engine, sessions=sessions, info=StoreInfo(kind="sqlite", epoch=1, last_event_seq=0), clock=clock,
        quotas=Quotas(limits=QuotaSection(), clock=clock), guard=None, store=None, feed=None,
        catalogue=None, audit=None,
    )  # fmt: skip
    return HostGateway(parts)


def _on_a_stream(*reports: AttemptReport, epoch: int = 1, number: int = 1) -> gateway.StreamReportsRequest:
    return gateway.StreamReportsRequest(
        host="team", number=number, incarnation=INCARNATION, epoch=epoch, attempts=seal(reports)
    )
