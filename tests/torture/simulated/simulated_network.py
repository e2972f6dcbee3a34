"""The connection between a played host and the kernel: the host's real session on one side, the kernel's real gateway
on the other, and between them delays, losses, repeats and cuts in place of gRPC's transport."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import grpc
import grpc.aio

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.session.report_streams import ReportStreams
from nomaflow_kernel.access.principals import OWNER, Caller
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.rpc.failed_calls import status_of

if TYPE_CHECKING:
    from simulated_kernel import SimulatedKernel

__all__ = ["OWNERS_HOST", "SimulatedLink", "Wire"]

_KEEPALIVE_SECONDS = (4.0, 15.0)

OWNERS_HOST = Caller(principal=OWNER, peer="unix:")
"""A host on the owner's socket."""


def rpc_error(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    """Return what a call raises."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)


def _told(error: KernelError) -> grpc.aio.AioRpcError:
    status = status_of(error)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing), status.message)


class _Direction:
    """Carries messages one way, in order, each a little later; holds them while it is cut."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._last = 0.0
        self._held: list[Callable[[], None]] = []
        self.cut = False

    def carry(self, deliver: Callable[[], None]) -> None:
        """Deliver later, after everything given before."""
        if self.cut:
            self._held.append(deliver)
            return
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-6, loop.time() + self._rng.uniform(0.0005, 0.01))
        loop.call_at(self._last, self._arrive, deliver)

    def _arrive(self, deliver: Callable[[], None]) -> None:
        if self.cut:
            self._held.append(deliver)
        else:
            deliver()

    def heal(self) -> None:
        """Deliver everything that was held back."""
        self.cut = False
        held, self._held = self._held, []
        for deliver in held:
            self.carry(deliver)

    def lose(self) -> None:
        """Drop what is held: the connection it belonged to is gone."""
        self._held.clear()


class Wire:
    """All connections of one host instance.

    :param kernel: returns the kernel that listens now, None if none does
    """

    def __init__(
        self, *, rng: random.Random, kernel: Callable[[], SimulatedKernel | None], say: Callable[[str], None]
    ) -> None:
        self.rng = rng
        self.kernel = kernel
        self.say = say
        self.up, self.down = _Direction(rng), _Direction(rng)
        self.calls: dict[SimulatedCall, None] = {}
        self.lost_requests = self.lost_replies = self.repeats = 0.0
        self.delivered: list[pb.StreamReportsRequest] = []
        self.answered: list[pb.StreamReportsRequest] = []
        self._cuts = 0

    def cut(self, *, up: bool, down: bool) -> None:
        """Stop carrying one way or both; keepalives end the connections after a while."""
        self.up.cut, self.down.cut = up, down
        self._cuts += 1
        loop = asyncio.get_running_loop()
        for side in ("host", "kernel"):
            loop.call_later(self.rng.uniform(*_KEEPALIVE_SECONDS), self._keepalive, side, self._cuts)

    def heal(self) -> None:
        """Carry again."""
        self._cuts += 1
        self.up.heal()
        self.down.heal()

    def reset(self) -> None:
        """Break every connection now, on both sides."""
        self.up.lose()
        self.down.lose()
        for call in list(self.calls):
            call.break_host_side()
            call.break_kernel_side()

    def _keepalive(self, side: str, cut: int) -> None:
        if cut != self._cuts:
            return
        for call in list(self.calls):
            if side == "host":
                call.break_host_side()
            else:
                call.break_kernel_side()
        (self.down if side == "host" else self.up).lose()


class SimulatedCall:
    """The stream of one session, as ``grpc.aio`` shows it to a host."""

    def __init__(self, wire: Wire, kernel: SimulatedKernel | None) -> None:
        self._wire = wire
        self._to_host: asyncio.Queue[pb.AttachResponse | grpc.aio.AioRpcError | None] = asyncio.Queue()
        self._to_kernel: asyncio.Queue[pb.AttachRequest | None] = asyncio.Queue()
        self._ended = False
        self._served: asyncio.Task[None] | None = None
        wire.calls[self] = None
        if kernel is None:
            self.break_host_side()
        else:
            self._served = kernel.spawn(self._serve(kernel))

    async def write(self, message: pb.AttachRequest) -> None:
        """Send to the kernel."""
        if self._ended:
            raise asyncio.InvalidStateError
        self._wire.up.carry(partial(self._to_kernel.put_nowait, message))
        await asyncio.sleep(0)

    async def read(self) -> pb.AttachResponse | object:
        """Return the next message, or EOF."""
        message = await self._to_host.get()
        if message is None:
            return grpc.aio.EOF
        if isinstance(message, grpc.aio.AioRpcError):
            self._to_host.put_nowait(message)
            raise message
        return message

    async def done_writing(self) -> None:
        """Close the host's side."""
        self._wire.up.carry(partial(self._to_kernel.put_nowait, None))
        await asyncio.sleep(0)

    def cancel(self) -> None:
        """Give the call up; the kernel hears of it when the connection lets it through."""
        if not self._ended:
            self._ended = True
            self._wire.up.carry(self.break_kernel_side)

    def break_host_side(self) -> None:
        """Tell the host that the connection is gone."""
        self._ended = True
        self._to_host.put_nowait(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection lost"))

    def break_kernel_side(self) -> None:
        """Cancel the kernel's handler, as gRPC does when the connection is gone."""
        self._wire.calls.pop(self, None)
        if self._served is not None:
            self._served.cancel()

    async def _serve(self, kernel: SimulatedKernel) -> None:
        end: grpc.aio.AioRpcError | None = None
        try:
            async with contextlib.aclosing(kernel.gateway.attach(self._requests(), OWNERS_HOST)) as responses:
                async for response in responses:
                    self._wire.down.carry(partial(self._to_host.put_nowait, response))
        except KernelError as error:
            end = _told(error)
        except asyncio.CancelledError:
            self._wire.down.carry(self.break_host_side)
            raise
        self._wire.down.carry(partial(self._to_host.put_nowait, end))

    async def _requests(self) -> AsyncIterator[pb.AttachRequest]:
        while (message := await self._to_kernel.get()) is not None:
            yield message


class SimulatedLink:
    """Stands where a host's session makes a ``Link``."""

    identity = None

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._kernel = wire.kernel()
        self._reports = ReportStreams(lambda: cast(Any, SimulatedReports(wire, self._kernel)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)

    def attach(self) -> SimulatedCall:
        """Open the session's stream."""
        return SimulatedCall(self._wire, self._kernel)

    async def report(self, request: pb.StreamReportsRequest, *, deadline_s: float) -> bytes:
        """Deliver events, or fail, or both."""
        acks = await self._reports.deliver(request, timeout=deadline_s)
        self._wire.answered.append(request)
        return acks

    def take_answer(self, answer: pb.ReportAnswer) -> None:
        """Take the session's answer to a report."""
        self._reports.take_answer(answer)


class SimulatedReports:
    """A stream of reports, as ``grpc.aio`` shows it to a host. It loses and repeats requests, and loses answers."""

    def __init__(self, wire: Wire, kernel: SimulatedKernel | None) -> None:
        self._wire = wire
        self._kernel = kernel
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, None]:
        return self._ended.__await__()

    async def write(self, request: pb.StreamReportsRequest) -> None:
        """Send a report to the kernel."""
        wire, loop = self._wire, asyncio.get_running_loop()
        if wire.rng.random() < wire.lost_requests:
            loop.call_later(wire.rng.uniform(0, 0.2), self._break, "the request was lost")
            return
        wire.up.carry(partial(self._arrive, request))
        if wire.rng.random() < wire.repeats:
            loop.call_later(wire.rng.uniform(0, 5), self._arrive, request)
        await asyncio.sleep(0)

    def cancel(self) -> None:
        """Give the stream up."""
        self._ended.cancel()

    def _arrive(self, request: pb.StreamReportsRequest) -> None:
        if self._kernel is None or not self._kernel.alive:
            self._wire.down.carry(partial(self._break, "refused"))
            return
        self._wire.delivered.append(request)
        self._kernel.spawn(self._record(self._kernel, request))

    async def _record(self, kernel: SimulatedKernel, request: pb.StreamReportsRequest) -> None:
        if self._wire.rng.random() < self._wire.lost_replies:
            self._wire.down.carry(partial(self._break, "the stream was lost"))
        try:
            await kernel.gateway.stream_reports(request, OWNERS_HOST)
        except KernelError as error:
            self._wire.down.carry(partial(self._end, _told(error)))
        except asyncio.CancelledError:
            self._wire.down.carry(partial(self._break, "reset"))
            raise

    def _break(self, why: str) -> None:
        self._end(rpc_error(grpc.StatusCode.UNAVAILABLE, why))

    def _end(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
