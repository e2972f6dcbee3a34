"""One watch of the kernel's events for all who look: 50 tabs cost the kernel what one costs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from nomaflow.client import ClientError, KernelClient, Unauthenticated
from nomaflow.client.values import EventView
from nomaflow_api.event_loop import happens_within
from nomaflow_console.kernel.status import KernelStatus

_log = logging.getLogger(__name__)

_REMEMBERED = 5_000
_LINGER_SECONDS = 30.0
"""How long the watch goes on when nobody looks: a page that is reloaded finds it."""
_LOOK_SECONDS = 5.0
_SOON_SECONDS = 1.0
_AGAIN_SECONDS = 2.0


class Subscription:
    """The changes that one viewer has not seen yet.

    :param after: the newest event that the page shows
    :param concerns: returns True for an event that may change the page
    :param wake: called when there is something
    """

    def __init__(self, after: int, concerns: Callable[[EventView], bool], wake: Callable[[], None]) -> None:
        self.seq = after
        self.changed = False
        self.status: KernelStatus | None = None
        self._concerns = concerns
        self._wake = wake

    def take(self) -> tuple[int, bool, KernelStatus | None]:
        """Return the newest event, whether the page changed, and the status if it did; all count as seen then."""
        taken = self.seq, self.changed, self.status
        self.changed, self.status = False, None
        return taken

    @property
    def pending(self) -> bool:
        """True if there is something to show."""
        return self.changed or self.status is not None

    def event(self, event: EventView) -> None:
        """Take note of an event."""
        if event.seq <= self.seq:
            return
        self.seq = event.seq
        if self._concerns(event):
            self.all_new()

    def all_new(self) -> None:
        """Take note that anything may have changed."""
        self.changed = True
        self._wake()

    def restart(self, seq: int) -> None:
        """Take note that the history is another one, whose events count from elsewhere."""
        self.seq = seq
        self.all_new()

    def line(self, status: KernelStatus) -> None:
        """Take note of another status."""
        self.status = status
        self._wake()


class EventHub:
    """Watches events while somebody looks, and remembers the last ones for those whose stream broke.

    :param client: never gives up
    :param status: returns the line about the kernel
    :param unwatched: called when the watch ends because nobody looks, so that a token could be withdrawn and nobody
        would notice; and when the kernel refuses the token
    """

    def __init__(
        self,
        client: KernelClient,
        status: Callable[[], Awaitable[KernelStatus]],
        *,
        unwatched: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._status = status
        self._unwatched = unwatched
        self._away = False
        self._viewers: set[Subscription] = set()
        self._recent: deque[EventView] = deque(maxlen=_REMEMBERED)
        self._complete_after: int | None = None
        self._shown: tuple[object, ...] = ()
        self._look = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def subscribe(
        self, after: int, concerns: Callable[[EventView], bool], wake: Callable[[], None]
    ) -> Iterator[Subscription]:
        """Have a viewer take note of everything after an event, until the end of the block."""
        viewer = Subscription(after, concerns, wake)
        self._viewers.add(viewer)
        self.watch_a_while()
        if self._complete_after is not None:
            self._catch_up(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            self._linger()

    @property
    def watches(self) -> bool:
        """True while the kernel is watched."""
        return self._work is not None and not self._work.done()

    def watch_a_while(self) -> None:
        """Watch as long as somebody looks, and for some time from now on."""
        if not self.watches:
            self._work = asyncio.create_task(self._run())
        self._linger()

    def _linger(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._end_if_idle)

    def look_now(self) -> None:
        """Ask for the status at once."""
        self._look.set()

    async def close(self) -> None:
        """Stop watching."""
        if self._ending is not None:
            self._ending.cancel()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None

    def _end_if_idle(self) -> None:
        self._ending = None
        if self._viewers or self._work is None:
            return
        if self._away:
            self._linger()  # what was known when it went away stays known until it is back
            return
        self._work.cancel()
        self._work, self._complete_after = None, None
        self._recent.clear()
        self._unwatched()

    def _catch_up(self, viewer: Subscription) -> None:
        """Tell a viewer what it has missed."""
        assert self._complete_after is not None
        newest = self._recent[-1].seq if self._recent else self._complete_after
        if not self._complete_after <= viewer.seq <= newest:
            viewer.restart(newest)  # one that is ahead may be of a history that is gone
            return
        for event in self._recent:
            viewer.event(event)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._pulse())

    async def _watch(self) -> None:
        while True:
            try:
                seen = (await self._client.get_kernel()).last_event_seq
                self._begin(seen)
                async for event in self._client.watch_events(after_seq=seen, from_start=not seen):
                    self._take(event)
            except Unauthenticated as error:
                _log.warning("the kernel no longer takes a token: %s", error)
                self._unwatched()
            except ClientError as error:
                # Another history has begun, or this caller may not watch: what was seen so far says nothing any more.
                _log.warning("cannot watch events, trying again: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _begin(self, seq: int) -> None:
        first = self._complete_after is None
        self._recent.clear()
        self._complete_after = seq
        for viewer in self._viewers:
            if first:
                self._catch_up(viewer)
            else:
                viewer.restart(seq)

    def _take(self, event: EventView) -> None:
        if len(self._recent) == self._recent.maxlen:
            self._complete_after = self._recent[0].seq
        self._recent.append(event)
        for viewer in self._viewers:
            viewer.event(event)
        if not self._look.is_set() and event.kind.partition(".")[0] in ("run", "host", "pause"):
            self._look.set()

    async def _pulse(self) -> None:
        """Tell the viewers of a new status: soon after something happened, else now and then."""
        while True:
            self._look.clear()
            status = await self._status()
            self._away = status.away_since is not None
            if status.shown != self._shown:
                self._shown = status.shown
                for viewer in self._viewers:
                    viewer.line(status)
            if self._away:
                await asyncio.sleep(_SOON_SECONDS)
                continue
            if await happens_within(self._look, _LOOK_SECONDS):
                await asyncio.sleep(_SOON_SECONDS)
