"""Waiting for something to happen, but not for longer than a while."""

from __future__ import annotations

import asyncio

__all__ = ["happens_within"]


async def happens_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``event`` is set; return False where that takes longer than ``seconds`` (None: no bound).

    A cancel that arrives together with the event is kept, which ``asyncio.wait_for`` of Python 3.11 does not promise.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
