"""The scheduler: waits for the next fire, and hands due fires to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial

from nomaflow_api.event_loop import happens_within
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import KernelStopping
from nomaflow_kernel.engine.commands import TriggerCommand, UnrunCommand
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.timers import DueTimes
from nomaflow_kernel.history.ids import made_at_ms
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.scheduler.due_fires import decide
from nomaflow_kernel.scheduler.schedules import KnownSchedule, same_schedule, schedules_of
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store

_LOG = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 5.0
"""Seconds until a change of the wall clock is noticed, at the latest."""

_JUMP_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_SCHEDULES_PER_TURN = 500

_KERNEL_DOWN = Reason("kernel_down", "the kernel was not running at that time")
_CLOCK_JUMPED = Reason("clock_jumped", "the clock was set forward past it")
_HELD_UP = Reason("kernel_held_up", "the kernel could not act at that time; its log says why")


class Scheduler:
    """Fires schedules. Each fire has a slot ``job/preset/instant``, unique in the store, so nothing fires twice.

    :param last_event_seq: the newest event of the store at the kernel's start
    """

    def __init__(self, *, store: Store, clock: Clock, jobs: Catalogue, engine: Engine, last_event_seq: int = 0) -> None:
        self._store = store
        self._last_event_seq = last_event_seq
        self._clock = clock
        self._jobs = jobs
        self._engine = engine
        self._schedules: dict[str, dict[str, KnownSchedule]] = {}  # by job and preset
        self._next: DueTimes[tuple[str, str], int] = DueTimes()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._changed: set[str] | None = None  # None for all jobs, and what is stored of them
        self._last_wall_us = 0
        self._last_monotonic = 0.0
        self._cause = _KERNEL_DOWN
        self._suspect_until_us = 0
        self._back_to_us: int | None = None

    async def start(self) -> None:
        """Read the stored next fires and the catalogue, and start firing.

        :raises StoreError: if they cannot be read
        """
        self._note_time()
        if self._last_event_seq:
            for event in (await self._store.events_after(self._last_event_seq - 1, limit=1)).events:
                # The clock may have been set back while the kernel was down.
                self._last_wall_us = max(self._last_wall_us, event.at_us)
        for run in (await self._store.list_runs(RunFilter(), before="", limit=1)).runs:
            # It may have been ahead, and set back, in an earlier life: what has fired by then comes again.
            self._suspect_until_us = made_at_ms(run.run_id) * 1000
        try:
            await self._take_in_catalogue()
        except StoreError as error:
            self._forget()
            _LOG.warning("the schedules could not be taken in, trying again: %s", error.message)
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def stop(self) -> None:
        """Stop firing, even if the store does not answer. Stopping twice is allowed.

        A fire being stored is stored or not, as when the kernel is killed: its slot tells the next one.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    def jobs_changed(self, job_ids: Collection[str]) -> None:
        """Have some jobs of the catalogue checked again."""
        if self._changed is not None:
            self._changed.update(job_ids)
        self._wake.set()

    def next_due_us(self) -> int | None:
        """Return the earliest fire of all, or None."""
        return self._next.next_due()

    def __len__(self) -> int:
        return len(self._next)

    async def _run(self) -> None:
        while await self._look():
            await happens_within(self._wake, self._seconds_to_next())
            self._wake.clear()

    async def _look(self) -> bool:
        """Look at the clock and the catalogue, and hand over all due fires; return False if the kernel is stopping."""
        try:
            self._look_at_clock()
            if self._changed is None or self._changed:
                await self._take_in_catalogue()
            if self._back_to_us is not None:
                await self._go_back(self._back_to_us)
            await self._fire_due()
            self._cause = _HELD_UP
        except KernelStopping:
            return False
        except StoreError as error:
            self._forget()
            _LOG.warning("due fires could not be stored, trying again: %s", error.message)
        return True

    def _seconds_to_next(self) -> float:
        if self._changed is None:
            return _RETRY_SECONDS
        at = self._next.next_due()
        if at is None:
            return _LONGEST_SLEEP_SECONDS
        return min(_LONGEST_SLEEP_SECONDS, max(0.0, (at - self._clock.now_us()) / 1_000_000))

    def _note_time(self) -> None:
        self._last_wall_us, self._last_monotonic = self._clock.now_us(), self._clock.monotonic()

    async def _take_in_catalogue(self) -> None:
        """Take in the schedules; their next fires are the stored ones, or computed from now if a schedule changed."""
        job_ids, self._changed = self._changed, set()
        stored: dict[tuple[str, str], SetNextFire] = {}
        before: dict[tuple[str, str], KnownSchedule] = {}
        if job_ids is None:
            stored = {(row.job_id, row.preset): row for row in await self._store.schedules()}
            self._schedules, self._next = {}, DueTimes()
            jobs: Iterable[Job] = self._jobs.jobs()
        else:  # what is known of these jobs is what is stored
            jobs = filter(None, map(self._jobs.job, job_ids))
            before = {each.key: each for job_id in job_ids for each in self._schedules.pop(job_id, {}).values()}
        now_us = self._clock.now_us()
        found = {schedule.key: schedule for schedule in schedules_of(jobs)}
        changes = []
        for key, schedule in found.items():
            self._schedules.setdefault(key[0], {})[key[1]] = schedule
            if key in before and before[key].fingerprint == schedule.fingerprint:
                continue
            held = _held(stored.get(key), schedule, now_us)
            if held is not None:
                self._next.put(key, held)
                continue
            self._next.put(key, schedule.next_after_us(now_us))
            changes.append(schedule.keeps(self._next.get(key)))
        for key in {**stored, **before}:
            if key not in found:
                self._next.put(key, None)
                changes.append(SetNextFire(job_id=key[0], preset=key[1], next_fire_us=None, fingerprint=""))
        await self._commit(changes)

    async def _commit(
        self,
        next_fires: Sequence[SetNextFire],
        *,
        triggers: Sequence[TriggerCommand] = (),
        unrun: Sequence[UnrunCommand] = (),
    ) -> None:
        if triggers or unrun or next_fires:
            await self._engine.fire(triggers, unrun=unrun, next_fires=next_fires)

    def _forget(self) -> None:
        """Read the schedules and the stored next fires again, after a failed read or commit.

        It is unknown whether the changes in memory and the due fires were stored. Both go into one commit with the next
        fires, so the stored next fires also cover fires without a slot: those that did not run.
        """
        self._changed = None
        self._suspect_until_us = max(self._suspect_until_us, self._clock.now_us())

    def _look_at_clock(self) -> None:
        """Detect a wall clock that was set to another time."""
        now_us, before_us = self._clock.now_us(), self._last_wall_us
        passed = self._clock.monotonic() - self._last_monotonic
        ahead = (now_us - before_us) / 1_000_000 - passed
        self._note_time()
        if ahead > _JUMP_SECONDS:
            _LOG.warning("the wall clock was set forward by %.0f s", ahead)
            self._cause = _CLOCK_JUMPED
        elif ahead < -_JUMP_SECONDS:
            _LOG.warning("the wall clock was set back by %.0f s", -ahead)
            self._suspect_until_us = max(self._suspect_until_us, before_us)
            # The clock may have been set right after the last check.
            after_us = now_us - int(passed * 1_000_000)
            self._back_to_us = after_us if self._back_to_us is None else min(self._back_to_us, after_us)

    async def _go_back(self, after_us: int) -> None:
        """Compute the next fires again: some instants come again. Their slots show which have fired already.

        This is repeated until it is stored.
        """
        changes = []
        schedules = [each for of_job in self._schedules.values() for each in of_job.values()]
        for index, schedule in enumerate(schedules):
            if index % _SCHEDULES_PER_TURN == _SCHEDULES_PER_TURN - 1:
                await asyncio.sleep(0)
            known, again = self._next.get(schedule.key), schedule.next_after_us(after_us)
            if known is not None and again is not None and again < known:
                self._next.put(schedule.key, again)
                changes.append(schedule.keeps(again))
        await self._commit(changes)
        self._back_to_us = None

    async def _fire_due(self) -> None:
        now_us = self._clock.now_us()
        due = self._next.take_due(now_us)
        if not due:
            return
        triggers: list[TriggerCommand] = []
        unrun: list[UnrunCommand] = []
        next_fires: list[SetNextFire] = []
        suspect = due[0][1] <= self._suspect_until_us
        for key, first_us in due:
            schedule = self._schedules[key[0]][key[1]]
            run, left_out = await decide(
                schedule,
                first_us,
                now_us=now_us,
                cause=self._cause,
                pause_at=partial(self._engine.pause_of, key[0], schedule.host),
                taken=self._store.slots_taken if suspect else None,
            )
            triggers += run
            unrun += left_out
            self._next.put(key, schedule.next_after_us(now_us))
            next_fires.append(schedule.keeps(self._next.get(key)))
        if suspect:
            # The store refuses fires that have run, but only after they have cancelled another run, for example.
            taken = await self._store.slots_taken([trigger.slot for trigger in triggers])
            triggers = [trigger for trigger in triggers if trigger.slot not in taken]
        await self._commit(next_fires, triggers=triggers, unrun=unrun)


def _held(stored: SetNextFire | None, schedule: KnownSchedule, now_us: int) -> int | None:
    """Return the stored next fire if it still holds: the schedule is the same, or the fire is due already."""
    if stored is None or stored.next_fire_us is None or stored.fingerprint == schedule.fingerprint:
        return None if stored is None else stored.next_fire_us
    # New zone data moves future fires, but not the due ones that have not run yet.
    is_owed = stored.next_fire_us <= now_us and same_schedule(stored.fingerprint, schedule.fingerprint)
    return stored.next_fire_us if is_owed else None
