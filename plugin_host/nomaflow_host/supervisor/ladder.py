"""The stages by which every attempt is stopped: after a cancel, after a timeout, and when it left code running."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nomaflow_api.time_spans import time_span

if TYPE_CHECKING:
    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.settings import SupervisorSettings


async def climb(
    target: HeldAttempt, *, why: str, grace: float, settings: SupervisorSettings, unaskable: asyncio.Event | None = None
) -> None:
    """Stop *target*, rung by rung, until it is gone.

    :param why: reason for the stop, for the first rung
    :param grace: seconds after the request to stop
    :param settings: have the seconds after the second rung and the third
    :param unaskable: set once it is known that its code cannot notice a request to stop: the first rung is skipped
    """
    began = time.monotonic()

    def note(number: int, what: str, because: str, wait: float | None) -> None:
        target.rung(number, what, because, after=time.monotonic() - began, wait=wait)

    def late() -> str:
        return f"not stopped after {time_span(time.monotonic() - began)}"

    askable = unaskable is None or not unaskable.is_set()
    if askable:
        note(1, f"asked to stop, {time_span(grace)} of grace", why, grace)
    target.ask()
    if askable and await _gone_within(target, grace, unless=unaskable):
        return
    useless = unaskable is not None and unaskable.is_set()
    because = "it takes no ctx and cannot be asked" if useless else late()
    note(2, target.interrupt(), because if askable else f"{why}; {because}", settings.term_seconds)
    if await _gone_within(target, settings.term_seconds):
        return
    note(3, target.terminate(), late(), settings.kill_seconds)
    if await _gone_within(target, settings.kill_seconds):
        return
    if target.exclusive:
        note(4, "its worker's process tree is killed", late(), None)
        target.kill(why)
    else:
        note(4, "its shared worker is killed", late(), None)
        target.kill(f"{why}, not stopped within its grace of {time_span(grace)}")


async def _gone_within(target: HeldAttempt, seconds: float, *, unless: asyncio.Event | None = None) -> bool:
    """Wait until *target* is gone; return False if that takes longer, or as soon as *unless* is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in (target.gone, unless) if event is not None]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
    return target.gone.is_set()
