"""Clients that trigger, cancel, repeat requests and watch; each tries until it has an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from simulated_kernel import KernelGone, SimulatedKernel
from simulated_ledger import AckedTrigger

from nomaflow_kernel.domain.errors import KernelError, KernelStopping, RequestIdReused
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.history.records import EventRecord, PauseRecord, TriggerKind
from nomaflow_kernel.store.errors import StoreError

if TYPE_CHECKING:
    from simulated_schedule import Schedule

__all__ = ["Clients"]

_LOST_REPLIES = 0.1


class Clients:
    """The callers of one schedule."""

    def __init__(self, world: Schedule) -> None:
        self._world = world
        self._rng = world.rng
        self._ledger = world.ledger
        self.waiting = 0
        self._scheduler = asyncio.Lock()
        self._planned = 0
        self._seen: list[EventRecord] = []

    @property
    def done(self) -> bool:
        """Return True if every client has an answer."""
        return self.waiting == 0 and self._planned == 0

    def plan(self, seconds: float) -> None:
        """Decide who calls when, within the time that things go wrong."""
        from simulated_schedule import JOBS

        for number in range(self._rng.randint(4, 14)):
            at = self._rng.uniform(0, seconds)
            job_id = self._rng.choice(JOBS).id
            copies = self._rng.choice((1, 1, 1, 2, 3))
            for _ in range(copies):
                self._at(at + self._rng.choice((0.0, self._rng.uniform(0, 10))), self._trigger, job_id, f"r{number}")
        for at in self._world.troubled_at:
            # In the middle of the trouble, so that some are decided while a commit is under way that fails.
            for number in range(self._rng.randint(4, 8)):
                job_id = self._rng.choice(("quick", "flaky"))
                self._at(at + self._rng.uniform(0, 1), self._trigger, job_id, f"burst-{at:.3f}-{number}")
        for number in range(self._rng.randint(0, 3)):
            at = self._rng.uniform(0, seconds)
            job_id = self._rng.choice(("quick", "flaky", "skip"))
            for _ in range(self._rng.choice((1, 2))):
                self._at(at + self._rng.uniform(0, 2), self._fire, job_id, f"{job_id}//{number}")
        for _ in range(self._rng.randint(0, 5)):
            self._at(self._rng.uniform(1, seconds), self._cancel)
        if self._rng.random() < 0.4:
            self._at(self._rng.uniform(1, seconds), self._replay)
        if self._rng.random() < 0.2:
            self._at(self._rng.uniform(1, seconds), self._pause, self._rng.uniform(2, 15))
        if self._rng.random() < 0.3:
            self._at(self._rng.uniform(1, seconds), self._reuse)
        for _ in range(self._rng.randint(1, 3)):
            self._at(self._rng.uniform(1, seconds), self._watch)

    def _at(self, at: float, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._planned += 1
        self._world.loop.call_at(at, self._begin, work, args)

    def _begin(self, work: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...]) -> None:
        self._planned -= 1
        self.waiting += 1
        self._world.spawn(self._counted(work(*args)))

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self.waiting -= 1

    async def _until_answered(self, ask: Callable[[SimulatedKernel], Coroutine[Any, Any, Any]]) -> Any:
        """Ask until there is an answer; a refusal for good is raised."""
        while True:
            await self._world.kernel_up.wait()
            kernel = self._world.kernel
            assert kernel is not None
            await asyncio.sleep(self._rng.uniform(0.0005, 0.01))
            try:
                answer = await kernel.call(ask(kernel))
            except KernelGone:
                await asyncio.sleep(self._rng.uniform(0.1, 1))
                continue
            except KernelError as error:
                if not _passes(error):
                    raise
                await asyncio.sleep(self._rng.uniform(0.1, 2))
                continue
            if self._world.over or self._rng.random() >= _LOST_REPLIES:
                return answer

    async def _trigger(self, job_id: str, request_id: str) -> None:
        command = TriggerCommand(job_id=job_id, kind=TriggerKind.API, request_id=request_id, request_hash=job_id)
        outcome = await self._until_answered(lambda kernel: _take(kernel, command))
        self._acked(job_id, request_id, outcome)

    def _acked(self, job_id: str, request_id: str, outcome: TriggerOutcome) -> None:
        now = self._world.loop.time()
        self._ledger.triggers.append(AckedTrigger(job_id=job_id, request_id=request_id, outcome=outcome, at=now))
        again = " again" if outcome.deduplicated else ""
        self._ledger.say(f"client: {job_id} {request_id} is {outcome.run_id} {outcome.state}{again}")

    async def _reuse(self) -> None:
        """Use a request id for another request: refused, whatever has happened since."""
        if not self._ledger.triggers:
            return
        used = self._rng.choice(self._ledger.triggers)
        command = TriggerCommand(
            job_id=used.job_id, kind=TriggerKind.API, request_id=used.request_id, request_hash="another"
        )
        try:
            await self._until_answered(lambda kernel: _take(kernel, command))
        except RequestIdReused:
            return
        self._ledger.complain(f"request id {used.request_id} of {used.job_id} was taken for another request")

    async def _fire(self, job_id: str, slot: str) -> None:
        """Fire as the scheduler does, one after the other, and leave out what has fired where that is in doubt."""

        async def fire(kernel: SimulatedKernel) -> None:
            if slot not in await kernel.store.slots_taken([slot]):
                await kernel.engine.fire([command])

        async with self._scheduler:
            command = TriggerCommand(
                job_id=job_id, kind=TriggerKind.CRON, by="schedule", at_us=self._world.clock.now_us(), slot=slot
            )
            await self._until_answered(fire)
        self._ledger.slots.add(slot)
        self._ledger.say(f"scheduler: slot {slot} is fired")

    async def _cancel(self) -> None:
        if not self._ledger.triggers:
            return
        run_id = self._rng.choice(self._ledger.triggers).outcome.run_id
        await self._until_answered(lambda kernel: kernel.engine.cancel(run_id, by="ann", why="simulated"))
        self._ledger.cancels.setdefault(run_id, self._world.loop.time())
        self._ledger.say(f"client: cancel of {run_id} is taken")

    async def _replay(self) -> None:
        if not self._ledger.triggers:
            return
        run_id = self._rng.choice(self._ledger.triggers).outcome.run_id
        command = TriggerCommand(
            job_id="",
            kind=TriggerKind.REPLAY,
            replay_of=run_id,
            by="ann",
            request_id=f"replay-{run_id}",
            request_hash="replay",
        )
        try:
            outcome = await self._until_answered(lambda kernel: _take(kernel, command))
        except KernelError as error:
            self._ledger.say(f"client: replay of {run_id} is refused: {error.message}")
            return
        self._ledger.say(f"client: replay of {run_id} is {outcome.run_id}")

    async def _pause(self, seconds: float) -> None:
        now = self._world.clock.now_us()
        pause = PauseRecord(
            scope="all", name="", by="ann", why="", since_us=now, until_us=now + int(seconds * 1_000_000)
        )
        await self._until_answered(lambda kernel: kernel.engine.set_pause(pause))
        self._ledger.say(f"client: everything is paused for {seconds:.1f} s")
        await asyncio.sleep(seconds)
        await self._until_answered(lambda kernel: kernel.engine.clear_pause("all", ""))

    async def _watch(self) -> None:
        """Read events from where the last look ended; what was there once stays, and nothing appears before it."""
        after = self._seen[-1].seq if self._seen else 0
        page = await self._until_answered(lambda kernel: kernel.store.events_after(after, limit=10_000))
        if self._seen and self._seen[-1].seq != after:
            return
        for event in page.events:
            if event.seq != (self._seen[-1].seq + 1 if self._seen else 1):
                self._ledger.complain(f"a watcher met event {event.seq} after {len(self._seen)} events")
                return
            self._seen.append(event)


def _passes(error: KernelError) -> bool:
    """Return whether a later try may succeed."""
    return isinstance(error, StoreError | KernelStopping)


async def _take(kernel: SimulatedKernel, command: TriggerCommand) -> TriggerOutcome:
    (outcome,) = await kernel.engine.trigger_many([command])
    if isinstance(outcome, KernelError):
        raise outcome
    return outcome
