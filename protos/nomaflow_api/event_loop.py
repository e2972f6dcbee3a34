"""The event loop of a kernel and of a host's main process, and a wait with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop loop if uvloop is installed (the extra ``uvloop``), otherwise one of asyncio's own.

    A process that waits for messages turns its loop some dozen times for each message; uvloop does so at a third of the
    cost.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a process's main coroutine to its end and return its result, as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


async def happens_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``event`` is set; return False if that takes longer than ``seconds`` (None: no bound).

    A cancellation that arrives together with the event is kept; ``asyncio.wait_for`` of Python 3.11 may lose it.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
