"""The scheduler on a real store and engine, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import Rig

from nomaflow_kernel.domain.clock import from_us
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.scheduler.scheduler import Scheduler


class AskedScheduler(Scheduler):
    """A scheduler that a test asks to look now, and for the next fires that it knows."""

    asking: tuple[asyncio.Future[None], ...] = ()

    async def look_now(self) -> None:
        """Have catalogue and clock checked, and return when all due fires have been handed over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asking = (*self.asking, future)
        self.jobs_changed({*self._schedules, *(job.job_id for job in self._jobs.jobs())})
        await future

    async def _look(self) -> bool:
        asking, self.asking = self.asking, ()
        goes_on = await super()._look()
        for future in asking:
            future.set_result(None)
        return goes_on

    def next_fire_us(self, job_id: str, preset: str = "") -> int | None:
        """Return the next fire of a schedule, or None."""
        return self._next.get((job_id, preset))


class Bench(Rig):
    """The rig with a scheduler."""

    scheduler: AskedScheduler

    async def open(self) -> None:
        """Start store, engine and scheduler."""
        await super().open()
        self.scheduler = AskedScheduler(
            store=self.store,
            clock=self.clock,
            jobs=self.jobs,
            engine=self.engine,
            last_event_seq=self.info.last_event_seq,
        )
        await self.scheduler.start()

    async def close(self) -> None:
        """Stop them in the opposite order."""
        await self.scheduler.stop()
        await super().close()

    async def tick(self, seconds: float = 0.0) -> None:
        """Advance time, and wait until the scheduler has reacted."""
        self.clock.advance(seconds)
        await self.look()

    async def look(self) -> None:
        """Have the scheduler look at catalogue and clock."""
        await self.scheduler.look_now()

    async def runs(self, *states: RunState) -> list[tuple[str, str]]:
        """Return (state, scheduled instant) of the runs, oldest first."""
        page = await self.store.list_runs(RunFilter(states=states), before="", limit=500)
        found = [(str(run.state), from_us(run.trigger.at_us).strftime("%H:%M:%S")) for run in page.runs]
        return found[::-1]

    async def missed(self) -> list[tuple[str, int, str, str]]:
        """Return (code, count, first, last) of the MISSED rows, oldest first."""
        page = await self.store.list_runs(RunFilter(states=(RunState.MISSED,)), before="", limit=50)
        found = []
        for run in reversed(page.runs):
            assert run.reason is not None
            assert run.fold is not None
            first, last = (from_us(at).strftime("%H:%M:%S") for at in (run.fold.first_us, run.fold.last_us))
            found.append((run.reason.code, run.fold.count, first, last))
        return found
