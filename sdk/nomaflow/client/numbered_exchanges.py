"""A stream that stays open, for calls that are made often: an exchange costs a small part of what a call costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from nomaflow_api.v1.reason_statuses import status_error

_MOST = 500
MOST_BYTES = 1024 * 1024
"""Bytes of requests in one message, and of one request on a stream: a message that is too large ends it for all."""


class NumberedExchanges:
    """The stream of one method on a channel, opened when there is something to send, and again after it has ended.

    Requests that are made while others are sent go together in the next message.

    :param method: opens a stream
    :param request: the class of the messages that are sent
    """

    def __init__(self, method: Callable[[], Any], request: type[Message]) -> None:
        self._method = method
        self._request = request
        self._stream: _Stream | None = None

    async def exchange(self, request: Message, *, seconds: float) -> Any:
        """Send a request and return its answer.

        :param request: of at most `MOST_BYTES`
        :param seconds: time limit
        :raises grpc.aio.AioRpcError: if the exchange fails; UNAVAILABLE if the stream ends instead
        """
        if self._stream is None or self._stream.ended:
            self._stream = _Stream(self._method(), self._request)
        try:
            async with asyncio.timeout(seconds):
                return await self._stream.exchange(request)
        except TimeoutError:
            raise grpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {seconds:g} seconds") from None

    async def close(self) -> None:
        """End the stream, and what is under way on it. May be called twice."""
        if self._stream is not None:
            await self._stream.close()


class _Stream:
    """One stream, and the requests on it that have no answer."""

    def __init__(self, call: Any, request: type[Message]) -> None:
        self._call = call
        self._request: Callable[[], Any] = request
        self._numbers = count(1)
        self._unsent: list[tuple[int, Message]] = []
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._sending = False
        self._sender: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        """True if it takes no more requests."""
        return self._error is not None

    async def close(self) -> None:
        tasks = [each for each in (self._reader, self._sender) if each is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def exchange(self, request: Message) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._unsent.append((number, request))
        try:
            if not self._sending:
                self._sending = True
                await self._write()
                self._send_rest()
            answered = await answer
        finally:
            del self._answers[number]
        if isinstance(answered, grpc.aio.AioRpcError):
            raise answered
        return answered

    def _send_rest(self) -> None:
        """Send what has come meanwhile, in a task of its own: whoever waits for an answer must not send for others."""
        if self._unsent and not self.ended:
            self._sender = asyncio.create_task(self._write())
            self._sender.add_done_callback(lambda _: self._send_rest())
        else:
            self._sending = False

    async def _write(self) -> None:
        try:
            await self._call.write(self._message())
        except asyncio.InvalidStateError:
            pass  # it has ended meanwhile: the reader raises why
        except grpc.aio.AioRpcError as error:
            broke = is_broken_connection(error)
            self._end(_unavailable("the connection broke as the request was sent") if broke else error)
        except asyncio.CancelledError:
            self._end(_unavailable("the stream was given up"))  # gRPC ends it when a write is canceled
            raise

    def _message(self) -> Any:
        """Return a message of requests that wait: a single one, or as many as are not too large together."""
        message, size, taken = self._request(), 0, 0
        for number, request in self._unsent[:_MOST]:
            size += request.ByteSize()
            if taken and size > MOST_BYTES:
                break
            message.items.add(number=number, request=request)
            taken += 1
        del self._unsent[:taken]
        return message

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                for item in message.items:
                    self._answer(item)
        except grpc.aio.AioRpcError as error:
            self._end(error)
        except asyncio.CancelledError:
            self._end(asyncio.CancelledError())  # the channel was closed, as it ends a call that is under way
            raise
        else:
            self._end(_unavailable("the stream has ended without an answer"))

    def _answer(self, item: Any) -> None:
        answer = self._answers.get(item.number)
        if answer is None or answer.done():
            return  # nobody waits for it any more
        refused = item.WhichOneof("outcome") == "status"
        answer.set_result(status_error(item.status) if refused else item.response)

    def _end(self, error: BaseException) -> None:
        """Give the stream up: what has no answer fails."""
        if self._error is not None:
            return
        self._error = error
        self._unsent.clear()
        self._call.cancel()
        for answer in self._answers.values():
            if isinstance(error, asyncio.CancelledError):
                answer.cancel()
            elif not answer.done():
                answer.set_result(error)


def _unavailable(details: str) -> grpc.aio.AioRpcError:
    return grpc_error(grpc.StatusCode.UNAVAILABLE, details)


def grpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """Return an error as a call raises it that ends with a status."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details=details)


def is_broken_connection(error: grpc.aio.AioRpcError) -> bool:
    """Return whether an error of a write is gRPC's own word, not the peer's, for a connection that broke just now."""
    return error.code() is grpc.StatusCode.INTERNAL
