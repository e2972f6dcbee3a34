"""The stages by which every attempt is stopped: after a cancel, after a timeout, and when it left code running."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nomaflow_host.supervisor.held_attempt import HeldAttempt

__all__ = ["LadderTimes", "climb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderTimes:
    """The waiting time of each rung, in seconds.

    :param grace: after the request to stop
    :param term: after the exception
    :param kill: after SIGTERM
    """

    grace: float
    term: float
    kill: float


async def climb(
    target: HeldAttempt,
    *,
    why: str,
    times: LadderTimes,
    unaskable: asyncio.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Stop *target*, rung by rung, until it is gone.

    :param why: reason for the stop, for the log
    :param unaskable: set once it is known that its code cannot notice a request to stop: the first rung is skipped
    """
    began = clock()

    def note(stage: int, text: str) -> None:
        target.rung(stage, f"{why}: {text} (stage {stage} of 4)")

    def late() -> str:
        return f"not stopped after {round(clock() - began, 2):g} s"

    askable = unaskable is None or not unaskable.is_set()
    if askable:
        note(1, f"asked to stop, {times.grace:g} s of grace")
    target.ask()
    if askable and await _gone_within(target, times.grace, unless=unaskable):
        return
    if not target.exclusive:
        note(4, f"{late()}: its shared worker is killed")
        target.kill(f"{why}, not stopped within its grace of {times.grace:g} s")
        return
    first = "it takes no ctx and cannot be asked" if unaskable is not None and unaskable.is_set() else late()
    note(2, f"{first}: SIGTERM to its children, an exception into its threads")
    target.interrupt()
    if await _gone_within(target, times.term):
        return
    note(3, f"{late()}: SIGTERM to its worker")
    target.terminate()
    if await _gone_within(target, times.kill):
        return
    note(4, f"{late()}: its worker's process tree is killed")
    target.kill(why)


async def _gone_within(target: HeldAttempt, seconds: float, *, unless: asyncio.Event | None = None) -> bool:
    """Wait until *target* is gone; return False if that takes longer, or as soon as *unless* is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in (target.gone, unless) if event is not None]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
    return target.gone.is_set()
