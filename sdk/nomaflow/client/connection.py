"""Connection to a kernel: calls with deadlines, retries, and streams that survive a kernel's restart."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from nomaflow.client.address import AddressSource
from nomaflow.client.backoff import Backoff
from nomaflow.client.channels import handshake_failure, open_channel
from nomaflow.client.errors import ClientError, ClientUnusable, InvalidRequest, KernelUnreachable, Unauthenticated
from nomaflow.client.failed_calls import client_error, retryable
from nomaflow.client.numbered_exchanges import MOST_BYTES, NumberedExchanges
from nomaflow.client.silent_kernel import silent_kernel
from nomaflow_api.addresses import has_known_form, is_tcp, split_addresses
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from nomaflow_api.v1.kernel_service_pb2 import StreamTriggersRequest
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub

_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # A run with many attempts, each with extras, may exceed gRPC's own limit of 4 MiB.
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    "grpc.enable_retries": 0,
}
"""Retries are made here, not by gRPC. An attempt to connect may take the minimal back-off: a kernel that is held up
takes the connection, and answers late."""

_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""The encoded answer with status SERVING."""

FAILOVER_SECONDS: Final = 25.0
"""How long to try where a kernel stands by: it takes over within 20 s."""

_ELSEWHERE_SECONDS = 0.05

_ANSWERS = frozenset({"STORE_BUSY", "STORE_ERROR", "STORE_UNAVAILABLE"})
"""Reasons of a kernel that is there and cannot do it just now."""

_OPEN: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
"""The connections with channels, each with its process. In one forked meanwhile no call of gRPC would ever end."""


class Connection:
    """Calls a kernel and hides its restarts for a limited time.

    :param source: source of the kernel's addresses, of which one leads; asked again where the last one fails
    :param connect_seconds: time limit for a first answer
    :param retry_seconds: time limit for an answer once the kernel has answered before
    :param ca: the authorities that must vouch for the kernel, PEM, or a file of them; None for the system's
    :param on_connected: called with False when an answering kernel goes away and with True when it is back
    """

    def __init__(
        self,
        *,
        source: AddressSource,
        connect_seconds: float,
        retry_seconds: float,
        ca: Path | bytes | None = None,
        on_connected: Callable[[bool], None] | None = None,
    ) -> None:
        self._source = source
        self._ca = ca
        self._route = _Route(source)
        self._connect_seconds = connect_seconds
        self._retry_seconds = retry_seconds
        self._on_connected = on_connected or (lambda _: None)
        self._answered = False
        self._away = False
        self._stood_by = False
        # Each stays open until the end: a stream may go on at one address while calls ask another.
        self._channels: dict[str, tuple[grpc.aio.Channel, Any, NumberedExchanges]] = {}
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    async def close(self) -> None:
        """Close every channel, for good. May be called twice."""
        self._closed = True
        _OPEN.pop(self, None)
        while self._channels:
            channel, _, triggers = self._channels.popitem()[1]
            await triggers.close()
            await channel.close()

    async def call(self, method: str, request: Any, *, seconds: float, traceparent: str = "") -> Any:
        """Send one request, which must be safe to repeat, and return the reply.

        A trigger goes on a stream that stays open if the kernel is on a Unix socket: on TCP the kernel limits the calls
        that a client has open at once. A large one is a call of its own: if the kernel refuses its size, the stream of
        the others goes on.

        :param seconds: time limit of each try
        :param traceparent: the caller's place in a trace; empty for none
        :raises ClientError: when the kernel refuses, fails, or does not answer after the retries
        """
        trial = _Trial()
        while True:
            try:
                _, stub, triggers = self._channel(trial)
                metadata = self._metadata(trial.address, traceparent)
                by_stream = method == "TriggerRun" and not (metadata or is_tcp(trial.address))
                if by_stream and request.ByteSize() <= MOST_BYTES:
                    reply = await triggers.exchange(request, seconds=seconds)
                else:
                    reply = await getattr(stub, method)(request, timeout=seconds, metadata=metadata)
            except (grpc.aio.AioRpcError, KernelUnreachable) as error:
                await self._failed(trial, error)
            except asyncio.CancelledError:
                raise self._cancelled() from None
            else:
                self._note_answer()
                return reply

    async def is_serving(self, *, seconds: float) -> bool:
        """Ask the standard health service whether the kernel serves. The answer is two bytes, so it needs no stub.

        :raises ClientError: when it does not answer
        """
        trial = _Trial()
        channel, *_ = self._channel(trial)
        check: Any = channel.unary_unary(_HEALTH)
        try:
            reply: bytes = await check(b"", timeout=seconds, metadata=self._metadata(trial.address))
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, trial.address) from None
        return reply == _SERVING

    async def stream(self, method: str, request: Message) -> AsyncIterator[Any]:
        """Yield the messages of a stream; if the kernel goes away, ask again with the request as it is then.

        :param request: its receiver keeps its cursor up to date
        :raises ClientError: when the kernel refuses, fails, or stays away for too long
        """
        trial, began = _Trial(), False
        shown: tuple[tuple[str, str], ...] = ()
        while True:
            try:
                _, stub, _ = self._channel(trial)
                shown = self._metadata(trial.address)
                call: Any = getattr(stub, method)(request, metadata=shown)
                try:
                    async for message in call:
                        self._note_answer()
                        trial, began = _Trial(trial.address), True
                        yield message
                finally:
                    call.cancel()
                self._note_answer()
                return
            except (grpc.aio.AioRpcError, KernelUnreachable) as error:
                refused = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAUTHENTICATED
                if not refused or self._metadata(trial.address) == shown:  # else there is a newer token by now
                    await self._failed(trial, error, began=began)
            except asyncio.CancelledError:
                raise self._cancelled() from None

    def _channel(self, trial: _Trial) -> tuple[grpc.aio.Channel, Any, NumberedExchanges]:
        """Return the channel to the current address, the stub on it, and its stream for triggers.

        :raises ClientUnusable: if none can be used here
        :raises InvalidRequest: if the address has no known form
        """
        self._check_home()
        address = trial.address = self._route.address()
        if address not in self._channels:
            if not has_known_form(address):
                raise InvalidRequest(
                    f"the address {address!r} has no known form", fix="write unix:/path/kernel.sock or tls://host:port"
                )
            channel = open_channel(address, ca=self._ca, options=_OPTIONS)
            # The generated files have one stub class each; an asynchronous channel makes its calls awaitable.
            calls = {**vars(KernelServiceStub(channel)), **vars(AccessServiceStub(channel))}
            triggers = NumberedExchanges(calls["StreamTriggers"], StreamTriggersRequest)
            self._channels[address] = channel, SimpleNamespace(**calls), triggers
        return self._channels[address]

    def _check_home(self) -> None:
        """Check that this is the process and the event loop that gRPC works in: elsewhere a call would never end."""
        loop, process = asyncio.get_running_loop(), os.getpid()
        if self._closed:
            raise ClientUnusable.closed()
        if self._home is None:
            if any(opened_in != process for opened_in in _OPEN.values()):
                raise ClientUnusable.forked()
            self._home = process, loop
            _OPEN[self] = process
        if self._home[0] != process:
            raise ClientUnusable.forked()
        if self._home[1] is not loop:
            raise ClientUnusable.of_another_loop()

    def _cancelled(self) -> BaseException:
        """Return the error of a canceled call: `close` cancels it, and so does whoever cancels the task."""
        task = asyncio.current_task()
        by_close = self._closed and task is not None and not task.cancelling()
        return ClientUnusable.closed() if by_close else asyncio.CancelledError()

    def _metadata(self, address: str, traceparent: str = "") -> tuple[tuple[str, str], ...]:
        token = self._source.token if is_tcp(address) else ""  # the socket's directory is the proof there
        if not (token.isascii() and token.isprintable()):
            raise Unauthenticated("the token has characters that no token has", fix="give it as it was printed")
        trace = (("traceparent", traceparent),) if traceparent else ()
        return (("authorization", f"Bearer {token}"), *trace) if token else trace

    def _note_answer(self) -> None:
        """Record that the kernel has answered, and report it if the kernel had been away."""
        self._answered = True
        self._stood_by = False
        if self._away:
            self._away = False
            self._on_connected(True)  # noqa: FBT003  # the callback's one argument

    async def _failed(
        self, trial: _Trial, error: grpc.aio.AioRpcError | KernelUnreachable, *, began: bool = False
    ) -> None:
        """Wait before the next try, or raise if there is none.

        :param began: whether it is of a stream that was open: the kernel may still count that one, and take no other
        :raises ClientError: the error of the last try
        """
        translated = self._translated(error, trial.address)
        goes_on = began and translated.reason == "QUOTA"
        if isinstance(error, grpc.aio.AioRpcError) and not (goes_on or retryable(error)):
            raise translated from None
        unreachable = isinstance(translated, KernelUnreachable) and translated.reason not in _ANSWERS
        if unreachable and self._answered and not self._away:
            self._away = True
            self._on_connected(False)  # noqa: FBT003  # the callback's one argument
        self._stood_by = self._stood_by or translated.reason == "NOT_LEADER"
        elsewhere = self._route.failed(translated, trial.address)
        if self._route.bars(translated) and not elsewhere:
            raise translated from None
        delay = _ELSEWHERE_SECONDS if elsewhere else max(trial.backoff.next(), translated.retry_after or 0)
        now = time.monotonic()
        # Counted from here, not from the last message: a stream may have been idle for long before it broke.
        trial.failing_since = now if trial.failing_since is None else trial.failing_since
        limit = self._retry_seconds if self._answered else self._connect_seconds
        limit = max(limit, FAILOVER_SECONDS) if self._stood_by else limit
        if not elsewhere and now + delay - trial.failing_since > limit:
            raise translated from None
        await asyncio.sleep(delay)

    def _translated(self, error: grpc.aio.AioRpcError | KernelUnreachable, address: str) -> ClientError:
        """Return the client's error for ``error``, which occurred at an address."""
        if not isinstance(error, grpc.aio.AioRpcError):
            return error
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return client_error(error, address=address)
        details = error.details() or ""
        explained = handshake_failure(details, address=address) or silent_kernel(details, address=address)
        return explained or client_error(error, address=self._route.tried(address))


@dataclass(slots=True)
class _Trial:
    """The tries of one call.

    :param failing_since: monotonic time of the first failure
    """

    address: str = ""
    failing_since: float | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.1, most=2.0))


class _Route:
    """Stays with an address that answers; otherwise goes to the next one, or to the one that a standby names."""

    def __init__(self, source: AddressSource) -> None:
        self._source = source
        self._known: tuple[str, ...] = ()
        self._turn = 0
        self._hints: list[str] = []
        self._failed = ""

    def address(self) -> str:
        """Return the address to ask now.

        :raises KernelUnreachable: if there is none
        """
        if self._hints:
            return self._hints[0]
        known = self._known = self._known or self._source.addresses()
        if not known:
            raise KernelUnreachable("no address of a kernel is given", fix="name one with --address")
        if len(known) > 1 and known[self._turn % len(known)] == self._failed:
            self._turn += 1
        return known[self._turn % len(known)]

    def tried(self, address: str) -> str:
        """Return, for a person, the addresses at which no kernel answers: *address* alone, or all known ones."""
        try:
            return ", ".join(dict.fromkeys((*self._source.addresses(), address)))
        except KernelUnreachable:
            return address

    def bars(self, error: ClientError) -> bool:
        """Return True if a standby names a leader on TCP, which refuses a caller without a token."""
        named = split_addresses(error.metadata.get("leader", "")) if error.reason == "NOT_LEADER" else ()
        return bool(named) and all(map(is_tcp, named)) and not self._source.token

    def failed(self, error: ClientError, address: str) -> bool:
        """Record that an address did not serve; return True if one is left that was not asked yet."""
        try:
            if address != self.address():
                return True  # an older call or stream: others have already switched
        except KernelUnreachable:
            return False
        known, self._known, self._failed = self._known, (), address  # a restarted kernel may have another address
        if self._hints:
            self._hints.pop(0)
            return bool(self._hints)
        self._turn += 1
        if error.reason == "NOT_LEADER":
            self._hints = [] if self.bars(error) else list(split_addresses(error.metadata.get("leader", "")))
        return bool(self._hints) or self._turn % len(known) != 0
