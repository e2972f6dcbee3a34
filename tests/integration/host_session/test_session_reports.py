"""A session's reports: acknowledged, repeated, refused, spilled, and what follows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_gateway import abort_with
from session_steps import KEY, MakeGateway, MakeHost, running

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import AckStatus, VerdictAction
from nomaflow_api.v1.letters import AttemptAck, CancelOrder, Verdict
from nomaflow_api.v1.sealing import open_reports, seal
from nomaflow_host.outbox.turns import MAX_BATCH_ATTEMPTS
from nomaflow_host.session import reporting
from waiting import eventually


async def test_a_killed_kernel_loses_nothing(gateway: MakeGateway, host: MakeHost) -> None:
    """Events of the outage arrive at its successor, in order, each once; the host is back within seconds."""
    first = await gateway()
    mine = host()
    await running(mine, first)
    await first.kill()
    for number in range(50):
        mine.log(KEY, b"%d\n" % number)
    mine.finish(KEY)
    began = time.monotonic()
    second = await gateway(epoch=2)
    session = await second.session()
    assert time.monotonic() - began < 30
    (held,) = session.inventory
    assert (held.attempt_key, held.ended) == (KEY, True)
    assert session.hello.epoch_seen == 1
    await second.journal.until(lambda: second.journal.acked(KEY) == 52)
    assert second.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(50)]
    assert second.journal.duplicates == 0


@pytest.mark.parametrize("committed", [True, False])
async def test_a_kernel_killed_in_the_middle_of_a_report(
    gateway: MakeGateway, host: MakeHost, *, committed: bool
) -> None:
    """Each event is stored once, even if the report was committed before its answer was lost."""
    first = await gateway()
    mine = host()
    await running(mine, first)
    reached = asyncio.Event()

    async def hang(request: pb.StreamReportsRequest, _: Any) -> bytes | None:
        if committed:
            for report in open_reports(request.attempts):
                first.journal.commit(report)
        reached.set()
        await asyncio.sleep(600)
        return None

    first.on_report = hang
    for number in range(5):
        mine.log(KEY, b"%d\n" % number)
    await asyncio.wait_for(reached.wait(), 30)
    mine.log(KEY, b"5\n")
    await first.kill()
    second = await gateway(epoch=2)
    await second.session()
    await second.journal.until(lambda: second.journal.acked(KEY) == 7)
    assert second.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(6)]


async def test_a_report_that_is_never_answered_is_sent_again(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blackholed report runs into its deadline; heartbeats continue meanwhile and the session stays."""
    kernel = await gateway(heartbeat_interval_ms=50)
    monkeypatch.setattr(reporting, "_DEADLINE_SECONDS", 1.5)
    mine = host()
    await running(mine, kernel)
    hung = []

    async def hang_twice(_: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if len(hung) < 2:
            hung.append(len(kernel.sessions[0].heartbeats))
            await asyncio.sleep(600)
        return None

    kernel.on_report = hang_twice
    mine.log(KEY, b"x\n")
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 2)
    assert len(kernel.sessions) == 1
    assert hung[1] - hung[0] >= 5


async def test_a_full_batch_goes_beside_one_that_is_under_way(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts that fill a batch are sent beside an unanswered report; fewer wait."""
    kernel = await gateway()
    monkeypatch.setattr(reporting, "_DEADLINE_SECONDS", 60.0)
    mine = host()
    await running(mine, kernel)
    (session,) = kernel.sessions
    others = [f"run_2/s{number}/1" for number in range(MAX_BATCH_ATTEMPTS)]
    for key in others:
        session.dispatch(key)
    await mine.runner.until(lambda: len(mine.runner.accepted) == 1 + len(others))
    held, answer = asyncio.Event(), asyncio.Event()

    async def hold_the_first(_: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if not held.is_set():
            held.set()
            await answer.wait()
        return None

    kernel.on_report = hold_the_first
    mine.log(KEY, b"first\n")
    await asyncio.wait_for(held.wait(), 30)
    mine.log(KEY, b"second\n")
    for key in others[:-1]:
        mine.log(key, b"x\n")
    before = kernel.reports
    for _ in range(20):
        await asyncio.sleep(0)
    assert kernel.reports == before
    mine.log(others[-1], b"x\n")
    await kernel.journal.until(lambda: all(kernel.journal.log_bodies(key) == [b"x\n"] for key in others))
    assert not kernel.journal.log_bodies(KEY)
    answer.set()
    await kernel.journal.until(lambda: kernel.journal.log_bodies(KEY) == [b"first\n", b"second\n"])
    assert kernel.journal.duplicates == 0


async def test_reports_that_follow_each_other_share_a_stream(gateway: MakeGateway, host: MakeHost) -> None:
    """A stream costs as much as a call: it is opened again only after one that has failed."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    lost: list[str] = []

    async def lose_one(_: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if not lost:
            lost.append("lost")
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return None

    for number in range(5):
        mine.log(KEY, b"x\n")
        await kernel.journal.until(lambda number=number: kernel.journal.acked(KEY) == number + 2)
    assert (kernel.reports, kernel.report_streams) == (6, 1)
    kernel.on_report = lose_one
    for number in range(5, 8):
        mine.log(KEY, b"x\n")
        await kernel.journal.until(lambda number=number: kernel.journal.acked(KEY) == number + 2)
    assert (kernel.reports, kernel.report_streams) == (10, 2)
    assert len(kernel.sessions) == 1


async def test_duplicate_delivery_is_harmless(gateway: MakeGateway, host: MakeHost) -> None:
    """An answer lost after the commit makes the host send again, and the journal has each event once."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    lost = []

    async def lose_answer(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if len(lost) < 3:
            lost.append(True)
            for report in open_reports(request.attempts):
                kernel.journal.commit(report)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return None

    kernel.on_report = lose_answer
    for number in range(10):
        mine.log(KEY, b"%d\n" % number)
    mine.finish(KEY)
    await kernel.journal.until(lambda: mine.outbox.empty)
    assert kernel.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(10)]
    assert kernel.journal.kinds(KEY)[-1] == "finished"
    assert kernel.journal.duplicates > 0


async def test_a_gap_is_filled(gateway: MakeGateway, host: MakeHost) -> None:
    """A host returns to the number from which the kernel lost unconfirmed events."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    seen = []

    async def gap_once(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if seen:
            return None
        seen.append(True)
        acks = [
            AttemptAck(attempt_key=each.attempt_key, acknowledged_seq=1, status=AckStatus.GAP)
            for each in open_reports(request.attempts)
        ]
        return seal(acks)

    kernel.on_report = gap_once
    for number in range(5):
        mine.log(KEY, b"%d\n" % number)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 6)
    assert kernel.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(5)]


async def test_a_fenced_attempt_is_killed_where_it_may_run_elsewhere(gateway: MakeGateway, host: MakeHost) -> None:
    """A fenced attempt's code must stop with retry_on_lost and runs on without; neither is reported any more."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel, "run_1/may/1", retry_on_lost=True)
    await running(mine, kernel, "run_1/not/1")

    async def fence(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        acks = [
            AttemptAck(attempt_key=each.attempt_key, acknowledged_seq=0, status=AckStatus.FENCED)
            for each in open_reports(request.attempts)
        ]
        return seal(acks)

    kernel.on_report = fence
    mine.log("run_1/not/1", b"x\n")
    mine.log("run_1/may/1", b"x\n")
    await mine.runner.until(lambda: bool(mine.runner.killed))
    assert mine.runner.killed == [("run_1/may/1", "host_lost")]
    reports = kernel.reports
    mine.log("run_1/not/1", b"y\n")
    mine.finish("run_1/not/1")
    await kernel.journal.until(lambda: len(kernel.sessions[0].heartbeats) > 3)
    assert kernel.reports == reports


async def test_code_whose_attempt_the_kernel_has_ended_is_killed(gateway: MakeGateway, host: MakeHost) -> None:
    """A declaration that the host has ended was wrong, for example: another try may run, also without retry_on_lost."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel, "run_1/one/1")

    async def ended(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        acks = [
            AttemptAck(attempt_key=each.attempt_key, acknowledged_seq=0, status=AckStatus.CONFLICT)
            for each in open_reports(request.attempts)
        ]
        return seal(acks)

    kernel.on_report = ended
    mine.log("run_1/one/1", b"x\n")
    await mine.runner.until(lambda: bool(mine.runner.killed))
    assert mine.runner.killed == [("run_1/one/1", "host_lost")]


async def test_one_poisonous_attempt_does_not_hold_up_the_others(gateway: MakeGateway, host: MakeHost) -> None:
    """The attempt that makes a whole report malformed is found and fails; the others arrive."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel, "run_1/bad/1")
    await running(mine, kernel, "run_1/good/1")

    async def refuse_poison(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if any(b"poison" in event for each in open_reports(request.attempts) for event in each.events):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot be decoded")
        return None

    kernel.on_report = refuse_poison
    mine.log("run_1/bad/1", b"poison")
    mine.log("run_1/good/1", b"fine")
    mine.finish("run_1/bad/1")
    mine.finish("run_1/good/1")
    await kernel.journal.until(lambda: mine.outbox.empty, 30)
    assert kernel.journal.kinds("run_1/good/1") == ["started", "log", "finished"]
    assert kernel.journal.end_of("run_1/bad/1").reason_code == "return_invalid"


async def test_a_store_that_is_full_is_waited_for(gateway: MakeGateway, host: MakeHost) -> None:
    """RESOURCE_EXHAUSTED keeps the session, holds the events and delivers them when there is room."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    full = [True] * 3

    async def store_full(_: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if full:
            full.pop()
            await abort_with(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
        return None

    kernel.on_report = store_full
    mine.finish(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 2)
    assert len(kernel.sessions) == 1


async def test_verdicts_are_carried_out(gateway: MakeGateway, host: MakeHost) -> None:
    """Keep resumes after the acknowledged number, cancel and kill stop the code, forget ends the reports."""
    first = await gateway()
    mine = host()
    names = ("keep", "cancel", "forget", "kill")
    for name in names:
        await running(mine, first, f"run_1/{name}/1")
    await first.kill()
    for name in names:
        mine.log(f"run_1/{name}/1", name.encode())
    second = await gateway(epoch=2)
    actions = {
        "keep": VerdictAction.KEEP,
        "cancel": VerdictAction.CANCEL,
        "forget": VerdictAction.FORGET,
        "kill": VerdictAction.KILL,
    }
    second.verdicts = lambda held: Verdict(
        attempt_key=held.attempt_key,
        action=actions[held.attempt_key.split("/")[1]],
        acknowledged_seq=1,
        cancel=CancelOrder(attempt_key=held.attempt_key, by="ada", why="enough", reason_code="canceled_by_user"),
    )
    await second.session()
    await mine.runner.until(lambda: bool(mine.runner.killed) and bool(mine.runner.cancelled))
    (cancel,) = mine.runner.cancelled
    assert (cancel.attempt_key, cancel.by, cancel.why) == ("run_1/cancel/1", "ada", "enough")
    assert mine.runner.killed == [("run_1/kill/1", "host_lost")]
    await second.journal.until(
        lambda: all(second.journal.acked(f"run_1/{name}/1") == 2 for name in ("keep", "cancel", "kill"))
    )
    assert second.journal.acked("run_1/forget/1") == 1


async def test_a_hundred_thousand_lines_arrive_in_order(gateway: MakeGateway, host: MakeHost) -> None:
    """Lines in chunks of 500 all arrive in order, through a kernel that dies twice meanwhile."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    bodies = [b"".join(b"%06d %060d\n" % (chunk * 500 + line, 0) for line in range(500)) for chunk in range(200)]
    for number, body in enumerate(bodies):
        mine.log(KEY, body, lines=500)
        if number in (70, 140):
            journal, wanted = kernel.journal, number - 60
            await journal.until(lambda journal=journal, wanted=wanted: journal.acked(KEY) > wanted)
            await kernel.kill()
            kernel = await gateway(epoch=kernel.epoch + 1)
    mine.finish(KEY)
    await kernel.journal.until(lambda: mine.outbox.empty, 30)
    assert b"".join(kernel.journal.log_bodies(KEY)) == b"".join(bodies)


async def test_what_was_spilled_while_the_kernel_was_away_arrives_in_order(
    gateway: MakeGateway, host: MakeHost, tmp_path: Path
) -> None:
    """Twenty mebibytes pending, most of them in files; nothing is lost, and the heartbeat says how much lies there."""
    first = await gateway()
    mine = host()
    await running(mine, first)
    await first.kill()
    bodies = [b"%05d" % number + b"x" * 50_000 for number in range(400)]
    for body in bodies:
        mine.log(KEY, body)
    assert mine.outbox.spilled_bytes > 10 << 20
    mine.finish(KEY)
    second = await gateway(epoch=2)
    session = await second.session()
    await second.journal.until(lambda: mine.outbox.empty, 30)
    assert second.journal.log_bodies(KEY) == bodies
    assert session.heartbeats[0].spilled_bytes > 0
    assert not list((tmp_path / "spill").glob("*.events"))


async def test_at_the_cap_no_new_work_is_taken(gateway: MakeGateway, host: MakeHost) -> None:
    """The heartbeat says so and a dispatch that crosses it is refused, not dropped."""
    kernel = await gateway(heartbeat_interval_ms=50)
    mine = host(memory_cap_bytes=0, cap_bytes=1000)
    await running(mine, kernel)
    session = kernel.sessions[0]
    release = asyncio.Event()

    async def hold_logs(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if any(b"xxxx" in event for each in open_reports(request.attempts) for event in each.events):
            await release.wait()
        return None

    kernel.on_report = hold_logs
    mine.log(KEY, b"x" * 2000)
    await kernel.journal.until(lambda: any(beat.saturated for beat in session.heartbeats))
    session.dispatch("run_2/new/1")
    await eventually(lambda: mine.outbox.attempts == 2)
    release.set()
    await kernel.journal.until(lambda: kernel.journal.acked("run_2/new/1") == 1)
    assert kernel.journal.end_of("run_2/new/1").reason_code == "host_refused"
    assert len(mine.runner.accepted) == 1
    await kernel.journal.until(lambda: not session.heartbeats[-1].saturated)
