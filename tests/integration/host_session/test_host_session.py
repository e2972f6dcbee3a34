"""The host's session: attach, dispatch, report, and every way in which the kernel can go away or misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, abort_with

from conftest import Host
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1 import run_pb2
from nomaflow_host.errors import KernelRefused, ProtocolUnsupported
from nomaflow_host.session import Manifest, ReloadOutcome, WorkerLine

KEY = "run_1/one/1"
MakeHost = Callable[..., Host]
MakeGateway = Callable[..., Awaitable[FakeGateway]]


def offer(body: bytes) -> Manifest:
    return Manifest(digest="sha256:" + hashlib.sha256(body).hexdigest(), body=body)


async def running(host: Host, kernel: FakeGateway, key: str = KEY, **fields: Any) -> None:
    """Dispatch an attempt and let it start."""
    (await kernel.session(len(kernel.sessions) or 1)).dispatch(key, epoch=kernel.epoch, **fields)
    await host.runner.until(lambda: any(each.attempt_key == key for each in host.runner.accepted))
    host.start_attempt(key)
    await kernel.journal.until(lambda: kernel.journal.acked(key) >= 1)


async def test_a_step_from_dispatch_to_outcome(gateway: MakeGateway, host: MakeHost) -> None:
    """The order arrives whole; started, log and outcome are committed in order and forgotten."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    assert (session.hello.host, session.hello.protocol_min, session.hello.max_sync) == ("demo", 1, 2)
    assert list(session.hello.ended_incarnations) == ["before-1"]
    session.dispatch(
        KEY,
        kwargs_json=b'{"a": 1}',
        strict_keys=["a"],
        trigger=run_pb2.Trigger(kind=run_pb2.TRIGGER_KIND_CRON, by="schedule"),
        parent_chain=[run_pb2.Ancestor(job_id="p", run_id="run_0")],
        prev_rows_affected=0,
        cancel_grace_ms=0,
        isolation=pb.ISOLATION_EXCLUSIVE,
        timeout_kind=pb.TIMEOUT_KIND_JOB,
    )
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    (order,) = mine.runner.accepted
    assert (order.kwargs_json, order.params_json, order.previous_steps_json) == ('{"a": 1}', "{}", "[]")
    assert (order.trigger_kind, order.trigger_by, order.parent_chain) == ("cron", "schedule", (("p", "run_0"),))
    assert (order.prev_rows_affected, order.cancel_grace_ms) == (0, 0)
    assert (order.isolation, order.timeout_kind) == ("exclusive", "job")
    mine.start_attempt(KEY)
    mine.log(KEY, b"[20,1,'a','hello']\n")
    mine.finish(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 3)
    assert kernel.journal.kinds(KEY) == ["started", "log", "finished"]
    assert await mine.session.flush(5)
    assert mine.outbox.empty


async def test_heartbeats_come_at_the_kernels_interval_and_acknowledge_commands(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """They carry the host's state; the list of workers only when it changed."""
    kernel = await gateway(heartbeat_interval_ms=50)
    mine = host()
    session = await kernel.session()
    mine.runner.now = replace(
        mine.runner.now, running=1, workers=(WorkerLine(pid=5, exclusive=True, generation=1, running=1),)
    )
    seq = session.dispatch(KEY)
    await kernel.journal.until(lambda: bool(session.heartbeats) and session.heartbeats[-1].command_ack == seq)
    count = len(session.heartbeats)
    await kernel.journal.until(lambda: len(session.heartbeats) >= count + 3)
    with_workers = [beat for beat in session.heartbeats if not beat.workers_unchanged]
    assert len(with_workers) <= 2
    assert with_workers[-1].workers[0].pid == 5
    assert session.heartbeats[-1].workers_unchanged


async def test_a_repeated_dispatch_starts_nothing(gateway: MakeGateway, host: MakeHost) -> None:
    """While it runs, and after its outcome is acknowledged: one start, the state is reported again."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    session = kernel.sessions[0]
    assert await mine.session.flush(5)
    reports = kernel.reports
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.reports > reports)
    mine.finish(KEY)
    assert await mine.session.flush(5)
    duplicates = kernel.journal.duplicates
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.journal.duplicates > duplicates)
    assert kernel.journal.kinds(KEY) == ["started", "finished"]
    assert len(mine.runner.accepted) == 1


async def test_a_refused_order_goes_back_and_may_come_again(gateway: MakeGateway, host: MakeHost) -> None:
    """It is reported as not started with `host_refused`; with room it is taken under the same key."""
    kernel = await gateway()
    mine = host()
    mine.runner.refusal = "full"
    session = await kernel.session()
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 1)
    outcome = kernel.journal.events.pop(KEY)[0].finished
    assert outcome.not_started
    assert (outcome.reason.code, outcome.reason.message) == ("host_refused", "full")
    assert await mine.session.flush(5)
    mine.runner.refusal = ""
    session.dispatch(KEY)
    await mine.runner.until(lambda: len(mine.runner.accepted) == 1)


async def test_a_query_is_answered_also_for_an_unknown_key(gateway: MakeGateway, host: MakeHost) -> None:
    """The kernel learns that the host never had it."""
    kernel = await gateway()
    host()
    (await kernel.session()).send(query=pb.QueryCommand(attempt_keys=["run_9/x/1"]))
    await kernel.journal.until(lambda: kernel.journal.unknown == ["run_9/x/1"])


async def test_values_that_are_not_utf8_fail_the_attempt(gateway: MakeGateway, host: MakeHost) -> None:
    """The session goes on, and nobody else is given the same nonsense."""
    kernel = await gateway()
    host()
    (await kernel.session()).dispatch(KEY, kwargs_json=b"\xff\xff")
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 1)
    assert kernel.journal.events[KEY][0].finished.reason.code == "value_invalid"
    assert len(kernel.sessions) == 1


async def test_commands_of_a_lower_epoch_are_passed_over(gateway: MakeGateway, host: MakeHost) -> None:
    """A dispatch of a kernel that no longer leads starts nothing."""
    kernel = await gateway(epoch=5)
    mine = host()
    session = await kernel.session()
    session.dispatch("run_0/old/1", epoch=4)
    session.dispatch(KEY, epoch=5)
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    assert [order.attempt_key for order in mine.runner.accepted] == [KEY]


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
    assert time.monotonic() - began < 10
    (held,) = session.hello.inventory
    assert (held.attempt_key, held.last_seq, held.epoch) == (KEY, 52, 1)
    assert held.state == run_pb2.ATTEMPT_STATE_SUCCEEDED
    assert session.hello.epoch_seen == 1
    await second.journal.until(lambda: second.journal.acked(KEY) == 52)
    assert second.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(50)]
    assert second.journal.duplicates == 0


@pytest.mark.parametrize("committed", [True, False])
async def test_a_kernel_killed_in_the_middle_of_a_report(
    gateway: MakeGateway, host: MakeHost, *, committed: bool
) -> None:
    """Whether the report was committed or not before the answer was lost, each event is stored once."""
    first = await gateway()
    mine = host()
    await running(mine, first)
    reached = asyncio.Event()

    async def hang(request: pb.ReportRequest, _: Any) -> pb.ReportResponse | None:
        if committed:
            for report in request.attempts:
                first.journal.commit(report)
        reached.set()
        await asyncio.sleep(60)
        return None

    first.on_report = hang
    for number in range(5):
        mine.log(KEY, b"%d\n" % number)
    await asyncio.wait_for(reached.wait(), 5)
    mine.log(KEY, b"5\n")
    await first.kill()
    second = await gateway(epoch=2)
    await second.session()
    await second.journal.until(lambda: second.journal.acked(KEY) == 7)
    assert second.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(6)]


async def test_a_report_that_is_never_answered_is_sent_again(gateway: MakeGateway, host: MakeHost) -> None:
    """A blackholed report runs into its deadline; heartbeats go on meanwhile and the session stays."""
    kernel = await gateway(heartbeat_interval_ms=50)
    mine = host(report_deadline_s=0.5)
    await running(mine, kernel)
    hung = []

    async def hang_twice(_: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if len(hung) < 2:
            hung.append(len(kernel.sessions[0].heartbeats))
            await asyncio.sleep(60)
        return None

    kernel.on_report = hang_twice
    mine.log(KEY, b"x\n")
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 2)
    assert len(kernel.sessions) == 1
    assert hung[1] - hung[0] >= 5


async def test_duplicate_delivery_is_harmless(gateway: MakeGateway, host: MakeHost) -> None:
    """An answer lost after the commit makes the host send again, and the journal has each event once."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    lost = []

    async def lose_answer(request: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if len(lost) < 3:
            lost.append(True)
            for report in request.attempts:
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
    """Where the kernel has lost what it had not confirmed, the host goes back to that number."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    seen = []

    async def gap_once(request: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if seen:
            return None
        seen.append(True)
        acks = [
            pb.AttemptAck(attempt_key=each.attempt_key, acknowledged_seq=1, status=pb.ACK_STATUS_GAP)
            for each in request.attempts
        ]
        return pb.ReportResponse(acks=acks)

    kernel.on_report = gap_once
    for number in range(5):
        mine.log(KEY, b"%d\n" % number)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 6)
    assert kernel.journal.log_bodies(KEY) == [b"%d\n" % number for number in range(5)]


async def test_a_fenced_attempt_is_killed_where_it_may_run_elsewhere(gateway: MakeGateway, host: MakeHost) -> None:
    """With retry_on_lost its code must stop; without, it runs on. Neither is reported any more."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel, "run_1/may/1", retry_on_lost=True)
    await running(mine, kernel, "run_1/not/1")

    async def fence(request: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        acks = [pb.AttemptAck(attempt_key=each.attempt_key, status=pb.ACK_STATUS_FENCED) for each in request.attempts]
        return pb.ReportResponse(acks=acks)

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


async def test_one_poisonous_attempt_does_not_hold_up_the_others(gateway: MakeGateway, host: MakeHost) -> None:
    """Where the kernel calls a whole report malformed, the culprit is found and fails; the others arrive."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel, "run_1/bad/1")
    await running(mine, kernel, "run_1/good/1")

    async def refuse_poison(request: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if any(event.log.body == b"poison" for each in request.attempts for event in each.events):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot be decoded")
        return None

    kernel.on_report = refuse_poison
    mine.log("run_1/bad/1", b"poison")
    mine.log("run_1/good/1", b"fine")
    mine.finish("run_1/bad/1")
    mine.finish("run_1/good/1")
    await kernel.journal.until(lambda: mine.outbox.empty, 30)
    assert kernel.journal.kinds("run_1/good/1") == ["started", "log", "finished"]
    assert kernel.journal.events["run_1/bad/1"][-1].finished.reason.code == "return_invalid"


async def test_a_store_that_is_full_is_waited_for(gateway: MakeGateway, host: MakeHost) -> None:
    """RESOURCE_EXHAUSTED keeps the session, holds the events and delivers them when there is room."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    full = [True] * 3

    async def store_full(_: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if full:
            full.pop()
            await abort_with(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
        return None

    kernel.on_report = store_full
    mine.finish(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 2)
    assert len(kernel.sessions) == 1


async def test_verdicts_are_carried_out(gateway: MakeGateway, host: MakeHost) -> None:
    """Keep goes on after the acknowledged number, cancel and kill stop the code, forget ends the reports."""
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
        "keep": pb.VERDICT_ACTION_KEEP,
        "cancel": pb.VERDICT_ACTION_CANCEL,
        "forget": pb.VERDICT_ACTION_FORGET,
        "kill": pb.VERDICT_ACTION_KILL,
    }
    second.verdicts = lambda held: pb.Verdict(
        attempt_key=held.attempt_key,
        action=actions[held.attempt_key.split("/")[1]],
        acknowledged_seq=1,
        cancel=pb.CancelCommand(by="ada", why="enough", reason_code="canceled_by_user"),
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
        await second.kill()
    assert "older kernel" in caplog.text
    assert mine.session.epoch_seen == 7
    third = await gateway(epoch=8)
    await third.session()
    await asyncio.wait_for(mine.session.attached.wait(), 5)
    assert mine.session.epoch_seen == 8


async def test_a_silent_kernel_is_left_within_the_lease(gateway: MakeGateway, host: MakeHost) -> None:
    """Heartbeats without an answer end the session, and another one is opened."""
    kernel = await gateway(heartbeat_interval_ms=50, lease_ms=500)
    kernel.answer_heartbeats = False
    host()
    await kernel.session()
    began = time.monotonic()
    await kernel.session(2)
    assert 0.4 < time.monotonic() - began < 3


async def test_a_kernel_that_accepts_and_never_answers(
    tmp_path: Path, host: MakeHost, gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listening socket that says nothing is given up, and the real kernel is found by its address file."""
    monkeypatch.setattr("nomaflow_host.session.session._WELCOME_SECONDS", 0.5)
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
    await running(mine, first, "run_1/long/1", retry_on_lost=True, grace_ms=600_000)
    await running(mine, first, "run_1/not/1")
    began = time.monotonic()
    await first.kill()
    await mine.runner.until(lambda: bool(mine.runner.killed))
    assert 1.0 < time.monotonic() - began < 5
    assert mine.runner.killed == [("run_1/may/1", "host_lost")]
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
        await asyncio.wait_for(mine.task, 10)
    assert raised.value.exit_code == 76
    assert (raised.value.minimum, raised.value.maximum) == ("3", "4")


async def test_a_refused_host_without_a_token_gives_up_on_tcp(gateway: MakeGateway, host: MakeHost) -> None:
    """With one it keeps trying and shows it; on a Unix socket none is shown."""
    kernel = await gateway()
    await kernel.kill()
    port = await start_on_port(kernel)

    async def check(_: pb.Hello, context: Any) -> None:
        if dict(context.invocation_metadata()).get("authorization") != "Bearer sesame":
            await abort_with(context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")

    kernel.on_attach = check
    without = host(given=f"127.0.0.1:{port}")
    with pytest.raises(KernelRefused, match="--token-file") as raised:
        await asyncio.wait_for(without.task, 10)
    assert raised.value.exit_code == 78
    host(given=f"127.0.0.1:{port}", token="sesame")
    await kernel.session()
    other = await gateway()
    host(token="sesame")
    await other.session()
    assert "authorization" not in other.metadata[-1]


async def start_on_port(kernel: FakeGateway) -> int:
    """Start a gateway on a free TCP port and return it."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    await kernel.start(f"127.0.0.1:{port}")
    return port


async def test_a_standby_names_the_leader(gateway: MakeGateway, host: MakeHost) -> None:
    """The host goes there next."""
    leader = await gateway()
    standby = await gateway()

    async def refuse(_: pb.Hello, context: Any) -> None:
        await abort_with(context, grpc.StatusCode.UNAVAILABLE, "not_leader", leader=f"unix:{leader.path}")

    standby.on_attach = refuse
    host(given=f"unix:{standby.path}")
    await leader.session()


async def test_the_manifest_is_introduced_when_the_kernel_does_not_know_it(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """Once; a known digest is not sent again after a reconnect."""
    kernel = await gateway()
    mine = host()
    mine.runner.offered = offer(b'{"callables": {}}')
    mine.runner.now = replace(mine.runner.now, generation=1, manifest_digest=mine.runner.offered.digest)
    session = await kernel.session()
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 1)
    assert not kernel.journal.manifests[0].explicit
    session.end()
    second = await kernel.session(2)
    await kernel.journal.until(lambda: len(second.heartbeats) > 2)
    assert len(kernel.journal.manifests) == 1


async def test_a_reload_is_introduced_before_it_is_answered(gateway: MakeGateway, host: MakeHost) -> None:
    """Explicitly, even where the digest is known; a refused one is answered with the reason."""
    kernel = await gateway()
    mine = host()
    mine.runner.offered = manifest = offer(b'{"callables": {}}')
    kernel.known_digests.add(manifest.digest)
    mine.runner.next_reload = ReloadOutcome(accepted=True, generation=2, digest=manifest.digest, message="ok")
    session = await kernel.session()
    seq = session.send(reload=pb.ReloadCommand())
    await kernel.journal.until(lambda: bool(session.reload_results))
    assert session.reload_results[0].command_seq == seq
    assert session.reload_results[0].accepted
    assert [each.explicit for each in kernel.journal.manifests] == [True]
    mine.runner.next_reload = ReloadOutcome(accepted=False, generation=2, digest=manifest.digest, message="SyntaxError")
    session.send(reload=pb.ReloadCommand(force=True))
    await kernel.journal.until(lambda: len(session.reload_results) == 2)
    assert session.reload_results[1].message == "SyntaxError"
    assert len(kernel.journal.manifests) == 1


async def test_a_hundred_thousand_lines_arrive_in_order(gateway: MakeGateway, host: MakeHost) -> None:
    """As chunks of 500, through a kernel that dies twice meanwhile."""
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

    async def hold_logs(request: pb.ReportRequest, context: Any) -> pb.ReportResponse | None:
        if any(event.HasField("log") for each in request.attempts for event in each.events):
            await release.wait()
        return None

    kernel.on_report = hold_logs
    mine.log(KEY, b"x" * 2000)
    await kernel.journal.until(lambda: session.heartbeats[-1].saturated)
    session.dispatch("run_2/new/1")
    await kernel.journal.until(lambda: session.heartbeats[-1].command_ack == 2)
    assert len(mine.runner.accepted) == 1
    release.set()
    await kernel.journal.until(lambda: kernel.journal.acked("run_2/new/1") == 1)
    assert kernel.journal.events["run_2/new/1"][0].finished.reason.code == "host_refused"
    await kernel.journal.until(lambda: not session.heartbeats[-1].saturated)


async def test_the_host_says_goodbye(gateway: MakeGateway, host: MakeHost) -> None:
    """A clean stop ends the stream from the host's side, and the session's task returns."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    await mine.session.attached.wait()
    await mine.session.say_goodbye()
    await asyncio.wait_for(mine.task, 5)
    assert session.host_left


async def test_it_waits_for_the_address_and_says_so_once(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that is started before its kernel attaches as soon as the address is there."""
    with caplog.at_level(logging.WARNING):
        mine = host()
        async with asyncio.timeout(5):
            while "waiting for a kernel" not in caplog.text:
                await asyncio.sleep(0.01)
        kernel = await gateway()
        await kernel.session()
    assert caplog.text.count("waiting for a kernel") == 1
    assert not mine.task.done()
