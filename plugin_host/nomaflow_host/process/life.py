"""The life of a host's main process after assembly: load, attach, reload, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nomaflow_host.process.runner import SupervisedRunner
from nomaflow_host.process.service_state import ServiceState
from nomaflow_host.session.reconnecting import HostSession

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 5.0
_GOODBYE_SECONDS = 2.0
_LOOK_SECONDS = 1.0  # between two checks whether the kernel has everything, when nothing else is left to do
_LOOK_AT_ATTEMPT_SECONDS = 0.1
_END_SECONDS = 60.0  # a host drains at least this long before the time of its machine ends
_REPORTS_SECONDS = 30.0  # after the drain, for the kernel to take the reports
_LOOK_AT_CLOCK_SECONDS = 60.0  # the clock may be set meanwhile


@dataclass(kw_only=True)
class HostLife:
    """Runs until SIGTERM or SIGINT, or until the session gives up for good.

    The first signal lets steps finish for *drain_s* seconds, and waits as long for an unreachable kernel; the second
    cancels them and gives such a kernel five seconds; the third leaves at once. SIGHUP reloads the code, SIGUSR1 writes
    the state into the log. SIGUSR2, however often it comes, says that the process that started this host has died: the
    same as a first signal.

    :param state: receives changes of the host's state, for the service manager
    :param dump: writes the state into the log
    :param idle_exit_s: once its first load is over, the host stops by itself after it has run nothing for this long,
        and the kernel has everything; 0 for never
    :param one_attempt: whether the host stops by itself once it has run the one attempt that it is for, and the kernel
        has everything
    :param ends_at: when the time of this machine ends, in seconds since the epoch; the host drains before it. None for
        never
    :param watched: folders whose changes reload the code; empty for none
    :param disk_changed: returns True if the project has changed on disk since the newest load; may block
    """

    runner: SupervisedRunner
    session: HostSession
    state: ServiceState
    watched: Sequence[Path]
    drain_s: float
    idle_exit_s: float
    one_attempt: bool
    ends_at: float | None
    dump: Callable[[], None]
    disk_changed: Callable[[], bool]
    _signals: int = field(default=0, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _leave: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _reload: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Run until the end.

        :raises HostError: if the session gives up for good
        """
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self.dump)
        loop.add_signal_handler(signal.SIGUSR2, self._orphaned)
        try:
            await self._live()
        finally:
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                loop.remove_signal_handler(each)

    async def _load_first(self) -> None:
        loading = asyncio.create_task(self.runner.reload(force=False))
        await _either(loading, self._stop)
        if loading.done() and not loading.result().accepted:
            _log.error("the host has no code to run until a reload succeeds: %s", loading.result().message)
        self.session.beat_soon()
        # Objects that exist now stay for life; the collector need not visit them again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # as in the kernel: its values come and go by the thousand

    async def _live(self) -> None:
        # The session starts at once, so that the kernel knows that this host is loading; and so does the watch, so that
        # it misses no file saved meanwhile.
        tasks = [asyncio.create_task(self.session.run(), name="session"), asyncio.create_task(self._loads())]
        if self.watched:
            tasks.append(asyncio.create_task(self._watch(), name="watch"))
        if self.idle_exit_s:
            tasks.append(asyncio.create_task(self._idle(), name="idle"))
        if self.one_attempt:
            tasks.append(asyncio.create_task(self._one_attempt(), name="one attempt"))
        if self.ends_at is not None:
            tasks.append(asyncio.create_task(self._end_of_time(self.ends_at), name="end of time"))
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._finish(tasks[0])
        finally:
            for each in (*tasks, stop):
                each.cancel()
            await asyncio.gather(*tasks, stop, return_exceptions=True)

    async def _finish(self, session: asyncio.Task[None]) -> None:
        """Drain, deliver the remaining events, and say goodbye."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.drain_s
        await self._drain()
        seconds = max(_FLUSH_SECONDS, until - loop.time())
        without_kernel = _FLUSH_SECONDS if self._hurry.is_set() else seconds
        if not await self._delivered(seconds, without_kernel):
            _log.warning("the kernel has not accepted all reports; it will find out the outcomes by itself")
        attached = self.session.attached.is_set()
        await self.session.say_goodbye()
        if attached:
            await asyncio.wait([session], timeout=_GOODBYE_SECONDS)

    async def _delivered(self, seconds: float, without_kernel: float) -> bool:
        """Wait until the kernel has everything, *without_kernel* seconds if it is away; a further signal ends the wait.

        Undelivered events are lost with this host.
        """
        delivering = asyncio.create_task(self.session.flush(seconds, without_kernel=without_kernel))
        if not await _either(delivering, self._leave if self._hurry.is_set() else self._hurry):
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            return self.session.outbox.empty
        return delivering.result()

    async def _drain(self) -> None:
        _log.info("%s", self.state.stopping(drain_s=self.drain_s, running=self.runner.running))
        draining = asyncio.create_task(self.runner.drain(self.drain_s))
        self.session.beat_soon()
        if not await _either(draining, self._hurry):
            _log.warning("asked to stop a second time: cancelling the running steps")
            draining.cancel()
            draining = asyncio.create_task(self.runner.drain(0.001))
            if not await _either(draining, self._leave):
                _log.warning("asked to stop a third time: exiting at once")
                draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)

    async def _loads(self) -> None:
        await self._load_first()
        self._loaded.set()
        self.state.ready()
        while True:
            await self._reload.wait()
            self._reload.clear()
            _log.info("reloading")
            self.state.reloading()
            await self.runner.reload(force=False)
            self.session.beat_soon()  # reports the result of the load to the kernel at once
            self.state.ready()

    async def _watch(self) -> None:
        """Reload whenever a source is saved, or the project has otherwise changed since the newest load.

        Not every change is an event of a source: a folder becomes a link, permissions change, a file lies behind a
        link. So the files are checked after any event, and each second.
        """
        from nomaflow_host.process.watching import saves  # few hosts watch

        async for saved in saves(self.watched, until=self._stop):
            if saved or await asyncio.to_thread(self.disk_changed):
                self._reload.set()

    async def _idle(self) -> None:
        """End once there has been nothing to do for long enough, beginning with the end of the first load."""
        await self._loaded.wait()
        loaded_at = asyncio.get_running_loop().time()
        while True:
            idle = min(self.runner.idle_seconds(), asyncio.get_running_loop().time() - loaded_at)
            left = self.idle_exit_s - idle
            if left <= 0 and self.session.outbox.empty:
                break
            await asyncio.sleep(max(left, _LOOK_SECONDS))
        _log.info("idle for %g s", self.idle_exit_s)

    async def _one_attempt(self) -> None:
        """End once the attempt has ended and the kernel has all of it."""
        await self.session.given.wait()
        while self.runner.running or not self.session.outbox.empty:  # noqa: ASYNC110 - neither has an event for that
            await asyncio.sleep(_LOOK_AT_ATTEMPT_SECONDS)
        _log.info("the attempt that this host was started for has ended")

    async def _end_of_time(self, ends_at: float) -> None:
        """End while there is still time to drain and to deliver every report."""
        needed = max(_END_SECONDS, self.drain_s + _REPORTS_SECONDS)
        while (left := ends_at - needed - time.time_ns() / 1e9) > 0:  # noqa: ASYNC110 - it waits for time itself
            await asyncio.sleep(min(left, _LOOK_AT_CLOCK_SECONDS))
        _log.info("the time of this machine ends in %.0f s", left + needed)

    def _asked_to_stop(self) -> None:
        self._signals += 1
        for event in (self._stop, self._hurry, self._leave)[: self._signals]:
            event.set()

    def _orphaned(self) -> None:
        if not self._signals:
            self._asked_to_stop()


async def _either(task: asyncio.Task[object], event: asyncio.Event) -> bool:
    """Wait for a task or an event; return True if the task is done."""
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
    return task.done()
