"""Waiting for an event, with a time limit."""

from __future__ import annotations

import asyncio

__all__ = ["happens_within"]


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
