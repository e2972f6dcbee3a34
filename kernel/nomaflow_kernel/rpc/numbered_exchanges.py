"""Streams of numbered requests. Each is answered as soon as its answer is known, and what is ready goes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from msgspec import Struct

from nomaflow_api.v1.reason_statuses import STATUS_KEY
from nomaflow_kernel.access.principals import Caller
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.rpc.failed_calls import CallStatus
from nomaflow_kernel.rpc.requests import check_count

_MOST = 1000
"""Requests in one message, and those of one stream that are under way: then it is not read until one is answered."""
_MOST_BYTES = 1024 * 1024
"""Bytes of answers that go in one message. A single one may be larger: the values of all steps have up to 2 MiB."""
_TOGETHER = 100
"""Requests that are answered together, at most."""

Answer = Message | CallStatus


class ManyCalls(Struct, frozen=True):
    """A method of a service that answers many requests together.

    :param answers: returns the answer to each, or the error that refuses it
    :param takes: returns whether a request may wait for the others: it needs nothing that they do not
    """

    answers: Callable[[Sequence[Any], Caller], Awaitable[Sequence[Message | KernelError]]]
    takes: Callable[[Any], bool]


@dataclass(kw_only=True, slots=True)
class NumberedExchanges:
    """The requests of one stream, while they are under way.

    :param answer: answers requests that wait for each other; never raises
    :param takes: returns whether a request may wait for others
    :param write: sends a message
    :param response: the class of the messages that are sent
    """

    answer: Callable[[Sequence[Any]], Awaitable[Sequence[Answer]]]
    takes: Callable[[Any], bool]
    write: Callable[[bytes], Awaitable[None]]
    response: Callable[[], Any]
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST))
    _ready: list[tuple[int, Answer]] = field(default_factory=list)
    _sending: bool = False

    async def serve(self, messages: AsyncIterator[Any]) -> None:
        """Answer the requests of all messages. Those that are under way when they end are answered, too.

        :raises KernelError: if there is something wrong with a message, or it has too many requests
        """
        wrong: KernelError | None = None
        async with asyncio.TaskGroup() as under_way:
            try:
                async for message in messages:
                    await self._begin(message.items, under_way)
                    del message  # a large one takes 15 MiB, and the next may never come
            except KernelError as error:
                wrong = error
        if wrong is not None:
            raise wrong

    async def _begin(self, items: Sequence[Any], under_way: asyncio.TaskGroup) -> None:
        check_count(items, _MOST, "items")
        for group in self._groups(items):
            for _ in group:
                await self._room.acquire()
            under_way.create_task(self._exchange(group))

    def _groups(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Yield the items in groups that are answered together: those that wait for no others, and each other alone."""
        together: list[Any] = []
        for item in items:
            if not self.takes(item.request):
                yield (item,)
                continue
            together.append(item)
            if len(together) == _TOGETHER:
                yield together
                together = []
        if together:
            yield together

    async def _exchange(self, items: Sequence[Any]) -> None:
        told = await self.answer([item.request for item in items])
        self._ready += zip((item.number for item in items), told, strict=True)
        if self._sending:
            return
        self._sending = True
        while self._ready:
            sent, answers = self._message()
            await self.write(sent)
            for _ in range(answers):
                self._room.release()
        self._sending = False

    def _message(self) -> tuple[bytes, int]:
        """Return a message of answers that wait, and their number: one, or as many as are not too large together."""
        message, size, taken = self.response(), 0, 0
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
