"""Sessions of hosts, over a real socket with a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from gateway_session import INCARNATION, KEY, Session, hello, order
from rpc_world import World

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.letters import CancelOrder, InventoryLine
from nomaflow_api.v1.sealing import open_cancel, open_dispatch, seal
from nomaflow_kernel.access.principals import OWNER, Caller
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine.host_messages import HeartbeatInfo
from nomaflow_kernel.hosts import reloading
from nomaflow_kernel.rpc.host_gateway import HostGateway
from waiting import eventually


def held(key: str) -> InventoryLine:
    """Return a line of an inventory."""
    return InventoryLine(attempt_key=key)


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"protocol_min": 2, "protocol_max": 3}, "FAILED_PRECONDITION", "PROTOCOL_UNSUPPORTED"),
        ({"protocol_min": 0, "protocol_max": 0}, "FAILED_PRECONDITION", "PROTOCOL_UNSUPPORTED"),
        ({"host": ""}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "Team"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "../x"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"host": "x" * 65}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"incarnation": "x"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": b"\xff"}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": seal([held("no/key")])}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": seal([held(KEY)]).replace(b"attempt_key", b"attempt_kee")}, "INVALID_ARGUMENT", "BAD_REQUEST"),
        ({"inventory": seal([held(KEY)] * 20_001)}, "INVALID_ARGUMENT", "BAD_REQUEST"),
    ],
)
async def test_a_hello_that_is_not_welcome_is_told_why(
    world: World, fields: dict[str, Any], code: str, reason: str
) -> None:
    """The engine hears nothing of it; a host of another protocol learns which ones there are."""
    session = Session(world)
    session.say(hello(**fields))
    found, said, data = await session.refusal()
    assert (found.name, said) == (code, reason)
    assert world.engine.links == []
    if reason == "PROTOCOL_UNSUPPORTED":
        assert data == {"min": "1", "max": "1"}


async def test_only_an_epoch_of_this_kernel_counts(world: World) -> None:
    """V1: a host that has seen epoch 1000000 of a false kernel is welcome; one that has seen our successor is not."""
    session = Session(world)
    session.say(hello(epoch_seen=99, kernel_id=world.info.store_id))
    assert (await session.refusal())[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_EPOCH")
    assert world.engine.links == []
    welcome = await Session(world).attach(epoch_seen=1_000_000, kernel_id="another")
    assert welcome.kernel_id == world.info.store_id


async def test_a_session_begins_with_a_hello(world: World) -> None:
    """Anything else first, nothing at all, or a second one later, ends the stream and only that stream."""
    first, silent, second = Session(world), Session(world), Session(world)
    first.say(gateway.AttachRequest(heartbeat=gateway.Heartbeat()))
    silent.say(None)
    await second.attach()
    second.say(hello())
    for session in (first, silent, second):
        assert (await session.refusal())[1] == "BAD_REQUEST"
    await eventually(lambda: len(world.engine.detached) == 1)
    await Session(world).attach()


async def test_a_stream_without_a_hello_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that sends no hello in time is ended with an error."""
    monkeypatch.setattr("nomaflow_kernel.rpc.host_gateway._HELLO_SECONDS", 0.05)
    code, reason, _ = await Session(world).refusal()
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")


async def test_a_stream_that_turns_into_garbage_ends_alone(world: World) -> None:
    """The instance is detached, and can attach again."""
    sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def raw() -> AsyncIterator[bytes]:
        while True:
            yield await sent.get()

    call = world.channel.stream_stream("/nomaflow_api.v1.HostGatewayService/Attach")(raw(), timeout=20)
    sent.put_nowait(hello().SerializeToString())
    assert await call.read()
    sent.put_nowait(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: len(world.engine.detached) == 1)
    await Session(world).attach()


async def test_what_is_ready_together_travels_together_in_order(world: World) -> None:
    """Orders given at once come in one batch, after the welcome, numbered from 1 without a gap."""
    session = Session(world)
    assert (await session.attach()).epoch == 1
    (link,) = world.engine.links
    link.send([order(number) for number in range(1, 101)])
    link.send([CancelOrder(attempt_key=KEY, by="ann", why="", reason_code="canceled_by_user")])
    batches = await session.commands(101)
    assert len(batches) <= 2
    commands = [command for batch in batches for command in batch]
    assert [command.command_seq for command in commands] == list(range(1, 102))
    assert open_dispatch(commands[0].dispatch) == order(1)
    assert open_cancel(commands[-1].cancel).by == "ann"
    session.call.cancel()


async def test_no_message_of_commands_is_over_a_mebibyte(world: World) -> None:
    """Large orders are spread over messages, whole and in order."""
    session = Session(world)
    await session.attach()
    large = json.dumps({"x": "y" * 300_000}).encode()
    world.engine.links[0].send([order(number, large) for number in range(1, 11)])
    batches = await session.commands(10)
    assert max(sum(command.ByteSize() for command in batch) for batch in batches) <= 1024 * 1024
    keys = [open_dispatch(command.dispatch).attempt_key for batch in batches for command in batch]
    assert keys == [order(number).attempt_key for number in range(1, 11)]
    session.call.cancel()


async def test_heartbeats_are_answered_and_heard(world: World) -> None:
    """The host's own time comes back; the workers it names and what else it tells are passed on."""
    session = Session(world)
    await session.attach()
    beat = gateway.Heartbeat(sent_at_us=5, workers=[gateway.HostWorker(pid=9, exclusive=True)])
    session.say(gateway.AttachRequest(heartbeat=beat))
    assert (await session.call.read()).heartbeat_ack.sent_at_us == 5
    told: dict[str, Any] = {
        "spilled_bytes": 1, "saturated": True, "code_newer": True, "draining": True, "generation": 2,
        "manifest_digest": "d", "loaded_at_us": 3, "loading": True, "sent_at_us": 6,
    }  # fmt: skip
    full = gateway.Heartbeat(**told, newer_files=["f"], drain_deadline_at_us=4, workers_unchanged=True)
    session.say(gateway.AttachRequest(heartbeat=full))
    assert (await session.call.read()).heartbeat_ack.sent_at_us == 6
    first, second = world.engine.heartbeats
    assert first.workers is not None
    assert first.workers[0].pid == 9
    assert second == HeartbeatInfo(**told, newer_files=("f",), drain_deadline_us=4)
    session.call.cancel()


async def test_a_host_that_hangs_up_while_the_engine_is_busy_leaves_no_session(world: World) -> None:
    """The engine detaches what attaches yet."""
    world.engine.hold = asyncio.Event()
    session = Session(world)
    session.say(hello())
    await eventually(lambda: world.engine.held)
    session.call.cancel()
    await eventually(lambda: not world.sessions.hosts())


async def test_the_end_of_an_older_session_leaves_the_newer_one_in_its_place(world: World) -> None:
    """The engine ends the older link; the host can still be reached by the newer."""
    older, newer = Session(world), Session(world)
    await older.attach()
    await newer.attach()
    world.engine.links[0].end("superseded")
    assert (await older.refusal())[:2] == (grpc.StatusCode.ABORTED, "SUPERSEDED")
    await eventually(lambda: world.engine.detached == world.engine.links[:1])
    assert world.sessions.hosts() == ["team"]
    world.engine.links[1].send([order(1)])
    await newer.commands(1)
    newer.call.cancel()


def attached(world: World, requests: AsyncIterator[gateway.AttachRequest]) -> AsyncIterator[gateway.AttachResponse]:
    """Return the call of a session, without a connection."""
    return HostGateway(world.parts).attach(requests, Caller(principal=OWNER, peer="here"))


async def test_a_session_that_the_kernel_ends_is_over_though_its_host_does_not_read(world: World) -> None:
    """Else the host would count as attached, and get steps, for as long as it tells that it is alive."""
    said: asyncio.Queue[gateway.AttachRequest] = asyncio.Queue()

    async def requests() -> AsyncIterator[gateway.AttachRequest]:
        while True:
            yield await said.get()

    said.put_nowait(hello())
    answers = attached(world, requests())
    assert (await anext(answers)).welcome.epoch == 1
    world.engine.links[0].end("its credential was withdrawn")
    await eventually(lambda: world.engine.detached == world.engine.links)
    said.put_nowait(gateway.AttachRequest(heartbeat=gateway.Heartbeat(sent_at_us=5)))
    with pytest.raises(KernelError, match="has ended this session"):
        await anext(answers)
    assert (len(world.engine.detached), world.engine.heartbeats) == (1, [])


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_breaks_as_its_session_ends_is_told_as_detached(
    world: World, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """The call is cancelled in each turn of the loop in which it may wait for something."""
    caplog.set_level("INFO")
    left = asyncio.Event()

    async def requests() -> AsyncIterator[gateway.AttachRequest]:
        yield hello()
        await left.wait()

    async def call() -> list[gateway.AttachResponse]:
        return [each async for each in attached(world, requests())]

    serving = asyncio.create_task(call())
    await eventually(lambda: " attached: " in caplog.text)
    left.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])
    await eventually(lambda: world.engine.detached == world.engine.links)
    assert caplog.text.count(" detached: ") == 1


async def reload(world: World, host: str = "team") -> kernel.ReloadHostResponse:
    """Ask for a reload."""
    return await world.client.ReloadHost(kernel.ReloadHostRequest(host=host, force=True), timeout=10)


async def test_a_reload_is_answered_with_what_each_instance_says(world: World) -> None:
    """A refusal with its problems is an answer, not an error; an empty name means the only host."""
    session = Session(world)
    await session.attach()
    asked = asyncio.ensure_future(reload(world, ""))
    ((command,),) = await session.commands(1)
    assert command.reload.force
    result = gateway.ReloadResult(
        command_seq=command.command_seq, accepted=False, generation=1, message="no",
        problems_json=b'[{"severity": "error", "code": "import_failed", "message": "boom"}]',
    )  # fmt: skip
    session.say(gateway.AttachRequest(reload_result=gateway.ReloadResult(command_seq=77)))
    session.say(gateway.AttachRequest(reload_result=result))
    (outcome,) = (await asked).instances
    assert (outcome.incarnation, outcome.accepted, outcome.problems[0].message) == (INCARNATION, False, "boom")
    session.call.cancel()


async def test_a_reload_that_cannot_be_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown host, a host that never answers, two at once, a host that leaves: four different reasons."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reload(world)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    session = Session(world)
    await session.attach()
    with monkeypatch.context() as short:
        short.setattr(reloading, "_RELOAD_SECONDS", 0.3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reload(world)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "has not answered" in (caught.value.details() or "")
    await session.commands(1)
    second = asyncio.ensure_future(reload(world))
    await session.commands(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reload(world)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    session.say(None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await second
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
