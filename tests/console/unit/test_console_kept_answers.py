"""Answers that take the kernel long are not asked for with each page."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import pytest

from nomaflow.client import KernelUnreachable
from nomaflow_console.kernel.kept_answers import KeptAnswers

Numbers: TypeAlias = KeptAnswers[int | None]


class Kernel:
    """Answers with how often it was asked, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.error: Exception | None = None

    async def count(self) -> int | None:
        """Return how often it was asked, or raise its error."""
        self.asked += 1
        number = self.asked
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return number


async def test_an_answer_that_takes_no_time_is_that_of_now() -> None:
    """It is asked for with each page."""
    kernel, kept = Kernel(), Numbers(None)
    found = [await kept.of("24h", kernel.count) for _ in range(3)]
    assert found == [1, 2, 3]


async def test_an_answer_that_takes_long_is_shown_for_a_while() -> None:
    """Pages that come together, and soon after, have the same one; another question has another."""
    kernel, kept = Kernel(0.2), Numbers(None)
    assert await asyncio.gather(*(kept.of("31d", kernel.count) for _ in range(5))) == [1] * 5
    assert await kept.of("31d", kernel.count) == 1
    assert await kept.of("7d", kernel.count) == 2
    assert kernel.asked == 2


async def test_an_answer_may_be_good_for_longer_than_it_took() -> None:
    """What all jobs have in common is asked for once in some seconds."""
    kernel, kept = Kernel(), Numbers(None, least_seconds=60)
    assert [await kept.of("", kernel.count) for _ in range(3)] == [1, 1, 1]


async def test_an_older_answer_is_shown_while_a_newer_one_is_under_way() -> None:
    """A page that comes when the answer is no longer good does not wait; the page after it has the newer one."""
    now = 0.0
    kernel, kept = Kernel(), Numbers(None, least_seconds=5.0, clock=lambda: now)
    await kept.of("", kernel.count)
    now = 6.0
    assert await kept.of("", kernel.count) == 1
    async with asyncio.timeout(60):
        while await kept.of("", kernel.count) == 1:
            await asyncio.sleep(0.01)
    assert kernel.asked == 2


async def test_an_answer_that_is_too_old_is_waited_for() -> None:
    """Nobody who comes back after a while is shown what was true long ago."""
    now = 0.0
    kernel, kept = Kernel(), Numbers(None, least_seconds=5.0, clock=lambda: now)
    await kept.of("", kernel.count)
    now = 16.0
    assert await kept.of("", kernel.count) == 2


async def test_nobody_waits_long_for_numbers_in_a_menu() -> None:
    """A page is shown without them; the one after it has them."""
    kernel, kept = Kernel(0.3), Numbers(None, patience_seconds=0.05)
    assert await kept.of("31d", kernel.count) is None
    async with asyncio.timeout(60):
        while await kept.of("31d", kernel.count) is None:
            await asyncio.sleep(0.01)
    assert kernel.asked == 1


async def test_a_kernel_that_is_away_is_told_and_asked_again() -> None:
    """An error is for whoever waits; the next page asks anew."""
    kernel, kept = Kernel(), Numbers(None)
    kernel.error = KernelUnreachable("away")
    with pytest.raises(KernelUnreachable):
        await kept.of("24h", kernel.count)
    kernel.error = None
    assert await kept.of("24h", kernel.count) == 2
