"""The scheduler: waits for the next fire, and hands due fires to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from nomaflow_kernel.domain.clock import Clock, from_us
from nomaflow_kernel.domain.reasons import Reason
from nomaflow_kernel.domain.records import Fold, TriggerKind
from nomaflow_kernel.domain.transitions import SetNextFire
from nomaflow_kernel.ports import PauseRecord, Store
from nomaflow_kernel.runs.api import FireCommand, KnownJob, TriggerCommand, UnrunCommand
from nomaflow_kernel.scheduler.misfires import sort_out
from nomaflow_kernel.scheduler.schedules import KnownSchedule, NextFires
from nomaflow_kernel.store.errors import StoreError

__all__ = ["FireSink", "ScheduleSource", "Scheduler"]

_LOG = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 5.0
"""A wall clock that is set forward is noticed this late."""

_JUMP_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_MOST_FIRES = 2_000
"""Of a schedule that was down for very long, only the newest fires are looked at one by one."""


class ScheduleSource(Protocol):
    """What the scheduler asks of the catalogue."""

    def jobs(self) -> Iterable[KnownJob]:
        """Return the job of every id."""


class FireSink(Protocol):
    """What the scheduler asks of the engine."""

    async def fire(self, command: FireCommand) -> None:
        """Trigger due fires, record unrun ones and keep the next fires, in one commit."""

    def pause_of(self, job_id: str, host: str) -> PauseRecord | None:
        """Return the pause that holds a job up, or None."""


class Scheduler:
    """Fires schedules. Each fire has a slot ``job/preset/instant``, unique in the store, so nothing fires twice."""

    def __init__(self, *, store: Store, clock: Clock, jobs: ScheduleSource, engine: FireSink) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._engine = engine
        self._schedules: dict[tuple[str, str], KnownSchedule] = {}
        self._next = NextFires()
        self._stored: dict[tuple[str, str], tuple[int | None, str]] = {}
        self._wake = asyncio.Event()
        self._settling: list[asyncio.Future[None]] = []
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._changed = True
        self._last_wall_us = 0
        self._last_monotonic = 0.0

    async def start(self) -> None:
        """Read the stored next fires and begin.

        :raises StoreError: where they cannot be read
        """
        rows = await self._store.schedules()
        self._stored = {(row.job_id, row.preset): (row.next_fire_us, row.fingerprint) for row in rows}
        self._note_time()
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def stop(self) -> None:
        """Stop firing. Stopping twice is legal."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    def jobs_changed(self) -> None:
        """Look at the catalogue again."""
        self._changed = True
        self._wake.set()

    async def settle(self) -> None:
        """Look at catalogue and clock now, and return when what is due has been handed over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append(future)
        self.jobs_changed()
        await future

    def next_fire_us(self, job_id: str, preset: str = "") -> int | None:
        """Return the next fire of a schedule, or None."""
        return self._next.get((job_id, preset))

    def __len__(self) -> int:
        return len(self._next)

    async def _run(self) -> None:
        failed = False
        cause = Reason("kernel_down", "the kernel did not run at that time")
        while not self._stopping:
            settling, self._settling = self._settling, []
            try:
                if self._changed:
                    await self._take_in_catalogue()
                await self._fire_due(cause)
                failed, cause = False, Reason("clock_jumped", "the clock was set forward over it")
            except StoreError as error:
                failed = True
                _LOG.warning("could not keep due fires, trying again: %s", error.message)
            for waiter in settling:
                if not waiter.done():
                    waiter.set_result(None)
            await self._sleep(_RETRY_SECONDS if failed else self._seconds_to_next())

    def _seconds_to_next(self) -> float:
        at = self._next.next_us()
        if at is None:
            return _LONGEST_SLEEP_SECONDS
        return min(_LONGEST_SLEEP_SECONDS, max(0.0, (at - self._clock.now_us()) / 1_000_000))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _note_time(self) -> None:
        self._last_wall_us, self._last_monotonic = self._clock.now_us(), self._clock.monotonic()

    async def _take_in_catalogue(self) -> None:
        """Take the schedules in; next fires are those stored, or computed from now where something changed."""
        self._changed = False
        now_us = self._clock.now_us()
        found = {schedule.key: schedule for schedule in _schedules_of(self._jobs.jobs())}
        changes = []
        for key, schedule in found.items():
            known = self._schedules.get(key)
            if known is not None and known.fingerprint == schedule.fingerprint:
                continue
            stored = self._stored.get(key)
            if stored is not None and stored[1] == schedule.fingerprint and stored[0] is not None:
                self._next.put(key, stored[0])
                continue
            self._next.put(key, schedule.next_after_us(now_us))
            changes.append(self._keep(schedule))
        for key in self._stored.keys() | self._next.keys():
            if key not in found:
                self._next.put(key, None)
                stored = self._stored.get(key)
                if stored is not None and stored[0] is not None:
                    changes.append(SetNextFire(job_id=key[0], preset=key[1], next_fire_us=None, fingerprint=stored[1]))
        self._schedules = found
        await self._commit(FireCommand(next_fires=tuple(changes)))

    def _keep(self, schedule: KnownSchedule) -> SetNextFire:
        return SetNextFire(
            job_id=schedule.job_id,
            preset=schedule.preset,
            next_fire_us=self._next.get(schedule.key),
            fingerprint=schedule.fingerprint,
        )

    async def _commit(self, command: FireCommand) -> None:
        if not (command.triggers or command.unrun or command.next_fires):
            return
        try:
            await self._engine.fire(command)
        except StoreError:
            # Nothing was applied: what was taken in or out of memory is read from the store again.
            self._schedules.clear()
            self._changed = True
            raise
        for kept in command.next_fires:
            self._stored[(kept.job_id, kept.preset)] = (kept.next_fire_us, kept.fingerprint)

    async def _fire_due(self, cause: Reason) -> None:
        now_us = self._clock.now_us()
        late_by_jump = self._jumped(now_us)
        self._note_time()
        due = self._next.take_due(now_us)
        if not due:
            return
        triggers: list[TriggerCommand] = []
        unrun: list[UnrunCommand] = []
        next_fires: list[SetNextFire] = []
        for key, first_us in due:
            schedule = self._schedules[key]
            self._decide(schedule, first_us, now_us, cause, triggers, unrun)
            self._next.put(key, schedule.next_after_us(now_us))
            next_fires.append(self._keep(schedule))
        if late_by_jump:
            _LOG.warning("the wall clock was set forward; %d schedules were due", len(due))
        await self._commit(FireCommand(triggers=tuple(triggers), unrun=tuple(unrun), next_fires=tuple(next_fires)))

    def _jumped(self, now_us: int) -> bool:
        wall = (now_us - self._last_wall_us) / 1_000_000
        return wall - (self._clock.monotonic() - self._last_monotonic) > _JUMP_SECONDS

    def _decide(
        self,
        schedule: KnownSchedule,
        first_us: int,
        now_us: int,
        cause: Reason,
        triggers: list[TriggerCommand],
        unrun: list[UnrunCommand],
    ) -> None:
        fires, older = _newest(schedule, first_us, now_us)
        pause = self._engine.pause_of(schedule.job_id, schedule.host)
        if pause is not None:
            what = "everything was" if pause.scope == "all" else f"{pause.scope} {pause.name!r} was"
            cause = Reason("paused", f"{what} paused")
            unrun.append(_unrun(schedule, fires, older, cause))
            return
        sorted_out = sort_out(
            fires,
            skipped_before=older,
            now_us=now_us,
            misfire=schedule.misfire,
            window_seconds=schedule.misfire_window_seconds,
            cause=cause,
        )
        triggers.extend(_trigger(schedule, at_us) for at_us in sorted_out.run_us)
        unrun.extend(
            UnrunCommand(job_id=schedule.job_id, preset=schedule.preset, fold=fold, reason=reason)
            for fold, reason in sorted_out.unrun
        )


def _schedules_of(jobs: Iterable[KnownJob]) -> Iterable[KnownSchedule]:
    for job in jobs:
        if job.valid and not job.removed and job.definition is not None:
            for schedule in job.definition.schedules():
                yield KnownSchedule.of(job.definition, job.host, schedule)


def _newest(schedule: KnownSchedule, first_us: int, now_us: int) -> tuple[Sequence[int], int]:
    """Return the newest due fires, and how many there were before them."""
    newest: deque[int] = deque(maxlen=_MOST_FIRES)
    count = 0
    for at_us in schedule.fires_us(first_us, now_us):
        newest.append(at_us)
        count += 1
    return list(newest), count - len(newest)


def _trigger(schedule: KnownSchedule, at_us: int) -> TriggerCommand:
    instant = from_us(at_us).strftime("%Y-%m-%dT%H:%M:%SZ")
    return TriggerCommand(
        job_id=schedule.job_id,
        kind=TriggerKind.CRON,
        preset=schedule.preset,
        by=schedule.expression,
        at_us=at_us,
        slot=f"{schedule.job_id}/{schedule.preset}/{instant}",
    )


def _unrun(schedule: KnownSchedule, fires: Sequence[int], older: int, reason: Reason) -> UnrunCommand:
    fold = Fold(first_us=fires[0], last_us=fires[-1], count=len(fires) + older)
    return UnrunCommand(job_id=schedule.job_id, preset=schedule.preset, fold=fold, reason=reason)
