"""Counts of runs that take long are not made for each page."""

from __future__ import annotations

import asyncio

import pytest

from nomaflow.client import KernelUnreachable
from nomaflow.client.values import RunCountView
from nomaflow_console.kernel.tallies import Tallies


class Kernel:
    """Counts how often it is asked, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.error: Exception | None = None

    async def count(self) -> list[RunCountView]:
        """Return as many runs as it was asked, or raise its error."""
        self.asked += 1
        number = self.asked
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return [RunCountView(group="", state="SUCCEEDED", runs=number, fires=number, rows_affected=0)]


async def number(tallies: Tallies, key: str, kernel: Kernel) -> int:
    """Return how often the kernel had been asked when it made the counts."""
    counts = await tallies.of(key, kernel.count)
    assert counts is not None
    return counts[0].runs


async def test_counts_of_few_runs_are_those_of_now() -> None:
    """A count that takes no time is made for each page."""
    kernel, tallies = Kernel(), Tallies()
    found = [await number(tallies, "24h", kernel) for _ in range(3)]
    assert found == [1, 2, 3]


async def test_a_count_that_takes_long_is_shown_for_a_while() -> None:
    """Pages that come together, and soon after, are answered by one count; another span is another count."""
    kernel, tallies = Kernel(0.2), Tallies()
    assert await asyncio.gather(*(number(tallies, "31d", kernel) for _ in range(5))) == [1] * 5
    assert await number(tallies, "31d", kernel) == 1
    assert await number(tallies, "7d", kernel) == 2
    assert kernel.asked == 2


async def test_an_older_count_is_shown_while_a_newer_one_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page shows the older count without waiting; the page after it has the newer one."""
    monkeypatch.setattr("nomaflow_console.kernel.tallies._GOOD", 0)
    kernel, tallies = Kernel(0.2), Tallies()
    await tallies.of("31d", kernel.count)
    assert await number(tallies, "31d", kernel) == 1
    async with asyncio.timeout(60):
        while await number(tallies, "31d", kernel) == 1:
            await asyncio.sleep(0.01)


async def test_nobody_waits_long_for_numbers_in_a_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is shown without them; the one after it has them."""
    monkeypatch.setattr("nomaflow_console.kernel.tallies._PATIENCE_SECONDS", 0.05)
    kernel, tallies = Kernel(0.3), Tallies()
    assert await tallies.of("31d", kernel.count) is None
    async with asyncio.timeout(60):
        while await tallies.of("31d", kernel.count) is None:
            await asyncio.sleep(0.01)
    assert kernel.asked == 1


async def test_a_kernel_that_is_away_is_told_and_asked_again() -> None:
    """An error is for whoever waits; the next page counts anew."""
    kernel, tallies = Kernel(), Tallies()
    kernel.error = KernelUnreachable("away")
    with pytest.raises(KernelUnreachable):
        await tallies.of("24h", kernel.count)
    kernel.error = None
    assert await number(tallies, "24h", kernel) == 2
