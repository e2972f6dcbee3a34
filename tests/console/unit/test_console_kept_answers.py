"""Answers that take the kernel long are not asked for with each page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nomaflow.client import KernelUnreachable
from nomaflow_console.kernel.kept_answers import KeptAnswers


class Kernel:
    """Answers with how often it was asked; each answer takes some seconds of the clock.

    :ivar free: while it is not set, answers are not given
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.now = 1000.0
        self.asked = 0
        self.error: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def count(self) -> int | None:
        """Return how often it was asked, or raise its error."""
        self.asked += 1
        number = self.asked
        await self.free.wait()
        await asyncio.sleep(0)
        self.now += self.seconds
        if self.error is not None:
            raise self.error
        return number

    def kept(self, **options: Any) -> KeptAnswers[int | None]:
        """Return its answers."""
        return KeptAnswers(None, clock=lambda: self.now, **options)


async def test_an_answer_that_takes_no_time_is_that_of_now() -> None:
    """It is asked for with each page."""
    kernel = Kernel(0.01)
    kept = kernel.kept()
    assert [await kept.of("24h", kernel.count) for _ in range(3)] == [1, 2, 3]


async def test_an_answer_that_takes_long_is_shown_for_a_while() -> None:
    """Pages that come together, and soon after, have the same one; another question has another."""
    kernel = Kernel(0.2)
    kept = kernel.kept()
    assert await asyncio.gather(*(kept.of("31d", kernel.count) for _ in range(5))) == [1] * 5
    kernel.now += 3.9
    assert await kept.of("31d", kernel.count) == 1
    assert await kept.of("7d", kernel.count) == 2
    assert kernel.asked == 2


async def test_an_answer_may_be_good_for_longer_than_it_took() -> None:
    """The counts of all jobs are asked for once in some seconds."""
    kernel = Kernel()
    kept = kernel.kept(least_seconds=5.0)
    found = []
    for seconds in (2.6, 15.0, 2.6, 0.0):
        found.append(await kept.of("", kernel.count))
        kernel.now += seconds
    assert found == [1, 1, 2, 2]


async def test_an_older_answer_is_shown_while_a_newer_one_is_under_way() -> None:
    """A page that comes when the answer is no longer good does not wait; the page after it has the newer one."""
    kernel = Kernel()
    kept = kernel.kept(least_seconds=5.0)
    await kept.of("", kernel.count)
    kernel.free.clear()
    kernel.now += 6.0
    assert [await kept.of("", kernel.count) for _ in range(3)] == [1, 1, 1]
    kernel.free.set()
    async with asyncio.timeout(60):
        while await kept.of("", kernel.count) == 1:
            await asyncio.sleep(0)
    assert kernel.asked == 2


async def test_an_answer_that_is_too_old_is_waited_for() -> None:
    """Nobody who comes back after a while is shown what was true long ago."""
    kernel = Kernel()
    kept = kernel.kept(least_seconds=5.0)
    await kept.of("", kernel.count)
    kernel.now += 16.0
    assert await kept.of("", kernel.count) == 2


async def test_nobody_waits_long_for_numbers_in_a_menu() -> None:
    """A page is shown without them, and the one after it has them; a page that is left does not end the asking."""
    kernel = Kernel()
    kept = kernel.kept(patience_seconds=0.05)
    kernel.free.clear()
    assert await kept.of("31d", kernel.count) is None
    left = asyncio.create_task(kept.of("31d", kernel.count))
    await asyncio.sleep(0)
    left.cancel()
    kernel.free.set()
    async with asyncio.timeout(60):
        while (found := await kept.of("31d", kernel.count)) is None:
            await asyncio.sleep(0)
    assert found == 1


async def test_a_kernel_that_is_away_is_told_and_asked_again() -> None:
    """An error is for whoever waits; the next page asks anew."""
    kernel = Kernel()
    kept = kernel.kept()
    kernel.error = KernelUnreachable("away")
    with pytest.raises(KernelUnreachable):
        await kept.of("24h", kernel.count)
    kernel.error = None
    assert await kept.of("24h", kernel.count) == 2


async def test_an_older_answer_stays_when_the_newer_one_fails() -> None:
    """As long as it is usable; nobody waits for the newer one, so nobody is told."""
    kernel = Kernel()
    kept = kernel.kept(least_seconds=5.0)
    await kept.of("", kernel.count)
    kernel.error = KernelUnreachable("away")
    kernel.now += 6.0
    for _ in range(10):
        assert await kept.of("", kernel.count) == 1
        await asyncio.sleep(0)
    assert kernel.asked > 2
