"""The host's session: attach, dispatch, manifests, goodbye."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from fake_gateway import abort_with
from msgspec.structs import replace
from session_steps import KEY, MakeGateway, MakeHost, offer, running

from nomaflow_api.bounds import WORKERS_OF_INSTANCE
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import Isolation, TimeoutKind
from nomaflow_api.v1.sealing import open_order
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus


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
        strict_keys=("a",),
        trigger_kind="cron",
        trigger_by="schedule",
        parent_chain=(("p", "run_0"),),
        prev_rows_affected=0,
        cancel_grace_ms=0,
        isolation=Isolation.EXCLUSIVE,
        timeout_kind=TimeoutKind.JOB,
    )
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    (order,) = mine.runner.accepted
    assert (order.isolation, order.timeout_kind, order.cancel_grace_ms) == ("exclusive", "job", 0)
    letter = open_order(order.order)
    assert (letter.kwargs_json, letter.strict_keys, letter.prev_rows_affected) == (b'{"a": 1}', ("a",), 0)
    assert (letter.trigger_kind, letter.trigger_by, letter.parent_chain) == ("cron", "schedule", (("p", "run_0"),))
    mine.start_attempt(KEY)
    mine.log(KEY, b"[20,1,'a','hello']\n")
    mine.finish(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 3)
    assert kernel.journal.kinds(KEY) == ["started", "log", "finished"]
    assert await mine.session.flush(60, without_kernel=60)
    assert mine.outbox.empty


async def test_an_order_with_all_values_at_their_limits_arrives(gateway: MakeGateway, host: MakeHost) -> None:
    """Params of 1 MiB and of a trigger, twice each, are more than gRPC's own limit, which would end every session."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    values = b'{"a": "%s"}' % (b"x" * 2_300_000)
    session.dispatch(KEY, kwargs_json=values, params_json=values)
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    assert open_order(mine.runner.accepted[0].order).params_json == values
    assert len(kernel.sessions) == 1


async def test_heartbeats_come_at_the_kernels_interval(gateway: MakeGateway, host: MakeHost) -> None:
    """Heartbeats carry the host's state, and the list of workers only when it changed, no more than a kernel takes."""
    kernel = await gateway(heartbeat_interval_ms=50)
    mine = host()
    session = await kernel.session()
    mine.runner.now = replace(
        mine.runner.now,
        running=1,
        workers=(WorkerStatus(pid=5, exclusive=True, generation=1, running=1),) * (WORKERS_OF_INSTANCE + 1),
    )
    session.dispatch(KEY)
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    count = len(session.heartbeats)
    await kernel.journal.until(lambda: len(session.heartbeats) >= count + 3)
    with_workers = [beat for beat in session.heartbeats if not beat.workers_unchanged]
    assert len(with_workers) <= 2
    assert [each.pid for each in with_workers[-1].workers] == [5] * WORKERS_OF_INSTANCE
    assert session.heartbeats[-1].workers_unchanged


async def test_a_repeated_dispatch_starts_nothing(gateway: MakeGateway, host: MakeHost) -> None:
    """A repeated dispatch reports the state again and starts nothing, both during and after the run."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    session = kernel.sessions[0]
    assert await mine.session.flush(60, without_kernel=60)
    reports = kernel.reports
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.reports > reports)
    mine.finish(KEY)
    assert await mine.session.flush(60, without_kernel=60)
    duplicates = kernel.journal.duplicates
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.journal.duplicates > duplicates)
    assert kernel.journal.kinds(KEY) == ["started", "finished"]
    assert len(mine.runner.accepted) == 1


async def test_a_refused_order_goes_back_and_may_come_again(gateway: MakeGateway, host: MakeHost) -> None:
    """A refused order is reported as not started with `host_refused`; with room it is accepted under the same key."""
    kernel = await gateway()
    mine = host()
    mine.runner.refusal = "full"
    session = await kernel.session()
    session.dispatch(KEY)
    await kernel.journal.until(lambda: kernel.journal.acked(KEY) == 1)
    outcome = kernel.journal.end_of(KEY)
    del kernel.journal.events[KEY]
    assert outcome.not_started
    assert (outcome.reason_code, outcome.reason) == ("host_refused", "full")
    assert await mine.session.flush(60, without_kernel=60)
    mine.runner.refusal = ""
    session.dispatch(KEY)
    await mine.runner.until(lambda: len(mine.runner.accepted) == 1)


async def test_a_kernel_that_goes_away_during_the_last_wait_is_told(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why a stopped host is still there, also if the kernel was there when the wait began."""
    kernel = await gateway()
    mine = host()
    await running(mine, kernel)
    asked = asyncio.Event()

    async def never(_request: pb.StreamReportsRequest, context: Any) -> None:
        asked.set()
        await abort_with(context, grpc.StatusCode.UNAVAILABLE, "NOT_NOW")

    kernel.on_report = never
    mine.finish(KEY)
    waiting = asyncio.create_task(mine.session.flush(60, without_kernel=0.5))
    await asked.wait()
    assert mine.session.attached.is_set()
    assert "no kernel" not in caplog.text
    await kernel.kill()
    assert not await waiting
    assert caplog.text.count("no kernel: waiting") == 1


async def test_commands_of_a_lower_epoch_are_passed_over(gateway: MakeGateway, host: MakeHost) -> None:
    """A dispatch of a kernel that no longer leads starts nothing."""
    kernel = await gateway(epoch=5)
    mine = host()
    session = await kernel.session()
    session.dispatch("run_0/old/1", epoch=4)
    session.dispatch(KEY, epoch=5)
    await mine.runner.until(lambda: bool(mine.runner.accepted))
    assert [order.attempt_key for order in mine.runner.accepted] == [KEY]


async def test_the_manifest_is_introduced_when_the_kernel_does_not_know_it(
    gateway: MakeGateway, host: MakeHost
) -> None:
    """A manifest is introduced once; after a reconnect it is sent again only to a kernel that asks for it."""
    kernel = await gateway()
    mine = host()
    mine.runner.serve(offer(b'{"callables": {}}'))
    session = await kernel.session()
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 1)
    assert not kernel.journal.manifests[0].explicit
    # Its answer is on the way: a session that ends before it has come would rightly introduce it again.
    beats = len(session.heartbeats)
    await kernel.journal.until(lambda: len(session.heartbeats) > beats + 1)
    session.end()
    second = await kernel.session(2)
    await kernel.journal.until(lambda: len(second.heartbeats) > 2)
    assert len(kernel.journal.manifests) == 1
    kernel.known_digests.clear()
    second.end()
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 2)


async def test_a_manifest_is_introduced_with_the_time_of_its_own_load(gateway: MakeGateway, host: MakeHost) -> None:
    """A load that ends while the one before it is packed gives that one no time of its own."""
    kernel = await gateway()
    mine = host()
    mine.runner.serve(offer(b'{"callables": {}}', loaded_at_us=7))
    mine.runner.now = replace(mine.runner.now, generation=2, loaded_at_us=9)
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 1)
    assert kernel.journal.manifests[0].loaded_at_us == 7


async def test_a_reload_is_introduced_before_it_is_answered(gateway: MakeGateway, host: MakeHost) -> None:
    """A reload is introduced explicitly even if its digest is known; a refused one is answered with the reason."""
    kernel = await gateway()
    mine = host()
    mine.runner.offered = manifest = offer(b'{"callables": {}}')
    kernel.known_digests.add(manifest.digest)
    mine.runner.next_reload = LoadOutcome(accepted=True, generation=2, digest=manifest.digest, reasons=("ok",))
    session = await kernel.session()
    seq = session.send(reload=pb.ReloadCommand())
    await kernel.journal.until(lambda: bool(session.reload_results))
    assert session.reload_results[0].command_seq == seq
    assert session.reload_results[0].accepted
    assert [each.explicit for each in kernel.journal.manifests] == [True]
    mine.runner.next_reload = LoadOutcome(
        accepted=False, generation=2, digest=manifest.digest, reasons=("SyntaxError",)
    )
    session.send(reload=pb.ReloadCommand(force=True))
    await kernel.journal.until(lambda: len(session.reload_results) == 2)
    assert session.reload_results[1].message == "SyntaxError"
    assert len(kernel.journal.manifests) == 1


async def test_a_reload_that_ends_while_the_kernel_is_away_is_introduced_when_it_is_back(
    gateway: MakeGateway, host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is explicit: a kernel that knows the manifest, for example after a deploy was taken back, does not ask."""
    kernel = await gateway()
    mine = host()
    mine.runner.offered = manifest = offer(b'{"callables": {}}')
    kernel.known_digests.add(manifest.digest)
    mine.runner.next_reload = LoadOutcome(accepted=True, generation=2, digest=manifest.digest, reasons=("ok",))
    loading, loaded, reload = asyncio.Event(), asyncio.Event(), mine.runner.reload

    async def load(*, force: bool) -> LoadOutcome:
        loading.set()
        await loaded.wait()
        return await reload(force=force)

    monkeypatch.setattr(mine.runner, "reload", load)
    session = await kernel.session()
    session.send(reload=pb.ReloadCommand())
    await asyncio.wait_for(loading.wait(), 30)
    session.end()
    await kernel.session(2)
    assert not kernel.journal.manifests
    loaded.set()
    await kernel.journal.until(lambda: [each.explicit for each in kernel.journal.manifests] == [True])


async def test_a_reload_during_an_introduction_is_introduced_after_it(gateway: MakeGateway, host: MakeHost) -> None:
    """The answer to the manifest before it says nothing of it."""
    kernel = await gateway()
    mine = host()
    first = offer(b'{"callables": {}}')
    second = offer(b'{"callables": {"m:f": {}}}')
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hold(*_: object) -> None:
        asked.set()
        await answer.wait()

    kernel.on_introduce = hold
    await kernel.session()
    mine.runner.serve(first)
    await asyncio.wait_for(asked.wait(), 30)
    mine.runner.serve(second)
    answer.set()
    told = kernel.journal.manifests
    await kernel.journal.until(lambda: [each.digest for each in told] == [first.digest, second.digest])


async def test_the_host_says_goodbye(gateway: MakeGateway, host: MakeHost) -> None:
    """A clean stop ends the stream from the host's side, and the session's task returns."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    await mine.session.attached.wait()
    await mine.session.say_goodbye()
    await asyncio.wait_for(mine.task, 30)
    assert session.host_left


async def test_an_answer_that_comes_as_the_session_ends_is_no_failure(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel that has gone away needs no answer: the log has no traceback of one."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    asked, ended = asyncio.Event(), asyncio.Event()

    async def inspect(_key: str) -> None:
        asked.set()
        await ended.wait()

    mine.runner.inspect = inspect  # type: ignore[method-assign, assignment]
    session.send(inspect=pb.InspectCommand(attempt_key=KEY))
    await asked.wait()
    assert mine.session._conversation is not None
    mine.session._conversation.call.add_done_callback(lambda _: ended.set())
    session.end()
    await kernel.session(2)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_it_waits_for_the_address_and_says_so_once(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that is started before its kernel attaches as soon as the address is there."""
    with caplog.at_level(logging.WARNING):
        mine = host()
        async with asyncio.timeout(60):
            while "waiting for a kernel" not in caplog.text:
                await asyncio.sleep(0.01)
        kernel = await gateway()
        await kernel.session()
    assert caplog.text.count("waiting for a kernel") == 1
    assert "nomaflow up" in caplog.text
    assert "--join FILE" in caplog.text
    assert not mine.task.done()
