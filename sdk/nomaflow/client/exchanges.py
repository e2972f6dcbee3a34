"""Streams that stay open, for calls that are made often: an exchange costs half of what a call costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["Exchanges"]

_MOST = 64


class Exchanges:
    """The streams of one method on a channel. One takes one request at a time, so that each may be on its own.

    :param method: opens a stream
    :param most: the number of streams that may be open
    """

    def __init__(self, method: Callable[[], Any], *, most: int = _MOST) -> None:
        self._method = method
        self._most = most
        self._busy = 0
        self._idle: list[Any] = []

    @property
    def full(self) -> bool:
        """True if every stream that may be open has a request under way."""
        return self._busy >= self._most

    async def exchange(self, request: Message, *, timeout: float) -> Any:  # noqa: ASYNC109  # answered with gRPC's error
        """Send a request on a stream that is idle, or on a new one, and return its answer. A failed stream is given up.

        :param timeout: seconds
        :raises grpc.aio.AioRpcError: if the exchange fails; UNAVAILABLE if the stream ends instead
        """
        stream = self._take()
        self._busy += 1
        answered = False
        try:
            async with asyncio.timeout(timeout):
                await _write(stream, request)
                answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise _error(grpc.StatusCode.UNAVAILABLE, "the stream has ended without an answer")
            answered = True
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:g} seconds") from None
        finally:
            self._busy -= 1
            if answered:
                self._idle.append(stream)
            else:
                stream.cancel()
        return answer

    def _take(self) -> Any:
        while self._idle:
            stream = self._idle.pop()
            if not stream.done():
                return stream
        return self._method()


async def _write(stream: Any, request: Message) -> None:
    try:
        await stream.write(request)
    except asyncio.InvalidStateError:
        return  # it has ended meanwhile: the read raises why
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INTERNAL:
            raise
        # gRPC's own word, not the peer's, for a connection that broke just now.
        raise _error(grpc.StatusCode.UNAVAILABLE, "the connection broke as the request was sent") from None


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details=details)
