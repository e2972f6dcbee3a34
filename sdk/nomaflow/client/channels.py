"""The channels of a client: the current one, and older ones that a call or a stream still uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from nomaflow.client.tls import open_channel
from nomaflow_api.v1 import kernel_service_pb2_grpc

__all__ = ["Channel", "ChannelUse", "Channels"]


class Channel:
    """A channel to one address, and the stub on it."""

    def __init__(self, address: str, *, ca: Path | None, options: Sequence[tuple[str, int]]) -> None:
        self.address = address
        self.users = 0
        self.channel = open_channel(address, ca=ca, options=options)
        # The generated file has one stub class; an asynchronous channel makes its calls awaitable.
        self.stub = cast("Any", kernel_service_pb2_grpc.KernelServiceStub(self.channel))


class ChannelUse:
    """The use of a channel by one call. Not a generator, since a loop that ends closes generators in any order."""

    def __init__(self, *, channel: Channel, close_unused: Callable[[], Awaitable[None]]) -> None:
        self._channel = channel
        self._close_unused = close_unused
        channel.users += 1

    async def __aenter__(self) -> Channel:
        await self._close_unused()
        return self._channel

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.users -= 1
        await self._close_unused()


class Channels:
    """Opens a new channel when the address changes; the old one is closed when nobody uses it any more.

    Closing it at once would cancel other calls on it.

    :param ca: file of the authorities to trust; None for the system's
    """

    def __init__(self, *, options: Sequence[tuple[str, int]], ca: Path | None = None) -> None:
        self._options = options
        self._ca = ca
        self._current: Channel | None = None
        self._open: set[Channel] = set()

    def to(self, address: str) -> ChannelUse:
        """Return the channel to an address, to enter for the time of a call.

        :raises NotTrusted: if the file of authorities cannot be used
        """
        if self._current is None or self._current.address != address:
            self._current = Channel(address, ca=self._ca, options=self._options)
            self._open.add(self._current)
        return ChannelUse(channel=self._current, close_unused=self._close_unused)

    async def close(self) -> None:
        """Close every channel. May be called twice."""
        self._current = None
        while self._open:
            await self._open.pop().channel.close()

    async def _close_unused(self) -> None:
        for each in [one for one in self._open if one is not self._current and not one.users]:
            self._open.discard(each)
            await each.channel.close()
