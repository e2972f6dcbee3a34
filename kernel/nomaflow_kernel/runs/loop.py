"""The engine's loop: takes what waits, decides, commits once, and only then acts.

It is the only place where the state changes. See docs/decisions/2026-11-24-processes-and-contracts.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from nomaflow_kernel.domain.errors import KernelError, KernelStopping
from nomaflow_kernel.domain.hosting import DispatchOrder
from nomaflow_kernel.feed import EventFeed
from nomaflow_kernel.ports import ApplyResult, Store
from nomaflow_kernel.runs import attaching, rebuilding, starting, stopping
from nomaflow_kernel.runs.inbox import Inbox, Turn
from nomaflow_kernel.runs.state import Batch, EngineState
from nomaflow_kernel.runs.timers import Timer, TimerKind
from nomaflow_kernel.store.errors import StaleEpoch, StoreBusy, StoreError

__all__ = ["EngineLoop"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_REBUILD_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0)
_PUBLISHED_TOGETHER = 500


class EngineLoop:
    """Turns inputs into commits, and commits into effects.

    :param on_ended: called once where the loop ends by itself, with why: StaleEpoch, where a newer kernel has taken the
        store over, or a defect
    :param on_trouble: called with each error of the store that a commit failed with
    """

    def __init__(
        self,
        *,
        state: EngineState,
        store: Store,
        feed: EventFeed,
        on_ended: Callable[[Exception], None],
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        self._state = state
        self._clock = state.clock
        self._store = store
        self._feed = feed
        self._on_ended = on_ended
        self._on_trouble = on_trouble
        self._inbox = Inbox()
        self._task: asyncio.Task[None] | None = None
        self._side_tasks: set[asyncio.Task[None]] = set()

    @property
    def turns(self) -> int:
        """How many inputs wait for their turn."""
        return len(self._inbox)

    async def start(self) -> None:
        """Rebuild the state from the store and start."""
        await self._rebuild()
        self._task = asyncio.create_task(self._run(), name="engine")

    async def stop(self) -> None:
        """Stop after the turn in hand. Stopping twice is legal."""
        self._inbox.close()
        task, self._task = self._task, None
        if task is not None:
            await task
        for side in list(self._side_tasks):
            side.cancel()
        await asyncio.gather(*self._side_tasks, return_exceptions=True)

    async def ask(self, decide: Callable[[Batch], _T], settle: Callable[[ApplyResult, _T], None] | None = None) -> _T:
        """Have ``decide`` called in the next turn, and return its answer once what it decided is durable.

        :param settle: corrects the answer by what the store said
        :raises KernelStopping: where the loop is stopping
        :raises StoreError: where the commit failed; nothing was applied
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        if not self._inbox.put(Turn(decide=decide, settle=settle, future=future)):
            raise KernelStopping
        return await future

    def tell(self, decide: Callable[[Batch], object]) -> None:
        """Have ``decide`` called in the next turn, without an answer."""
        self._inbox.put(Turn(decide=decide, settle=None, future=None))

    def touch(self, host: str) -> None:
        """Have the waiting runs of a host looked at again."""
        self._state.dirty_hosts.add(host)
        self._inbox.wake()

    def wake(self) -> None:
        """Have the timers looked at again."""
        self._inbox.wake()

    async def clear_pause(self, scope: str, name: str) -> bool:
        """End a pause and look at what it held up; return whether there was one."""
        existed = await self._store.clear_pause(scope, name)
        self._state.pauses.pop((scope, name), None)
        for host in self._state.waiting.hosts():
            self.touch(host)
        return existed

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the loop; it is cancelled when the loop stops."""
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    async def _run(self) -> None:
        turns: Sequence[Turn] = ()
        try:
            while await self._inbox.wait(self._seconds_to_next_timer()):
                turns = self._inbox.take()
                await self._turn_or_rebuild(turns)
        except Exception as error:  # noqa: BLE001  # a kernel without its loop would let every call wait in vain
            self._inbox.close()
            if isinstance(error, StaleEpoch):
                _LOG.error("another kernel has taken the store over: %s", error.message)
            else:
                _LOG.exception("the engine has failed, and the kernel must end")
            _fail(turns, error if isinstance(error, KernelError) else KernelStopping())
            self._on_ended(error)
        _fail(self._inbox.take(), KernelStopping())

    async def _turn_or_rebuild(self, turns: Sequence[Turn]) -> None:
        published = self._feed.last_seq
        try:
            await self._turn(turns)
        except StaleEpoch:
            raise
        except StoreError as error:
            _LOG.warning("a commit has failed: %s", error.message)
            self._on_trouble(error)
            _fail(turns, error)
            if isinstance(error, StoreBusy):
                # Who came meanwhile has waited for the same lock, and is not made to wait for it twice.
                _fail(self._inbox.take_asked(), error)
            await self._rebuild_until_it_works(published)

    def _seconds_to_next_timer(self) -> float | None:
        due = self._state.timers.next_due()
        return None if due is None else max(0.0, due - self._clock.monotonic())

    async def _turn(self, turns: Sequence[Turn]) -> None:
        batch = Batch(now_us=self._clock.now_us(), now=self._clock.monotonic())
        answers = [turn.decide_safely(batch) for turn in turns]
        self._fire_timers(batch)
        starting.start_due(self._state, batch)
        result = await self._store.apply(batch.transitions, at_us=batch.now_us) if batch.transitions else ApplyResult()
        unexpected = result.lost - result.dropped
        if unexpected:
            _LOG.error("%d transitions had lost their state; rebuilding from the store", len(unexpected))
        self._act(batch, result)
        for turn, answer in zip(turns, answers, strict=True):
            turn.answer(result, answer)
        self._send_orders(batch, result)
        if unexpected:
            await self._rebuild_until_it_works(self._feed.last_seq)
        self._load_wanted()

    def _fire_timers(self, batch: Batch) -> None:
        for timer in self._state.timers.take_due(batch.now):
            match timer.kind:
                case TimerKind.ATTEMPT_DUE:
                    starting.attempt_due(self._state, timer.run_id)
                case TimerKind.QUEUE_TIMEOUT:
                    stopping.queue_timed_out(self._state, batch, timer.run_id)
                case TimerKind.JOB_TIMEOUT:
                    stopping.job_timed_out(self._state, batch, timer.run_id)
                case TimerKind.CALL_TIMEOUT:
                    stopping.call_timed_out(self._state, batch, timer.run_id)
                case TimerKind.HOST_CLOCKS:
                    attaching.check_clocks(self._state, batch)
                    self._add_clock_timer()
                case TimerKind.PAUSE_END:
                    self._end_pauses(batch.now_us)

    def _add_pause_timer(self, left_us: int) -> None:
        self._state.timers.add(self._clock.monotonic() + left_us / 1_000_000, Timer(kind=TimerKind.PAUSE_END))

    def _add_clock_timer(self) -> None:
        interval = max(0.05, min(1.0, self._state.settings.lease_seconds / 4))
        self._state.timers.add(self._clock.monotonic() + interval, Timer(kind=TimerKind.HOST_CLOCKS))

    def _end_pauses(self, now_us: int) -> None:
        for (scope, name), pause in list(self._state.pauses.items()):
            if pause.until_us is None:
                continue
            if pause.until_us <= now_us:
                self.spawn(self._clear_ended(scope, name))
            else:
                # The two clocks part a little: the wall clock, in which the end was given, decides.
                self._add_pause_timer(pause.until_us - now_us)

    async def _clear_ended(self, scope: str, name: str) -> None:
        try:
            await self.clear_pause(scope, name)
        except StoreError as error:
            _LOG.warning("could not end the pause of %s %s yet: %s", scope, name, error.message)
            self._state.timers.add(self._clock.monotonic() + 1.0, Timer(kind=TimerKind.PAUSE_END))
            self._inbox.wake()

    def _act(self, batch: Batch, result: ApplyResult) -> None:
        for run_id in result.duplicates:
            rebuilding.discard(self._state, run_id)
        if result.events:
            self._feed.publish(result.events)
        for run_id in batch.logged_runs:
            self._feed.touch_log(run_id)

    def _send_orders(self, batch: Batch, result: ApplyResult) -> None:
        for incarnation, orders in batch.orders.items():
            instance = self._state.fleet.get(incarnation)
            if instance is None or instance.link is None:
                continue
            if result.duplicates:
                orders = [
                    order
                    for order in orders
                    if not (isinstance(order, DispatchOrder) and order.run_id in result.duplicates)
                ]
            instance.link.send(orders)

    # Loading and rebuilding.

    def _load_wanted(self) -> None:
        wanted, self._state.wanted_specs = self._state.wanted_specs, set()
        if wanted:
            self.spawn(self._load_specs(sorted(wanted)))

    async def _load_specs(self, run_ids: Sequence[str]) -> None:
        try:
            hosts = await rebuilding.load_specs(self._state, self._store, run_ids)
        except StoreError as error:
            _LOG.warning("could not load %d waiting runs yet: %s", len(run_ids), error.message)
            await self._inbox.pause(1.0)
            waiting = (self._state.waiting.get(run_id) for run_id in run_ids)
            hosts = {entry.host for entry in waiting if entry is not None}
        for host in hosts:
            self.touch(host)

    async def _rebuild(self) -> None:
        await rebuilding.rebuild(self._state, self._store, self._clock)
        rebuilding.send_again(self._state, self._clock.now_us())
        self._add_clock_timer()

    async def _publish_kept(self, published: int) -> None:
        """Tell watchers of what a commit in doubt has kept after all: nobody else will."""
        page = await self._store.events_after(published, limit=_PUBLISHED_TOGETHER)
        while page:
            self._feed.publish(page)
            page = await self._store.events_after(page[-1].seq, limit=_PUBLISHED_TOGETHER)
        for run_id in self._state.active:
            self._feed.touch_log(run_id)

    async def _rebuild_until_it_works(self, published: int) -> None:
        """Take the store's word for everything, as soon as it can be had.

        :param published: the newest event that watchers surely know of
        """
        delays = iter(_REBUILD_DELAYS)
        delay = 0.0
        while not self._inbox.closed:
            try:
                await self._rebuild()
                await self._publish_kept(published)
            except StaleEpoch:
                raise
            except StoreError as error:
                delay = next(delays, delay)
                _LOG.warning("cannot read the store, trying again in %.1f s: %s", delay, error.message)
                await self._inbox.pause(delay)
            else:
                return


def _fail(turns: Sequence[Turn], error: Exception) -> None:
    for turn in turns:
        turn.fail(error)
