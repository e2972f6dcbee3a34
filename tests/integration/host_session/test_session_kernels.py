"""The kernels that a session meets: old, silent, refusing, standing by."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_gateway import abort_with
from session_steps import KEY, MakeGateway, MakeHost, running

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_host.process.errors import ProtocolUnsupported
from waiting import eventually


async def test_an_older_kernel_is_refused(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel of a lower epoch is left at once and its successor is taken."""
    first = await gateway(epoch=7)
    mine = host()
    await first.session()
    await first.kill()
    with caplog.at_level(logging.WARNING):
        second = await gateway(epoch=6)
        stale = await second.session()
        await second.journal.until(lambda: stale.host_left or len(second.sessions) > 1)
        await eventually(lambda: "this kernel is outdated" in caplog.text)
        await second.kill()
    assert mine.session.epoch_seen == 7
    third = await gateway(epoch=8)
    await third.session()
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert mine.session.epoch_seen == 8


async def test_a_kernel_of_another_history_does_not_outdate_the_real_one(gateway: MakeGateway, host: MakeHost) -> None:
    """V1: a host that has seen epoch 1000000 of a false kernel attaches to the real one, and not to an outdated one."""
    real = await gateway(epoch=7)
    real.kernel_id = "real"
    mine = host()
    await real.session()
    await real.kill()
    false = await gateway(epoch=1_000_000)
    false.kernel_id = "false"
    await false.session()
    await false.kill()
    again = await gateway(epoch=8)
    again.kernel_id = "real"
    session = await again.session()
    assert (session.hello.kernel_id, session.hello.epoch_seen) == ("false", 1_000_000)
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert mine.session.epoch_seen == 8
    await again.kill()
    stale = await gateway(epoch=7)
    stale.kernel_id = "real"
    refused = await stale.session()
    await stale.journal.until(lambda: refused.host_left or len(stale.sessions) > 1)


async def test_a_silent_kernel_is_left_within_the_lease(gateway: MakeGateway, host: MakeHost) -> None:
    """Heartbeats without an answer end the session, and another one is opened."""
    kernel = await gateway(heartbeat_interval_ms=50, lease_ms=500)
    kernel.answer_heartbeats = False
    began = time.monotonic()
    host()
    await kernel.session(2)
    assert 0.5 < time.monotonic() - began < 30


async def test_a_kernel_that_accepts_and_never_answers(
    tmp_path: Path, host: MakeHost, gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host gives up on a socket that never answers, and finds the real kernel through its address file."""
    monkeypatch.setattr("nomaflow_host.session.reconnecting._WELCOME_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as blackhole:
        blackhole.bind(str(tmp_path / "black.sock"))
        blackhole.listen()
        (tmp_path / "address").write_text(f"unix:{tmp_path / 'black.sock'}")
        mine = host()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mine.session.attached.wait(), 1)
        kernel = await gateway()
        await kernel.session()


async def test_after_the_grace_only_attempts_that_may_be_retried_are_killed(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """Counted from the last answered heartbeat; the others run on, and their results are delivered later."""
    first = await gateway(grace_ms=1500)
    mine = host()
    await running(mine, first, "run_1/may/1", retry_on_lost=True)
    await running(mine, first, "run_1/own/1", retry_on_lost=True, grace_ms=1500)
    await running(mine, first, "run_1/long/1", retry_on_lost=True, grace_ms=600_000)
    await running(mine, first, "run_1/not/1")
    await first.kill()
    await mine.runner.until(lambda: len(mine.runner.killed) == 2)
    assert sorted(mine.runner.killed) == [("run_1/may/1", "host_lost"), ("run_1/own/1", "host_lost")]
    assert min(mine.runner.silences) >= 1.5
    mine.finish("run_1/not/1")
    second = await gateway(epoch=2)
    await second.journal.until(lambda: second.journal.acked("run_1/not/1") == 2)


async def test_an_unsupported_protocol_ends_the_host(gateway: MakeGateway, host: MakeHost) -> None:
    """The message says both ranges, the exit code is 76."""
    kernel = await gateway()

    async def refuse(_: pb.Hello, context: Any) -> None:
        await abort_with(context, grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL_UNSUPPORTED", min="3", max="4")

    kernel.on_attach = refuse
    mine = host()
    with pytest.raises(ProtocolUnsupported, match="3 to 4") as raised:
        await asyncio.wait_for(mine.task, 30)
    assert raised.value.exit_code == 76


async def test_a_standby_names_the_leader(gateway: MakeGateway, host: MakeHost) -> None:
    """The host goes there next."""
    leader = await gateway()
    standby = await gateway()

    async def refuse(_: pb.Hello, context: Any) -> None:
        await abort_with(context, grpc.StatusCode.UNAVAILABLE, "NOT_LEADER", leader=f"unix:{leader.path}")

    standby.on_attach = refuse
    host(given=f"unix:{standby.path}")
    await leader.session()


async def test_a_host_goes_round_until_one_leads(gateway: MakeGateway, host: MakeHost, tmp_path: Path) -> None:
    """The leader that the standby names is dead: the host asks the standby again and again, soon each time."""
    standby = await gateway()
    asked: list[float] = []

    async def refuse(_: pb.Hello, context: Any) -> None:
        asked.append(time.monotonic())
        if len(asked) < 3:
            dead = f"unix:{tmp_path}/dead.sock,unix:{tmp_path}/gone.sock"
            await abort_with(context, grpc.StatusCode.UNAVAILABLE, "NOT_LEADER", leader=dead)

    standby.on_attach = refuse
    mine = host(given=f"unix:{tmp_path}/dead.sock,unix:{standby.path}")
    await asyncio.wait_for(mine.session.attached.wait(), 30)
    assert len(asked) == 3
    assert max(later - earlier for earlier, later in itertools.pairwise(asked)) < 20


async def test_the_outcome_that_is_told_again_arrives_though_a_report_fails(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """A kernel whose history was restored dispatches an ended attempt again, and waits for its outcome."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    mine.finish(KEY)
    await kernel.journal.until(lambda: mine.outbox.empty)
    del kernel.journal.events[KEY]
    failing = 1

    async def fail_once(_request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        nonlocal failing
        if failing:
            failing -= 1
            await abort_with(context, grpc.StatusCode.UNAVAILABLE, "STORE_BUSY")
        return None

    kernel.on_report = fail_once
    kernel.sessions[0].dispatch(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) > 0)
    assert not failing
    assert kernel.journal.end_of(KEY).state is FinishedState.SUCCEEDED


async def test_the_end_of_a_session_tells_why_its_reports_are_refused(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report may be refused before the session's end arrives; the host waits for it, and reports in the next one."""
    monkeypatch.setattr("nomaflow_host.session.reporting._END_SECONDS", 3600.0)
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    refused = asyncio.Event()

    async def refuse_one(_: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if not refused.is_set():
            refused.set()
            await abort_with(context, grpc.StatusCode.FAILED_PRECONDITION, "STALE_EPOCH")
        return None

    kernel.on_report = refuse_one
    mine.log(KEY, b"x\n")
    await asyncio.wait_for(refused.wait(), 30)
    await asyncio.wait_for(mine.outbox.wait(), 30)
    kernel.sessions[0].end()
    await kernel.journal.until(lambda: kernel.journal.log_bodies(KEY) == [b"x\n"])
    assert len(kernel.sessions) == 2
    assert "the kernel ended the session" in caplog.text
    assert "accepts no reports" not in caplog.text
