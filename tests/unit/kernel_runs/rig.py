"""An engine on a real SQLite store, with a clock that the test moves and hosts that the test plays."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow_api.v1.letter_words import AckStatus, FinishedState
from nomaflow_api.v1.letters import (
    AttemptAck,
    AttemptOrder,
    AttemptReport,
    CallOutcome,
    CancelOrder,
    DispatchOrder,
    Event,
    Finished,
    InventoryLine,
    Started,
    Verdict,
)
from nomaflow_api.v1.sealing import open_order, seal
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceKey, RefusedLoad
from nomaflow_kernel.engine.state import EngineSettings
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import EventFilter, RunDetail, StoreInfo
from nomaflow_kernel.history.records import EventRecord, RunRequest, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.store.errors import StoreBusy
from nomaflow_kernel.store.sql_store import Store, open_store
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.reading.problems import Place

START_US = 1_790_000_000_000_000


class ManualClock:
    """Both clocks, moved by the test."""

    def __init__(self, start_us: int = START_US) -> None:
        self.wall_us = start_us
        self.mono = 1000.0

    def now_us(self) -> int:
        """Return wall time."""
        return self.wall_us

    def monotonic(self) -> float:
        """Return monotonic time."""
        return self.mono

    def advance(self, seconds: float) -> None:
        """Advance both clocks."""
        self.wall_us += int(seconds * 1_000_000)
        self.mono += seconds


@dataclass
class Jobs:
    """A catalogue in a dict."""

    definitions: dict[str, JobDefinition] = field(default_factory=dict)
    callables: dict[str, dict[str, Any]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)
    other_code: set[tuple[str, str]] = field(default_factory=set)
    accepted_calls: set[tuple[str, str]] = field(default_factory=set)
    _made: dict[str, Any] = field(default_factory=dict)

    def add(self, *definitions: JobDefinition) -> None:
        """Put jobs into the catalogue."""
        for definition in definitions:
            self.definitions[definition.id] = definition

    def definition(self, job_id: str) -> JobDefinition | None:
        """Return the job's definition."""
        job = self.job(job_id)
        return None if job is None else job.definition

    def job(self, job_id: str) -> Job | None:
        """Return the job, the same object as long as it does not change."""
        definition = self.definitions.get(job_id)
        if definition is None:
            return None
        invalid, held, removed = self.invalid.get(job_id, ""), self.held.get(job_id, ""), job_id in self.removed
        key = (id(definition), invalid, held, removed)
        if self._made.get(job_id, (None, None))[0] != key:
            why = "its file is broken" if held else invalid
            loaded = LoadedJob(
                job_id=job_id,
                host=definition.host,
                definition=definition,
                problems=(Place("jobs.toml").error("broken", why),) if why else (),
                enabled=definition.enabled,
                kept=bool(held),
                held=held,
            )
            self._made[job_id] = (key, Job(loaded=loaded, removed=removed))
        return self._made[job_id][1]

    def jobs(self) -> list[Job]:
        """Return all jobs."""
        found = [self.job(job_id) for job_id in self.definitions]
        return [job for job in found if job is not None]

    def ids(self) -> Collection[str]:
        """Return the ids."""
        return self.definitions.keys()

    def manifest(self, host: str) -> Mapping[str, Any]:
        """Return what the test has said of callables; nothing is known of the others."""
        return {"callables": self.callables}

    def offer_all(self) -> None:
        """Offer the callable of every step, without parameters."""
        self.callables.update((step.callable, {}) for each in self.definitions.values() for step in each.steps)

    def may_serve(self, host: str, digest: str, job_id: str, definition_digest: str) -> bool:
        """Return whether the test has left it so."""
        return (digest, job_id) not in self.other_code

    def unaccepted(self) -> list[Job]:
        """Return nothing: tests of the whole kernel have such jobs."""
        return []

    def accepts_calls(self, host: str, other: str) -> bool:
        """Return whether the test has allowed it."""
        return (host, other) in self.accepted_calls

    def max_parallel(self, host: str) -> int | None:
        """Return the bound the test has set."""
        return self.bounds.get(host)


class PlayedHost:
    """A host instance played by the test: it keeps the orders it is sent."""

    _numbers = itertools.count(1)

    def __init__(
        self, rig: Rig, *, host: str = "demo", max_async: int = 10, max_sync: int = 2, generation: int = 1
    ) -> None:
        self.rig = rig
        self.host = host
        self.incarnation = f"inc-{next(self._numbers)}"
        self.max_async, self.max_sync = max_async, max_sync
        self.orders: list[DispatchOrder | CancelOrder] = []
        self.ended: list[str] = []
        self.refused: list[KernelError] = []
        self.silent = False
        self.loading = False
        self.digest = "sha256:0"
        self.heartbeat = HeartbeatInfo(generation=generation, manifest_digest=self.digest)
        rig.hosts.append(self)
        self._arrived = asyncio.Event()

    @property
    def key(self) -> InstanceKey:
        """Its key."""
        return self.host, self.incarnation

    def send(self, orders: Sequence[DispatchOrder | CancelOrder]) -> None:
        """Take orders."""
        self.orders.extend(orders)
        self._arrived.set()

    def end(self, reason: str) -> None:
        """Record the end of the session."""
        self.ended.append(reason)

    def refuse(self, error: KernelError) -> None:
        """Record the error that ended the session."""
        self.refused.append(error)

    async def attach(
        self,
        *,
        inventory: Sequence[InventoryLine] = (),
        ended: Sequence[str] = (),
        refused_load: RefusedLoad | None = None,
        **more: Any,
    ) -> Sequence[Verdict]:
        """Introduce itself to the engine."""
        hello = InstanceHello(
            host=self.host,
            incarnation=self.incarnation,
            machine="machine",
            pid=4242,
            version="0.1.0",
            heartbeat=self.heartbeat,
            max_async=self.max_async,
            max_sync=self.max_sync,
            inventory=tuple(inventory),
            ended_incarnations=tuple(ended),
            refused_load=refused_load,
            **more,
        )
        return await self.rig.engine.attach(hello, self)

    async def order(self, count: int = 1) -> DispatchOrder | CancelOrder:
        """Wait for the ``count``-th order and return it."""
        async with asyncio.timeout(60):
            while len(self.orders) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.orders[count - 1]

    async def dispatch(self, count: int = 1) -> DispatchOrder:
        """Wait for the ``count``-th order, which must be a dispatch."""
        order = await self.order(count)
        assert isinstance(order, DispatchOrder), order
        return order

    async def report(self, key: str, *events: Event, first_seq: int = 1) -> AttemptAck:
        """Report events of one attempt."""
        told = AttemptReport(attempt_key=key, first_seq=first_seq, events=tuple(map(seal, events)))
        acks = await self.rig.engine.report(self.key, [told], size=sum(map(len, told.events)))
        return acks[0]

    async def start(self, key: str) -> AttemptAck:
        """Report that the callable was started, as event 1."""
        return await self.report(key, started(self.rig.clock.now_us()))

    async def finish(self, key: str, event: Finished | None = None) -> AttemptAck:
        """Report start and end, as events 1 and 2."""
        now = self.rig.clock.now_us()
        ack = await self.report(key, started(now), event or finished(now))
        assert ack.status is AckStatus.OK, ack
        return ack


def started(at_us: int = START_US) -> Started:
    """Return a started event."""
    return Started(at_us=at_us, worker_pid=77, generation=1, exclusive=False)


def finished(at_us: int = START_US, **fields: Any) -> Finished:
    """Return a finished event with the outcome that its worker sealed, SUCCEEDED unless told otherwise."""
    outcome = CallOutcome(**{"state": FinishedState.SUCCEEDED, "has_result": True} | fields)
    return Finished(at_us=at_us, state=outcome.state, outcome=seal(outcome))


def failed(code: str = "step_failed", *types: str, error: str = "boom") -> Finished:
    """Return a finished event of a failure."""
    return finished(
        state=FinishedState.FAILED,
        reason_code=code,
        reason=error,
        error=error,
        exception_types=types or ("builtins.ValueError", "builtins.Exception"),
        has_result=False,
    )


def canceled(code: str = "canceled_by_user") -> Finished:
    """Return a finished event of an attempt that its host stopped."""
    return Finished(at_us=START_US, state=FinishedState.CANCELED, reason_code=code, reason="stopped")


def opened(order: DispatchOrder | CancelOrder) -> AttemptOrder:
    """Return the letter in an order, as its worker opens it."""
    assert isinstance(order, DispatchOrder), order
    return open_order(order.order)


def step(name: str, **fields: Any) -> StepDefinition:
    """Return a python step."""
    return StepDefinition(name=name, **{"callable": f"m:{name}"} | fields)


def job(job_id: str, *steps: StepDefinition, **fields: Any) -> JobDefinition:
    """Return a job of host demo, with one step unless told otherwise."""
    return JobDefinition(id=job_id, steps=steps or (step("one"),), **{"host": "demo"} | fields)


def command(job_id: str, **fields: Any) -> TriggerCommand:
    """Return a trigger; the layers are among its fields."""
    layers = {each: fields.pop(each) for each in RunRequest.__struct_fields__ if each in fields}
    return TriggerCommand(job_id=job_id, request=RunRequest(**layers), **{"kind": TriggerKind.API} | fields)


class Rig:
    """The engine and what is around it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.jobs = Jobs()
        self.settings = EngineSettings(lease_seconds=2, grace_seconds=10, grace_margin_seconds=1)
        self.hosts: list[PlayedHost] = []
        self.ended: list[Exception] = []
        self.troubles: list[Exception] = []
        self.store: Store
        self.info: StoreInfo
        self.feed: EventFeed
        self.engine: Engine

    async def open(self) -> None:
        """Open the store and start an engine, as a kernel does."""
        self.store = open_store(f"sqlite:///{self.path}")
        self.info = info = await self.store.open()
        self.feed = EventFeed(info.last_event_seq)
        self.engine = Engine(
            store=self.store,
            info=info,
            clock=self.clock,
            jobs=self.jobs,
            feed=self.feed,
            settings=self.settings,
            on_ended=self.ended.append,
            on_trouble=self.troubles.append,
            secrets=SecretParams(self.path.parent),
        )
        await self.engine.start()

    def fail_once(self) -> None:
        """Have the store refuse the next commit."""
        real = self.store.apply

        async def failing(*_args: Any, **_kwargs: Any) -> Any:
            self.store.apply = real  # type: ignore[method-assign]  # of the test
            raise StoreBusy("locked")

        self.store.apply = failing  # type: ignore[method-assign]  # of the test

    async def close(self) -> None:
        """Stop the engine and close the store."""
        await self.engine.stop()
        await self.store.close()

    async def restart(self) -> None:
        """Do what a kernel's end and new start do to the state."""
        await self.close()
        await self.open()

    async def advance(self, seconds: float) -> None:
        """Advance time: hosts send heartbeats unless they are silent, and the engine checks its timers."""
        while seconds > 1 and any(host.silent for host in self.hosts):  # jumps of less than the lease
            await self.jump(1.0)
            seconds -= 1.0
        await self.jump(seconds)

    async def jump(self, seconds: float) -> None:
        """Advance time at once; a jump beyond the lease means that the engine was blocked."""
        self.clock.advance(seconds)
        for host in self.hosts:
            if not host.silent:
                self.engine.heartbeat(host.key, host.heartbeat)
        self.engine._loop.wake()
        await self.settle()

    async def settle(self) -> None:
        """Wait until a turn has gone through after this call."""
        await self.engine._loop.ask(lambda batch: None)

    async def host(self, **fields: Any) -> PlayedHost:
        """Return an attached host."""
        played = PlayedHost(self, **fields)
        await played.attach()
        return played

    async def trigger(self, job_id: str, **fields: Any) -> TriggerOutcome:
        """Trigger a job."""
        return await self.take(command(job_id, **fields))

    async def take(self, command: TriggerCommand) -> TriggerOutcome:
        """Have the engine take a command."""
        (outcome,) = await self.engine.trigger_many([command])
        if isinstance(outcome, KernelError):
            raise outcome
        return outcome

    async def replay(self, run_id: str, **fields: Any) -> str:
        """Replay a run and return the id of the new one."""
        return (await self.take(command("", kind=TriggerKind.REPLAY, replay_of=run_id, **fields))).run_id

    async def detail(self, run_id: str) -> RunDetail:
        """Return a run as stored."""
        return (await self.store.run_details([run_id], result_bytes=1024 * 1024))[0]

    async def state(self, run_id: str) -> RunState:
        """Return a run's state as stored."""
        return (await self.detail(run_id)).run.state

    async def events(self, run_id: str = "") -> Sequence[EventRecord]:
        """Return the events as stored."""
        return (await self.store.events_after(0, limit=1000, filter=EventFilter(run_id=run_id))).events
