"""Plays one schedule on a system and writes down what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from failpoints import Armed, arm
from torture_schedule import Fault, Order, Schedule
from torture_system import TcpProxy, TortureSystem, Way

from nomaflow.client import KernelClient, TriggerOrder
from nomaflow.client.errors import ClientError
from nomaflow.client.values import EventView, LogLine, RunView

__all__ = ["Acknowledged", "Record", "play"]

BOUND_SECONDS = 90.0
"""In which every acknowledged run is over once the faults have passed; generous, since machines are slow at times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """A trigger that was answered; ``again`` is the run of the same request sent twice, empty if it was not."""

    order: Order
    run_id: str
    again: str = ""


@dataclass(kw_only=True)
class Record:
    """Everything that is known of a schedule once it is over.

    :param watched: what a watcher saw while it went on
    :param events: the same, read afterwards
    :param resumed: what a watcher sees that takes up after the event ``resumed_after``
    :param befell: the faults that came about
    :param disturbed: why steps may have failed: processes that were killed
    """

    schedule: Schedule
    ledger: Path
    base_seq: int
    acknowledged: list[Acknowledged] = field(default_factory=list)
    watched: list[EventView] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)
    resumed: list[EventView] = field(default_factory=list)
    resumed_after: int = 0
    runs: dict[str, RunView] = field(default_factory=dict)
    logs: dict[str, list[LogLine]] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)
    befell: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def play(system: TortureSystem, schedule: Schedule) -> Record:
    """Play a schedule and return the verdict.

    :raises TimeoutError: where the system does not come to rest in the bound
    """
    player = _Player(system, schedule)
    async with system.client() as client:
        return await player.play(client)


class _Player:
    def __init__(self, system: TortureSystem, schedule: Schedule) -> None:
        self._system = system
        self._schedule = schedule
        self._nonce = uuid.uuid4().hex[:8]
        self._note = system.timeline.note
        ledger = system.root / f"ledger-{schedule.seed}-{self._nonce}"
        self._record = Record(schedule=schedule, ledger=ledger, base_seq=0)
        self._armed: dict[int, Fault] = {}

    async def play(self, client: KernelClient) -> Record:
        """Play and return what came of it."""
        record, system = self._record, self._system
        began = time.monotonic()
        self._note(f"schedule {self._schedule.seed} begins")
        record.base_seq = (await client.get_kernel()).last_event_seq
        system.kernel.restart_ms = self._schedule.restart_ms["kernel"]
        system.host.restart_ms = self._schedule.restart_ms["host"]
        deaths = system.host.deaths
        async with system.client() as watching:
            watcher = asyncio.create_task(self._watch(watching))
            try:
                async with asyncio.timeout(BOUND_SECONDS):
                    await self._happen(client)
                    await self._come_to_rest(client)
                    last_seq = (await client.get_kernel()).last_event_seq
                    await self._seen(last_seq)
            finally:
                watcher.cancel()
                outcome = (await asyncio.gather(watcher, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome
        record.disturbed += ["host"] * (system.host.deaths - deaths)
        for number in self._armed.keys() & system.fired:
            record.befell.append(f"{self._armed[number].target} {self._armed[number].action}")
        await self._read_up(client, last_seq)
        record.seconds = time.monotonic() - began
        self._note(f"schedule {self._schedule.seed} is over")
        return record

    async def _watch(self, client: KernelClient) -> None:
        async for event in client.watch_events(after_seq=self._record.base_seq):
            self._record.watched.append(event)

    async def _seen(self, seq: int) -> None:
        while not self._record.watched or self._record.watched[-1].seq < seq:
            await asyncio.sleep(0.005)

    async def _happen(self, client: KernelClient) -> None:
        orders = [self._give(client, number, order) for number, order in enumerate(self._schedule.orders)]
        faults = [self._befall(client, number, fault) for number, fault in enumerate(self._schedule.faults)]
        await asyncio.gather(*orders, *faults)

    async def _come_to_rest(self, client: KernelClient) -> None:
        await self._system.settled()
        for known in self._record.acknowledged:
            await client.wait(known.run_id)
        self._system.disarm()
        await self._system.settled()
        await self._system.ready(BOUND_SECONDS)

    async def _read_up(self, client: KernelClient, last_seq: int) -> None:
        record = self._record
        record.events = await _events(client, record.base_seq, last_seq)
        record.resumed_after = record.base_seq + int(self._schedule.resume_at * (last_seq - record.base_seq))
        record.resumed = await _events(client, record.resumed_after, last_seq)
        for run_id in {event.run_id for event in record.events if event.run_id}:
            record.runs[run_id] = await client.get_run(run_id)
            record.logs[run_id] = [line async for line in client.read_logs(run_id)]

    # Orders.

    async def _give(self, client: KernelClient, number: int, order: Order) -> None:
        await asyncio.sleep(order.at_ms / 1000)
        wanted = TriggerOrder(
            job_id=order.job,
            params={**order.params, "ledger": str(self._record.ledger)},
            request_id=f"{self._nonce}-{number}",
        )
        answers = [self._trigger(client, wanted)]
        if order.again_after_ms is not None:
            answers.append(self._trigger(client, wanted, after_ms=order.again_after_ms))
        run_ids = await asyncio.gather(*answers)
        again = run_ids[1] if len(run_ids) > 1 else ""
        self._record.acknowledged.append(Acknowledged(order=order, run_id=run_ids[0], again=again))
        if order.cancel_after_ms is not None:
            await asyncio.sleep(order.cancel_after_ms / 1000)
            await client.cancel(run_ids[0], why="the torture wants it")
            self._note(f"cancel of {run_ids[0]} is acknowledged")

    async def _trigger(self, client: KernelClient, wanted: TriggerOrder, *, after_ms: int = 0) -> str:
        await asyncio.sleep(after_ms / 1000)
        answer = await client.trigger(wanted)
        self._note(f"{wanted.job_id} is {answer.run_id}{' again' if answer.deduplicated else ''}")
        return answer.run_id

    # Faults.

    async def _befall(self, client: KernelClient, number: int, fault: Fault) -> None:
        await asyncio.sleep(fault.at_ms / 1000)
        match fault.kind:
            case "kill":
                self._kill(fault)
            case "stop":
                self._note(str(fault))
                self._record.befell.append("stop kernel")
                self._system.kernel.signal(signal.SIGTERM)
            case "freeze":
                self._freeze(fault)
            case "net":
                await self._disturb_net(fault)
            case "point":
                self._arm(number, fault)
            case "reload":
                await self._reload(client)

    def _kill(self, fault: Fault) -> None:
        pid = self._system.process_of(fault.target)
        self._note(f"{fault}: {pid or 'there is none'}")
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._record.befell.append(f"kill {fault.target}")
                if fault.ends_steps:
                    self._record.disturbed.append(fault.target)

    def _freeze(self, fault: Fault) -> None:
        pid = self._system.process_of(fault.target)
        self._note(f"{fault}: {pid or 'there is none'}")
        if pid:
            self._system.freeze(pid, fault.ms)
            self._record.befell.append(f"freeze {fault.target}")

    def _arm(self, number: int, fault: Fault) -> None:
        process, _, point = fault.target.partition(":")
        victim = {"kernel": self._system.kernel, "host": self._system.host}[process]
        unique = time.monotonic_ns() * 16 + number
        self._system.freezes[unique] = fault.ms
        self._armed[unique] = fault
        arm(victim.points, Armed(number=unique, point=point, skip=fault.skip, action=fault.action))
        self._note(f"{fault} is armed as {unique}")

    async def _disturb_net(self, fault: Fault) -> None:
        self._note(str(fault))
        self._record.befell.append(f"net {fault.target}")
        await asyncio.to_thread(_NETS[fault.target], self._system.proxy)
        await asyncio.sleep(fault.ms / 1000)
        await asyncio.to_thread(self._system.proxy.heal)
        self._note("the network is well again")

    async def _reload(self, client: KernelClient) -> None:
        try:
            answers = await client.reload_host("torment")
            self._record.befell.append("reload")
            self._note(f"reload: {'; '.join(answer.message for answer in answers)}")
        except ClientError as error:
            self._note(f"reload refused: {error}")


_NETS: dict[str, Callable[[TcpProxy], None]] = {
    "blackhole": lambda proxy: proxy.blackhole(),
    "drop_up": lambda proxy: proxy.drop(Way.UP),
    "drop_down": lambda proxy: proxy.drop(Way.DOWN),
    "delay": lambda proxy: proxy.delay(0.15),
    "reset": lambda proxy: proxy.reset(),
    "refuse": lambda proxy: (proxy.refuse(), proxy.reset())[0],
    "half_open_host": lambda proxy: proxy.half_open(Way.DOWN),
    "half_open_kernel": lambda proxy: proxy.half_open(Way.UP),
}


async def _events(client: KernelClient, after_seq: int, last_seq: int) -> list[EventView]:
    """Return the events after one, up to another."""
    found: list[EventView] = []
    if after_seq >= last_seq:
        return found
    events = client.watch_events(after_seq=after_seq)
    async with contextlib.aclosing(events):  # type: ignore[type-var]  # it is a generator
        async for event in events:
            found.append(event)
            if event.seq >= last_seq:
                break
    return found
