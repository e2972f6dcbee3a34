"""Counts of runs for filters, which cost the kernel the more, the more runs there are: a month of them takes a second.

A count that took long is shown for twenty times as long as that, and for sixty times while a newer one is under way. So
counting takes a twentieth of the time at most, however often pages are shown; of few runs the counts are those of now.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nomaflow.client.values import RunCountView

__all__ = ["Tallies"]

_LONG_SECONDS, _PATIENCE_SECONDS = 0.1, 1.0
_GOOD, _USABLE = 20, 60
_MOST = 200

Count = Callable[[], Awaitable[Sequence[RunCountView]]]


@dataclass(kw_only=True, slots=True)
class _Tally:
    """One count; `counting` is the next one, while it is under way."""

    counts: Sequence[RunCountView] | None = None
    at: float = float("-inf")
    seconds: float = 0.0
    counting: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Its age, in multiples of the time that it took."""
        took_long = self.seconds > _LONG_SECONDS
        return (time.monotonic() - self.at) / self.seconds if took_long else float("inf")


class Tallies:
    """The counts that a principal may see."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Tally] = OrderedDict()

    async def of(self, key: Hashable, count: Count) -> Sequence[RunCountView] | None:
        """Return counts; None if they are not known yet: a page waits a second for them, and the next one has them.

        :param key: what is counted; a span of time as such, since each page counts from another instant on
        :param count: asks the kernel
        """
        tally = self._known.setdefault(key, _Tally())
        self._known.move_to_end(key)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        age = tally.age
        if age > _GOOD and tally.counting is None:
            tally.counting = asyncio.create_task(_renew(tally, count))
            tally.counting.add_done_callback(_note)
        if age > _USABLE and tally.counting is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await asyncio.shield(tally.counting)
        return tally.counts


async def _renew(tally: _Tally, count: Count) -> None:
    began = time.monotonic()
    try:
        tally.counts = await count()
        tally.at = time.monotonic()
        tally.seconds = tally.at - began
    finally:
        tally.counting = None


def _note(renewed: asyncio.Task[None]) -> None:
    """Take note of an error, which whoever waits for the count is told: the next page asks again."""
    if not renewed.cancelled():
        renewed.exception()
