"""Streams of numbered requests. Each is answered as soon as its answer is known, and what is ready goes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from nomaflow_api.v1.reason_statuses import STATUS_KEY
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.rpc.failed_calls import CallStatus

_MOST = 1000
"""Requests of one stream that are under way; then it is not read until the answer to one is sent."""
_MOST_BYTES = 1024 * 1024
"""Bytes of answers that go in one message. A single one may be larger: the values of all steps have up to 2 MiB."""


class NumberedExchanges:
    """The requests of one stream, while they are under way.

    :param answer: answers a request; never raises
    :param write: sends a message
    :param response: the class of the messages that are sent
    """

    def __init__(
        self,
        *,
        answer: Callable[[Any], Awaitable[Message | CallStatus]],
        write: Callable[[bytes], Awaitable[None]],
        response: type[Message],
    ) -> None:
        self._answer = answer
        self._write = write
        self._response: Callable[[], Any] = response
        self._room = asyncio.Semaphore(_MOST)
        self._ready: list[tuple[int, Message | CallStatus]] = []
        self._sending = False

    async def serve(self, messages: AsyncIterator[Any]) -> None:
        """Answer the requests of all messages. Those that are under way when they end are answered, too.

        :raises KernelError: if there is something wrong with a message
        """
        wrong: KernelError | None = None
        async with asyncio.TaskGroup() as under_way:
            try:
                async for message in messages:
                    for item in message.items:
                        await self._room.acquire()
                        under_way.create_task(self._exchange(item.number, item.request))
            except KernelError as error:
                wrong = error
        if wrong is not None:
            raise wrong

    async def _exchange(self, number: int, request: Message) -> None:
        told = await self._answer(request)
        self._ready.append((number, told))
        if self._sending:
            return
        self._sending = True
        while self._ready:
            sent, answers = self._message()
            await self._write(sent)
            for _ in range(answers):
                self._room.release()
        self._sending = False

    def _message(self) -> tuple[bytes, int]:
        """Return a message of answers that wait, and their number: one, or as many as are not too large together."""
        message, size, taken = self._response(), 0, 0
        for number, told in self._ready:
            size += told.ByteSize() if isinstance(told, Message) else 0
            if taken and size > _MOST_BYTES:
                break
            if isinstance(told, Message):
                message.items.add(number=number, response=told)
            else:
                message.items.add(number=number, status=dict(told.trailing)[STATUS_KEY])
            taken += 1
        del self._ready[:taken]
        return message.SerializeToString(), taken
