"""The faults of a schedule, chosen by its seed: crashes, cuts, store trouble, clocks, and hostile repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from simulated_kernel import KernelGone
from simulated_network import OWNERS_HOST, Wire
from simulated_store import CrashPoint

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import AttemptReport, Finished
from nomaflow_api.v1.sealing import open_event, open_reports, seal
from nomaflow_kernel.domain.errors import KernelError

if TYPE_CHECKING:
    from simulated_schedule import Schedule

__all__ = ["Faults"]


class Faults:
    """The trouble of one schedule."""

    def __init__(self, world: Schedule) -> None:
        self._world = world
        self._rng = world.rng
        self._say = world.ledger.say
        self._kinds: tuple[tuple[int, Callable[[], Coroutine[Any, Any, None]]], ...] = (
            (4, self._kernel_crash),
            (5, self._crash_at_commit),
            (2, self._kernel_stop),
            (2, self._zombie),
            (4, self._host_crash),
            (5, self._cut),
            (1, self._reset),
            (2, self._store_trouble),
            (1, self._store_full),
            (1, self._store_slow),
            (1, self._clock_jump),
            (3, self._lossy),
            (5, self._hostile_repeat),
        )

    def plan(self, seconds: float) -> None:
        """Choose what goes wrong and when, within the time given."""
        weights = [weight for weight, _ in self._kinds]
        for _ in range(self._rng.randint(2, 12)):
            _, work = self._rng.choices(self._kinds, weights)[0]
            at = self._rng.uniform(0.5, seconds)
            self._world.loop.call_at(at, self._begin, work)
            if work == self._store_trouble:
                self._world.troubled_at.append(at)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._world.over:
            self._world.spawn(work())

    def heal(self) -> None:
        """End all trouble; what is dead is started again by the schedule."""
        self._say("everything heals")
        self._world.store_faults.heal()
        for wire in self._world.wires:
            wire.lost_requests = wire.lost_replies = wire.repeats = 0.0
            wire.heal()

    def _wire(self) -> Wire | None:
        alive = [host.wire for host in self._world.hosts.values() if host is not None]
        return self._rng.choice(alive) if alive else None

    async def _kernel_crash(self) -> None:
        self._world.crash_kernel(self._rng.choice((0.0, 1.0, 8.0, 45.0)))

    async def _crash_at_commit(self) -> None:
        down = self._rng.choice((0.0, 2.0, 15.0))
        point = CrashPoint(
            commits=self._rng.randint(1, 8),
            after=self._rng.random() < 0.5,
            crash=lambda: self._world.crash_kernel(down),
        )
        self._world.store_faults.crash_points.append(point)

    async def _kernel_stop(self) -> None:
        kernel = self._world.take_kernel()
        if kernel is None:
            return
        self._say(f"kernel of epoch {kernel.epoch} is stopped")
        with suppress(KernelGone):  # it may die while it stops
            await kernel.call(kernel.stop())
        await asyncio.sleep(self._rng.uniform(0, 5))
        await self._world.open_kernel()

    async def _zombie(self) -> None:
        """A kernel that does not know that it was replaced: it continues until its first write is refused."""
        kernel = self._world.take_kernel()
        if kernel is None:
            return
        self._say(f"kernel of epoch {kernel.epoch} is taken for dead, and is not")
        self._world.zombies.append(kernel)
        await self._world.open_kernel()
        await asyncio.sleep(20)
        kernel.die()

    async def _host_crash(self) -> None:
        name = self._rng.choice(list(self._world.hosts))
        host = self._world.hosts[name]
        if host is None:
            return
        self._say(f"host {host.incarnation} is killed")
        host.die()
        self._world.hosts[name] = None
        if self._rng.random() < 0.7:
            # The next one on that machine sees that nothing of it is left; else only time can tell.
            self._world.gone.append(host.incarnation)
        await asyncio.sleep(self._rng.choice((0.1, 3.0, 20.0)))
        self._world.start_host(name)

    async def _cut(self) -> None:
        wire = self._wire()
        if wire is None:
            return
        up, down = self._rng.choice(((True, True), (True, False), (False, True)))
        seconds = self._rng.choice((1.0, 6.0, 20.0, 60.0))
        self._say(f"network is cut for {seconds:g} s, up {up}, down {down}")
        wire.cut(up=up, down=down)
        await asyncio.sleep(seconds)
        wire.heal()

    async def _reset(self) -> None:
        wire = self._wire()
        if wire is not None:
            self._say("connections are reset")
            wire.reset()

    async def _lossy(self) -> None:
        wire = self._wire()
        if wire is None:
            return
        wire.lost_requests, wire.lost_replies, wire.repeats = 0.2, 0.2, 0.3
        await asyncio.sleep(self._rng.uniform(1, 20))
        wire.lost_requests = wire.lost_replies = wire.repeats = 0.0

    async def _store_trouble(self) -> None:
        faults = self._world.store_faults
        slow = self._rng.random() < 0.5
        self._say(f"store fails now and then{', and is slow' if slow else ''}")
        faults.rate, faults.slow = self._rng.choice((0.1, 0.4, 0.9)), slow
        await asyncio.sleep(self._rng.uniform(1, 10))
        faults.rate, faults.slow = 0.0, False

    async def _store_full(self) -> None:
        self._say("store is full")
        self._world.store_faults.full = True
        await asyncio.sleep(self._rng.uniform(1, 10))
        self._world.store_faults.full = False

    async def _store_slow(self) -> None:
        self._say("store is slow")
        self._world.store_faults.slow = True
        await asyncio.sleep(self._rng.uniform(1, 10))
        self._world.store_faults.slow = False

    async def _clock_jump(self) -> None:
        seconds = self._rng.choice((-3600, -5, 5, 3600))
        self._say(f"kernel's wall clock jumps by {seconds} s")
        self._world.clock.jumped_us += seconds * 1_000_000

    async def _hostile_repeat(self) -> None:
        """Send an old report once more, to the kernel of now: as it was, shifted, changed, or as another instance."""
        kernel, wires = self._world.kernel, [wire for wire in self._world.wires if wire.answered]
        if kernel is None or not wires:
            return
        request = pb.StreamReportsRequest()
        request.CopyFrom(self._rng.choice(self._rng.choice(wires).answered))
        request.epoch = kernel.epoch
        kind = self._rng.choice(("same", "shifted", "changed", "more", "other instance", "unknown key"))
        self._say(
            f"an old report comes again: {kind}, {[group.attempt_key for group in open_reports(request.attempts)]}"
        )
        self._change(request, kind)
        try:
            await kernel.call(kernel.gateway.stream_reports(request, OWNERS_HOST))
        except (KernelError, Exception) as error:  # noqa: BLE001 - whatever it says, nothing may change
            self._say(f"it is refused: {error!r}")

    def _change(self, request: pb.StreamReportsRequest, kind: str) -> None:
        request.attempts = seal([_changed(report, kind) for report in open_reports(request.attempts)])
        if kind == "other instance":
            request.incarnation = "instance-stranger-1"


def _changed(report: AttemptReport, kind: str) -> AttemptReport:
    *events, last = report.events or (b"",)
    end = open_event(last) if last else None
    another = Finished(at_us=1, state=FinishedState.FAILED, error="another outcome")
    if kind == "shifted" and events:
        return replace(report, events=report.events[1:], first_seq=report.first_seq + 1)
    if kind == "changed" and isinstance(end, Finished):
        return replace(report, events=(*events, seal(another)))
    if kind == "more" and isinstance(end, Finished):
        return replace(report, events=(*events, seal(another)), first_seq=report.first_seq + 1)
    if kind == "unknown key":
        run, _, number = report.attempt_key.partition("/")
        return replace(report, attempt_key=f"{run}/nothing/{number.rpartition('/')[2]}")
    return report
