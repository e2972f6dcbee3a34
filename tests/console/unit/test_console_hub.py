"""One watch for all viewers: what a viewer has missed, and what it costs the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from nomaflow.client import InvalidRequest, Unauthenticated
from nomaflow.client.values import EventView, KernelView
from nomaflow_console.kernel import hub as hub_module
from nomaflow_console.kernel.hub import EventHub, Subscription
from nomaflow_console.kernel.status import KernelStatus
from waiting import eventually


def event(seq: int, kind: str = "run.state", run_id: str = "run_a") -> EventView:
    """Return an event."""
    return EventView(seq=seq, at=None, kind=kind, run_id=run_id)


class Kernel:
    """Stands for the client that watches: its events are given to it."""

    def __init__(self, *, newest: int = 100) -> None:
        self.newest = newest
        self.watches = 0
        self.after: list[int] = []
        self._queue: asyncio.Queue[EventView | Exception] = asyncio.Queue()

    async def get_kernel(self) -> KernelView:
        """Return its newest event."""
        return KernelView(version="1", epoch=1, pid=1, store="sqlite", last_event_seq=self.newest)

    async def watch_events(self, *, after_seq: int, from_start: bool) -> AsyncIterator[EventView]:
        """Yield what was given."""
        assert from_start == (after_seq == 0)
        self.watches += 1
        self.after.append(after_seq)
        while True:
            item = await self._queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    async def give(self, *items: EventView | Exception) -> None:
        """Have it yield items, and wait until they were taken."""
        for item in items:
            self._queue.put_nowait(item)
        while not self._queue.empty():
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)


async def status() -> KernelStatus:
    """Return a status."""
    return KernelStatus(version="1")


@pytest.fixture
async def kernel() -> Kernel:
    """A kernel with 100 events."""
    return Kernel()


@pytest.fixture
async def hub(kernel: Kernel) -> AsyncIterator[EventHub]:
    """The hub of that kernel."""
    client: Any = kernel
    made = EventHub(client, status)
    yield made
    await made.close()


async def settled(viewer: Subscription) -> Subscription:
    """Return a viewer once the hub has begun, with the first status taken."""
    for _ in range(20):
        await asyncio.sleep(0)
    viewer.take()
    return viewer


def concerns_a(each: EventView) -> bool:
    """Return whether an event is of run_a."""
    return each.run_id == "run_a"


async def test_fifty_viewers_cost_the_kernel_one_watch(kernel: Kernel, hub: EventHub) -> None:
    """Each viewer hears of an event that one watch brought."""
    with ExitStack() as stack:
        viewers = [stack.enter_context(hub.subscribe(100, concerns_a, lambda: None)) for _ in range(50)]
        await settled(viewers[0])
        await kernel.give(event(101))
        assert [viewer.take()[:2] for viewer in viewers] == [(101, True)] * 50
    assert kernel.watches == 1


async def test_a_viewer_that_comes_back_hears_of_what_came_meanwhile_and_of_nothing_twice(
    kernel: Kernel, hub: EventHub
) -> None:
    """A page that has shown event 102 gets event 103, one that has shown 103 nothing; one ahead is shown anew."""
    with hub.subscribe(100, concerns_a, lambda: None) as first:
        await settled(first)
        await kernel.give(event(101), event(102), event(103), event(104, run_id="run_b"))
        with hub.subscribe(102, concerns_a, lambda: None) as behind:
            assert behind.take()[:2] == (104, True)
        with hub.subscribe(103, concerns_a, lambda: None) as current:
            assert current.take()[:2] == (104, False)
        with hub.subscribe(110, concerns_a, lambda: None) as ahead:
            assert ahead.take()[:2] == (104, True)


async def test_a_viewer_from_before_the_watch_is_shown_everything_anew(kernel: Kernel, hub: EventHub) -> None:
    """The hub does not know what happened before its watch began: the page counts as changed, and gets a cursor."""
    with hub.subscribe(42, concerns_a, lambda: None) as viewer:
        for _ in range(20):
            await asyncio.sleep(0)
        assert viewer.take()[:2] == (100, True)
    assert kernel.after == [100]


async def test_a_viewer_of_a_history_that_is_gone_is_shown_the_one_of_now(kernel: Kernel, hub: EventHub) -> None:
    """A page slept while the store was made anew: the events of now have lower numbers than its cursor."""
    kernel.newest = 7
    with hub.subscribe(10_000, concerns_a, lambda: None) as viewer:
        for _ in range(20):
            await asyncio.sleep(0)
        assert viewer.take()[:2] == (7, True)
        await kernel.give(event(8))
        assert viewer.take()[:2] == (8, True)


async def test_a_viewer_from_before_what_is_remembered_is_shown_everything_anew(
    kernel: Kernel, hub: EventHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub remembers a bounded number of events, and knows what it no longer has."""
    monkeypatch.setattr(hub, "_recent", type(hub._recent)(maxlen=3))
    with hub.subscribe(100, concerns_a, lambda: None) as first:
        await settled(first)
        await kernel.give(*(event(seq, run_id="run_b") for seq in range(101, 106)))
        with hub.subscribe(101, concerns_a, lambda: None) as lost:
            assert lost.take()[:2] == (105, True)
        with hub.subscribe(102, concerns_a, lambda: None) as known:
            assert known.take()[:2] == (105, False)


async def test_another_history_makes_everything_new(
    kernel: Kernel, hub: EventHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored history counts from elsewhere: every viewer goes on there, with all parts new."""
    monkeypatch.setattr(hub_module, "_AGAIN_SECONDS", 0.0)
    with hub.subscribe(100, concerns_a, lambda: None) as viewer:
        await settled(viewer)
        kernel.newest = 7
        await kernel.give(InvalidRequest("ahead", reason="CURSOR_AHEAD"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert viewer.take()[:2] == (7, True)
        await kernel.give(event(8, run_id="run_b"))
        assert viewer.take()[:2] == (8, False)
    assert kernel.after == [100, 7]


async def test_a_new_status_is_told_to_each_viewer_once(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for soon after a run, a host or a pause has changed, and told if it looks other than before."""
    monkeypatch.setattr(hub_module, "_SOON_SECONDS", 0.0)
    client: Any = kernel
    running, asked = [0], []

    async def status() -> KernelStatus:
        asked.append(running[0])
        return KernelStatus(version="1", running=running[0])

    made = EventHub(client, status)
    with made.subscribe(100, concerns_a, lambda: None) as viewer:
        await settled(viewer)
        await kernel.give(event(101))
        await eventually(lambda: asked == [0, 0])
        running[0] = 3
        await kernel.give(event(102, "job.changed"))
        assert (viewer.take()[2], asked) == (None, [0, 0])
        await kernel.give(event(103, "host.attached"))
        await eventually(lambda: asked == [0, 0, 3])
        found = viewer.take()[2]
        assert found is not None
        assert found.running == 3
    await made.close()


async def test_the_watch_ends_when_nobody_looks(kernel: Kernel, hub: EventHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that nobody looks at costs the kernel nothing; a viewer who comes back soon finds the watch."""
    monkeypatch.setattr(hub_module, "_LINGER_SECONDS", 0.05)
    with hub.subscribe(100, concerns_a, lambda: None) as viewer:
        await settled(viewer)
    with hub.subscribe(100, concerns_a, lambda: None) as viewer:
        await asyncio.sleep(0.1)
        await kernel.give(event(101))
        assert viewer.take()[1]
    work = hub._work
    assert work is not None
    await asyncio.wait({work}, timeout=5)
    assert work.cancelled()
    with hub.subscribe(101, concerns_a, lambda: None) as viewer:
        await settled(viewer)
    assert kernel.watches == 2


async def test_the_end_of_a_watch_is_told_but_not_while_the_kernel_is_away(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that were shown are remembered while somebody would notice that their token is withdrawn."""
    monkeypatch.setattr(hub_module, "_LINGER_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "_SOON_SECONDS", 0.01)
    ended, away = asyncio.Event(), datetime.now(UTC)

    async def status() -> KernelStatus:
        return KernelStatus(version="1", away_since=away)

    client: Any = kernel
    made = EventHub(client, status, unwatched=ended.set)
    made.watch_a_while()
    await asyncio.sleep(0.3)
    assert not ended.is_set()
    away = None
    async with asyncio.timeout(60):
        await ended.wait()
    await made.close()


async def test_a_token_that_the_kernel_refuses_is_told_while_somebody_looks(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch reports a refused token; no other refusal is blamed on the token."""
    monkeypatch.setattr(hub_module, "_AGAIN_SECONDS", 0.01)
    told: list[int] = []
    client: Any = kernel
    made = EventHub(client, status, unwatched=lambda: told.append(kernel.watches))
    with made.subscribe(100, concerns_a, lambda: None) as viewer:
        await settled(viewer)
        await kernel.give(InvalidRequest("another history", reason="CURSOR_AHEAD"))
        assert told == []
        await eventually(lambda: kernel.watches == 2)
        await kernel.give(Unauthenticated("no such token", reason="NOT_AUTHENTICATED"))
        assert told == [2]
    await made.close()
