"""Answers that cost the kernel the more, the more jobs and runs there are: kept for a while.

An answer is shown for twenty times as long as it took, and longer while a newer one is under way. So asking takes a
twentieth of the time at most, however often pages are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_LONG_SECONDS = 0.1
_GOOD_TIMES = 20
_USABLE_TIMES = 3
"""For how many times as long as it is good an answer is shown while a newer one is under way."""
_MOST = 200


@dataclass(kw_only=True, slots=True)
class _Kept(Generic[T]):
    """One answer; `asking` is the next one, while it is under way."""

    answer: T
    at: float = float("-inf")
    good_seconds: float = 0.0
    asking: asyncio.Task[None] | None = None


class KeptAnswers(Generic[T]):
    """The answers that a principal may see.

    :param unknown: stands for an answer that has never come
    :param least_seconds: how long each is good at least; without, one that took no 0.1 s is asked for with each page
    :param patience_seconds: how long a page waits for a newer one; None to wait until it is there
    """

    def __init__(
        self,
        unknown: T,
        *,
        least_seconds: float = 0.0,
        patience_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unknown = unknown
        self._least_seconds = least_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    async def of(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the newest answer that there is once the page should not wait longer: the next one has a newer one.

        :param key: what is asked; a span of time as such, since each page counts from another instant on
        :param ask: asks the kernel; its error is raised for whoever waits, and the next page asks again
        """
        kept = self._kept.setdefault(key, _Kept(answer=self._unknown))
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        age = self._clock() - kept.at
        if age >= kept.good_seconds and kept.asking is None:
            kept.asking = asyncio.create_task(self._renew(kept, ask))
            kept.asking.add_done_callback(take_note)
        if age >= _USABLE_TIMES * kept.good_seconds and kept.asking is not None:
            done, _ = await asyncio.wait((kept.asking,), timeout=self._patience_seconds)
            for asked in done:
                asked.result()  # raises its error
        return kept.answer

    async def _renew(self, kept: _Kept[T], ask: Callable[[], Awaitable[T]]) -> None:
        began = self._clock()
        try:
            kept.answer = await ask()
            kept.at = self._clock()
            took = kept.at - began
            kept.good_seconds = max(self._least_seconds, _GOOD_TIMES * took if took > _LONG_SECONDS else 0.0)
        finally:
            kept.asking = None


def take_note(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error, so that asyncio does not report it: whoever waits is told."""
    if not task.cancelled():
        task.exception()
