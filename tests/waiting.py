"""Waiting for a fact in an asynchronous test; `real_system.eventually` does it in the others."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

__all__ = ["PATIENCE", "eventually"]

PATIENCE = float(os.environ.get("TESTS_PATIENCE", "60"))
"""Seconds to wait for what comes at once on an idle machine; fewer with a mutant, where it may never come."""


async def eventually(question: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
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
