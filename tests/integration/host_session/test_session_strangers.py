"""Kernels that say what this host does not know, and kernels that are away for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from scripted_host import ScriptedRunner
from session_steps import MakeGateway, MakeHost

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_api.v1.sealing import seal
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.facts import HostIdentity
from nomaflow_host.session.reconnecting import HostSession

UNKNOWN_FIELD = b"\xfa\x3f\x05hello"  # field 1023, five bytes: of a newer release


async def test_what_a_newer_kernel_says_is_passed_over(
    gateway: MakeGateway, host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Unknown messages, commands and fields end no session, and what is known is done."""
    kernel = await gateway()
    mine = host()
    session = await kernel.session()
    with caplog.at_level(logging.WARNING):
        session.outgoing.put_nowait(pb.AttachResponse.FromString(UNKNOWN_FIELD))
        unknown = pb.Command.FromString(pb.Command(command_seq=1).SerializeToString() + UNKNOWN_FIELD)
        session.outgoing.put_nowait(pb.AttachResponse(commands=pb.CommandBatch(commands=[unknown])))
        session.seq = 1
        order = DispatchOrder(attempt_key="run_1/one/1", epoch=1, callable="m:f")
        newer = {**msgspec.msgpack.decode(seal(order)), "of_a_newer_release": "hello"}
        session.send(dispatch=b"no order at all")
        session.send(dispatch=msgspec.msgpack.encode(newer))
        await mine.runner.until(lambda: bool(mine.runner.accepted))
    assert "a command that this host does not know" in caplog.text
    assert "a command that this host cannot read" in caplog.text
    assert len(kernel.sessions) == 1


class RawKernel:
    """A server that welcomes a host and then says bytes of the test's own choice, a session after the other."""

    def __init__(self, path: Path, sayings: list[bytes]) -> None:
        self.hellos: list[pb.Hello] = []
        self.attached = asyncio.Semaphore(0)
        self._sayings = sayings
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {"Attach": grpc.stream_stream_rpc_method_handler(self._attach)}
        service = "nomaflow_api.v1.HostGatewayService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._server.add_insecure_port(f"unix:{path}")

    async def _attach(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.hellos.append(pb.AttachRequest.FromString(await anext(requests)).hello)
        welcome = pb.Welcome(protocol=1, epoch=1, heartbeat_interval_ms=100, lease_ms=5000, grace_ms=10_000)
        await context.write(pb.AttachResponse(welcome=welcome).SerializeToString())
        self.attached.release()
        if self._sayings:
            await context.write(self._sayings.pop(0))
        async for _ in requests:
            pass

    async def start(self) -> None:
        """Begin to listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Go away."""
        await self._server.stop(None)


def _field(number: int, body: bytes) -> bytes:
    """Return a bytes field in its form on the wire."""
    found, length = bytearray([number << 3 | 2]), len(body)
    while length > 0x7F:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*found, length]) + body


MALFORMED = {
    "truncated": b"\x1a\x7f\x01",
    "no message": b"\xff" * 40,
    "bad UTF-8": _field(3, _field(1, _field(2, _field(1, b"run_\xff\xfe/one/1")))),
    "nested too deep": b"\xc3\x3e" * 101 + b"\xc4\x3e" * 101,  # groups in groups in an unknown field
}


async def test_malformed_messages_cost_a_session_each(tmp_path: Path, host: MakeHost) -> None:
    """Bytes that are not a message end their session; the host attaches again, with the same instance."""
    kernel = RawKernel(tmp_path / "raw", list(MALFORMED.values()))
    await kernel.start()
    mine = host(given=f"unix:{tmp_path}/raw")
    try:
        async with asyncio.timeout(30):
            for _ in range(len(MALFORMED) + 1):
                await kernel.attached.acquire()
        assert not mine.task.done()
        assert len({hello.incarnation for hello in kernel.hellos}) == 1
        assert mine.runner.accepted == []
    finally:
        await kernel.stop()


async def test_no_pause_between_sessions_is_over_ten_seconds(tmp_path: Path) -> None:
    """However long the kernel was away, a host is back within ten seconds of it."""
    pauses: list[float] = []

    class Nowhere(AddressSource):
        """An address without a listener, and a clock that does not wait."""

        async def changed(self, seconds: float) -> None:
            """Record the pause without making it."""
            pauses.append(seconds)
            if len(pauses) == 40:
                raise asyncio.CancelledError

    identity = HostIdentity(
        host="demo", incarnation="incarnation-1", machine="m", pid=1, version="1", max_async=1, max_sync=1
    )
    outbox = Outbox(store=SpillStore(directory=tmp_path / "spill"))
    session = HostSession(
        identity=identity,
        addresses=Nowhere(given=f"unix:{tmp_path}/nobody", file=tmp_path / "address"),
        identity_file=IdentityFile(tmp_path / "identity.json"),
        runner=ScriptedRunner(),
        outbox=outbox,
    )
    with pytest.raises(asyncio.CancelledError):
        await session.run()
    assert pauses[0] < 1
    assert 5 < max(pauses) <= 10
