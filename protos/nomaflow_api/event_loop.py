"""The event loop of a kernel and of a host's main process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["new_event_loop", "run"]

_T = TypeVar("_T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop where that is installed (the extra ``uvloop``), else one of asyncio's own.

    A process that waits for messages turns its loop some dozen times for each; uvloop does so at a third of the price.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a process's main coroutine to its end and return what it returns, as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
