"""A frame socket on an event loop, asyncio's own and uvloop's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from nomaflow_host.channel.async_link import AsyncLink
from nomaflow_host.channel.frames import Frame, FrameError, FrameSocket
from waiting import PATIENCE

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]


class Heard:
    """A link, its other end, and what the link has told."""

    def __init__(self) -> None:
        here, self.there = socket.socketpair()
        self.other = FrameSocket(self.there)
        self.messages: list[Any] = []
        self.pauses = 0
        self.ended: asyncio.Future[FrameError | None] = asyncio.get_running_loop().create_future()
        self.link = AsyncLink(
            link=FrameSocket(here),
            loop=asyncio.get_running_loop(),
            on_frame=self.take,
            on_pause=self.pause,
            on_end=self.ended.set_result,
        )

    def take(self, frame: Frame) -> None:
        """Keep a message; one without a number is nonsense."""
        self.messages.append(frame.message["n"])

    def pause(self) -> None:
        """Count."""
        self.pauses += 1

    def close(self) -> None:
        """Close both ends."""
        self.link.close()
        self.other.close()


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_peer_that_dies_with_something_unread_is_noticed(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A dead peer's last messages and end are read, even on a loop that calls the reader only once."""

    async def main() -> None:
        heard = Heard()
        heard.link.send({"is": "never read"})
        heard.other.send({"n": 1})
        heard.other.send({"n": 2})
        heard.there.close()
        async with asyncio.timeout(PATIENCE):
            assert await heard.ended is None
        assert heard.messages == [1, 2]
        assert heard.pauses
        heard.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_peer_that_speaks_without_end_leaves_others_their_turn(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """However much comes, the loop goes round; nothing is lost and nothing out of order."""

    async def main() -> None:
        heard, count = Heard(), 0
        text = "x" * 50_000

        def speak() -> None:
            nonlocal count
            while not heard.other.pending:
                count += 1
                heard.other.send({"n": count, "text": text})
            heard.other.flush()

        def take(frame: Frame) -> None:
            heard.messages.append(frame.message["n"])
            speak()

        heard.link._on_frame = take
        speak()
        async with asyncio.timeout(30):
            for _ in range(5):
                await asyncio.sleep(0)
                speak()
        heard.close()
        assert heard.messages == list(range(1, len(heard.messages) + 1))
        assert len(heard.messages) > 10

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_nonsense_ends_it_and_what_came_before_is_settled() -> None:
    """The end carries the error."""
    heard = Heard()
    heard.other.send({"n": 1})
    heard.other.send({"no": "number"})
    async with asyncio.timeout(60):
        error = await heard.ended
    assert "lacks or confuses fields" in str(error)
    assert heard.messages == [1]
    assert heard.pauses == 1
    heard.close()
