"""Connection to a kernel: calls with deadlines, retries, and streams that survive a kernel's restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from nomaflow.client.backoff import Backoff
from nomaflow.client.channels import Channels, ChannelUse
from nomaflow.client.errors import ClientError, KernelUnreachable
from nomaflow.client.failures import client_error, retryable
from nomaflow.client.routing import Route
from nomaflow.client.tls import handshake_failure

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from nomaflow.client.address import AddressSource

__all__ = ["CHANNEL_OPTIONS", "Connection"]

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A run with many attempts, each with extras, may exceed gRPC's own limit of 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.enable_retries", 0),
)
"""Without the ping timeout a frozen peer is noticed only after 70 s. Retries are made here, not by gRPC."""

_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""The encoded answer with status SERVING."""

_FAILOVER_SECONDS = 25.0
"""How long to try where a kernel stands by: it takes over within 20 s."""

_ELSEWHERE_SECONDS = 0.05

_ANSWERS = frozenset({"STORE_BUSY", "STORE_ERROR", "STORE_UNAVAILABLE"})
"""Reasons of a kernel that is there and cannot do it just now."""


class Connection:
    """Calls a kernel and hides its restarts for a limited time.

    :param source: source of the kernel's addresses, of which one leads; asked again at every try
    :param connect_seconds: time limit for a first answer
    :param retry_seconds: time limit for an answer once the kernel has answered before
    :param ca: file of the authorities that must vouch for the kernel, PEM; None for the system's
    :param on_connected: called with False when an answering kernel goes away and with True when it is back
    """

    def __init__(
        self,
        *,
        source: AddressSource,
        connect_seconds: float,
        retry_seconds: float,
        ca: Path | None = None,
        on_connected: Callable[[bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._with_ca = ca is not None
        self._route = Route(source=source)
        self._connect_seconds = connect_seconds
        self._retry_seconds = retry_seconds
        self._on_connected = on_connected
        self._clock = clock
        self._answered = False
        self._away = False
        self._stood_by = False
        self._channels = Channels(options=CHANNEL_OPTIONS, ca=ca)

    async def close(self) -> None:
        """Close every channel. May be called twice."""
        await self._channels.close()

    async def call(
        self,
        method: str,
        request: Message,
        *,
        timeout: float,  # noqa: ASYNC109  # gRPC's own deadline
        traceparent: str = "",
    ) -> Any:
        """Send one request, which must be safe to repeat, and return the reply.

        :param timeout: seconds for each try
        :param traceparent: the caller's place in a trace; empty for none
        :raises ClientError: when the kernel refuses, fails, or does not answer after the retries
        """
        trial = _Trial(self)
        while True:
            try:
                async with self._channel(trial) as channel:
                    metadata = self._metadata(traceparent)
                    reply = await getattr(channel.stub, method)(request, timeout=timeout, metadata=metadata)
            except (grpc.aio.AioRpcError, KernelUnreachable) as error:
                await trial.failed(error)
            else:
                self.note_answer()
                return reply

    async def is_serving(self, *, timeout: float) -> bool:  # noqa: ASYNC109  # gRPC's own deadline
        """Ask the standard health service whether the kernel serves. The answer is two bytes, so it needs no stub.

        :raises ClientError: when it does not answer
        """
        trial = _Trial(self)
        try:
            async with self._channel(trial) as channel:
                check: Any = channel.channel.unary_unary(_HEALTH)
                reply: bytes = await check(b"", timeout=timeout, metadata=self._metadata())
        except (grpc.aio.AioRpcError, KernelUnreachable) as error:
            raise self.translate(error, trial.address) from None
        return reply == _SERVING

    async def stream(self, method: str, request: Callable[[], Message]) -> AsyncIterator[Any]:
        """Yield the messages of a stream; if the kernel goes away, ask again with a new ``request()``.

        :raises ClientError: when the kernel refuses, fails, or stays away for too long
        """
        trial = _Trial(self)
        while True:
            try:
                async with self._channel(trial) as channel:
                    call: Any = getattr(channel.stub, method)(request(), metadata=self._metadata())
                    try:
                        async for message in call:
                            self.note_answer()
                            trial = _Trial(self, address=trial.address)
                            yield message
                    finally:
                        call.cancel()
                self.note_answer()
                return
            except (grpc.aio.AioRpcError, KernelUnreachable) as error:
                await trial.failed(error)

    def _channel(self, trial: _Trial) -> ChannelUse:
        """Return the current channel."""
        trial.address = self._route.address()
        return self._channels.to(trial.address)

    def _metadata(self, traceparent: str = "") -> tuple[tuple[str, str], ...]:
        token = self._source.token()
        trace = (("traceparent", traceparent),) if traceparent else ()
        return (("authorization", f"Bearer {token}"), *trace) if token else trace

    def note_answer(self) -> None:
        """Record that the kernel has answered, and report it if the kernel had been away."""
        self._answered = True
        self._stood_by = False
        if self._away:
            self._away = False
            if self._on_connected is not None:
                self._on_connected(True)  # noqa: FBT003  # the callback's one argument

    def note_away(self) -> None:
        """Report that a kernel that had answered is away."""
        if self._answered and not self._away:
            self._away = True
            if self._on_connected is not None:
                self._on_connected(False)  # noqa: FBT003  # the callback's one argument

    def give_up_after(self) -> float:
        """Return the number of seconds for which to keep trying."""
        usual = self._retry_seconds if self._answered else self._connect_seconds
        return max(usual, _FAILOVER_SECONDS) if self._stood_by else usual

    def note_failure(self, error: ClientError, address: str) -> bool:
        """Switch to another address; return True if one is left that was not asked yet."""
        self._stood_by = self._stood_by or error.reason == "NOT_LEADER"
        return self._route.failed(error, address)

    def now(self) -> float:
        """Return the monotonic time."""
        return self._clock()

    def translate(self, error: grpc.aio.AioRpcError | KernelUnreachable, address: str) -> ClientError:
        """Return the client's error for ``error``, which occurred at an address."""
        if not isinstance(error, grpc.aio.AioRpcError):
            return error
        away = error.code() is grpc.StatusCode.UNAVAILABLE
        untrusted = handshake_failure(error.details() or "", address=address, with_ca=self._with_ca) if away else None
        if untrusted is not None:
            return untrusted
        return client_error(error, address=self._route.tried(address) if away else address)


class _Trial:
    """The tries of one call, since its first failure."""

    def __init__(self, connection: Connection, *, address: str = "") -> None:
        self._connection = connection
        self.address = address
        self._first_failure: float | None = None
        self._backoff = Backoff()

    async def failed(self, error: grpc.aio.AioRpcError | KernelUnreachable) -> None:
        """Wait before the next try, or raise if there is none.

        :raises ClientError: the error of the last try
        """
        if isinstance(error, grpc.aio.AioRpcError) and not retryable(error):
            raise self._connection.translate(error, self.address) from None
        translated = self._connection.translate(error, self.address)
        if isinstance(translated, KernelUnreachable) and translated.reason not in _ANSWERS:
            self._connection.note_away()
        elsewhere = self._connection.note_failure(translated, self.address)
        delay = _ELSEWHERE_SECONDS if elsewhere else max(self._backoff.delay(), translated.retry_after or 0)
        now = self._connection.now()
        # Counted from here, not from the last message: a stream may have been idle for long before it broke.
        self._first_failure = now if self._first_failure is None else self._first_failure
        if not elsewhere and now + delay - self._first_failure > self._connection.give_up_after():
            raise translated from None
        await asyncio.sleep(delay)
