"""Pages load again what they show once something has happened, and else only after some seconds."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Hashable

import pytest

from nomaflow.client import KernelUnreachable
from nomaflow_console.kernel.until_changed import UntilChanged


class Pages:
    """Pages of one console.

    :ivar loads: how often the kernel was asked
    :ivar error: raised instead of an answer
    """

    def __init__(self) -> None:
        self.loads = 0
        self.error: Exception | None = None
        self._kept = UntilChanged()

    async def show(self, version: Hashable = 1, *, key: Hashable = "jobs") -> int:
        """Return the number of the load that a page shows."""
        return await self._kept.of(key, version, self._load)

    async def _load(self) -> int:
        self.loads += 1
        number = self.loads
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return number


async def test_pages_share_a_load_until_something_happens() -> None:
    """Those that come together, too; another page has its own."""
    pages = Pages()
    assert await asyncio.gather(*(pages.show() for _ in range(5))) == [1] * 5
    assert await pages.show() == 1
    assert await pages.show(key="schedule") == 2
    assert await pages.show(2) == 3
    assert await pages.show(2) == 3


async def test_an_older_version_is_another_one() -> None:
    """A kernel on another history, or which was set back, counts from elsewhere."""
    pages = Pages()
    assert [await pages.show(version) for version in (7, 6, 7)] == [1, 2, 3]


async def test_nothing_is_kept_for_longer_than_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everything that changes is an event, and what nobody asks for again takes no room. A newer one stays."""
    pages, timers = Pages(), []
    loop = asyncio.get_running_loop()
    real = loop.call_later

    def call_later(seconds: float, forget: Callable[[Hashable], None], key: Hashable) -> asyncio.TimerHandle:
        timers.append((seconds, forget, key, timer := real(seconds, forget, key)))
        return timer

    monkeypatch.setattr(loop, "call_later", call_later)
    assert await pages.show() == 1
    assert await pages.show(2) == 2
    [(seconds, _, _, first), (_, forget, key, second)] = timers
    assert (seconds, first.cancelled(), second.cancelled()) == (5.0, True, False)
    forget(key)
    assert await pages.show(2) == 3


async def test_what_a_newer_one_replaces_is_let_go_of_at_once() -> None:
    """A run may be loaded four times a second, each time with all of its results."""

    class Result:
        pass

    async def load() -> Result:
        return Result()

    kept = UntilChanged()
    old = weakref.ref(await kept.of("run", 1, load))
    await kept.of("run", 2, load)
    gc.collect()
    assert old() is None


async def test_an_error_is_told_to_all_that_wait_and_is_not_kept() -> None:
    """The next page asks again."""
    pages = Pages()
    pages.error = KernelUnreachable("away")
    told = await asyncio.gather(pages.show(), pages.show(), return_exceptions=True)
    assert list(told) == [pages.error, pages.error]
    assert pages.loads == 1
    pages.error = None
    assert await pages.show() == 2


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    """A page whose reader has left is loaded all the same for those that wait for the same."""
    pages = Pages()
    first = asyncio.create_task(pages.show())
    second = asyncio.create_task(pages.show())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 1
