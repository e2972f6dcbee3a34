"""Waiting for a fact in an asynchronous test; `real_system.eventually` does it in the others."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["eventually"]


async def eventually(question: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Return the first true answer to a question; asynchronous ones are awaited.

    :raises TimeoutError: if there is none in time
    """
    pause = 0.005
    async with asyncio.timeout(seconds):
        while True:
            answer = question()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(pause)
            pause = min(pause * 1.25, 0.1)
