"""One schedule: a seed becomes jobs to trigger, things to go wrong, and the order in which all of it happens."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import sqlalchemy
from simulated_clients import Clients
from simulated_faults import Faults
from simulated_host import SimulatedHost
from simulated_invariants import check_engine, check_store
from simulated_kernel import SimulatedCatalogue, SimulatedKernel
from simulated_launcher import launch_own_instances
from simulated_ledger import Ledger
from simulated_network import Wire
from simulated_store import StoreFaults
from simulated_time import Stalled, VirtualClock, VirtualLoop

from nomaflow_kernel.store.errors import StaleEpoch, StoreError
from nomaflow_project.jobs.definitions import IsolationChoice, JobDefinition, Overlap, StepDefinition
from nomaflow_project.jobs.retry_policy import RetryPolicy

__all__ = ["JOBS", "Schedule"]

_CONVERGES_WITHIN = 900.0
_DRAINS_WITHIN = 120.0


def _step(name: str, callable: str, **fields: Any) -> StepDefinition:
    return StepDefinition(name=name, callable=callable, **fields)


def _call(target: str, **fields: Any) -> StepDefinition:
    return StepDefinition(name="call", type="call_job", target_job_id=target, **fields)


def _job(job_id: str, *steps: StepDefinition, **fields: Any) -> JobDefinition:
    return JobDefinition(id=job_id, steps=steps, **{"host": "demo", "overlap": Overlap.ALLOW} | fields)


_OWN = IsolationChoice.INSTANCE
_RETRY = RetryPolicy(attempts=3, base_seconds=1.0, max_seconds=20.0)

JOBS = (
    _job("quick", _step("one", "m:quick")),
    _job("chain", _step("a", "m:quick"), _step("b", "m:logs"), _step("c", "m:sync")),
    _job("slow", _step("one", "m:slow")),
    _job("flaky", _step("one", "m:flaky"), _step("two", "m:quick"), retry=_RETRY),
    _job("lost", _step("one", "m:slow"), _step("two", "m:logs"), retry_on_lost=True),
    _job("patient", _step("one", "m:slow"), retry_on_lost=True, lost_after_seconds=45.0, retry=_RETRY),
    _job("queue", _step("one", "m:logs"), overlap=Overlap.QUEUE, max_queued=3),
    _job("skip", _step("one", "m:logs"), overlap=Overlap.SKIP),
    _job("replace", _step("one", "m:slow"), _step("two", "m:quick"), overlap=Overlap.CANCEL_RUNNING),
    _job("parent", _step("first", "m:quick"), _call("chain"), _step("last", "m:quick")),
    _job("impatient", _call("slow", timeout_seconds=8.0, retry=RetryPolicy(attempts=2, base_seconds=0.5))),
    _job("timed", _step("one", "m:logs"), _step("two", "m:slow", timeout_seconds=12.0), timeout_seconds=25.0),
    _job("boxed", _step("first", "m:quick"), _step("box", "m:logs", isolation=_OWN), retry=_RETRY),
    _job("box", _step("box", "m:slow", isolation=_OWN), _step("last", "m:quick"), retry_on_lost=True),
    _job("bounded", _step("one", "m:slow"), max_parallel=1, queue_timeout_seconds=20.0, priority=5),
)


class Schedule:
    """Everything of one seed.

    :param path: of the database, empty but for its schema
    :param database: connects to it
    :param directory: for the hosts' files
    """

    def __init__(self, seed: int, *, path: Path, database: sqlalchemy.Engine, directory: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        # The product's own jitter (the host's back-off) draws from the process's generator.
        random.seed(seed)
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.ledger = Ledger()
        self.path = path
        self._database = database
        self._looker = sqlite3.connect(path)
        self._looker.execute("PRAGMA synchronous = OFF")
        self.directory = directory
        self.store_faults = StoreFaults(rng=self.rng, say=self.ledger.say)
        self.catalogue = SimulatedCatalogue(JOBS, sync={"m:sync"})
        self.committed_at: dict[int, float] = {}
        self.kernel: SimulatedKernel | None = None
        self.kernel_up = asyncio.Event()
        self.troubled_at: list[float] = []
        self._file_lock = asyncio.Lock()
        self.zombies: list[SimulatedKernel] = []
        self.hosts: dict[str, SimulatedHost | None] = {}
        self.attempt_of: dict[str, str] = {}  # by the names of hosts that were started for one attempt
        self.wires: list[Wire] = []
        self.gone: list[str] = []
        self.refuses = self.rng.choice((0.0, 0.0, 0.1))
        self.over = False
        self._lives = self._own = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self) -> Ledger:
        """Run to the end; what was broken is in the ledger."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._stray)
        try:
            self.loop.run_until_complete(self._main())
        except Stalled as stalled:
            self.ledger.complaints.append(str(stalled))
        finally:
            self._close()
        return self.ledger

    def _stray(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.ledger.complain(f"an exception nobody took: {context.get('message')} {error!r}")

    def _close(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self._looker.close()
        asyncio.set_event_loop(None)

    async def _end(self) -> None:
        for host in self.hosts.values():
            if host is not None:
                host.die()
        for kernel in (self.kernel, *self.zombies):
            if kernel is not None:
                kernel.die()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _main(self) -> None:
        await self.open_kernel()
        for name in ("a", "b"):
            self.start_host(name)
        clients = Clients(self)
        faults = Faults(self)
        seconds = self.rng.uniform(30, 90)
        self.spawn(launch_own_instances(self))
        faults.plan(seconds)
        clients.plan(seconds)
        await asyncio.sleep(seconds)
        faults.heal()
        self.over = True
        await self.open_kernel()
        for name in list(self.hosts):
            self.start_host(name)
        await self._converge(clients)

    async def _converge(self, clients: Clients) -> None:
        """Wait until everything has ended, then check what is left."""
        if not await self._until(lambda: clients.done and not self.open_runs(), _CONVERGES_WITHIN):
            self.ledger.complain(
                f"not over after {_CONVERGES_WITHIN:g} s: {self.open_runs()}, clients {clients.waiting}"
            )
            return
        drained = await self._until(self._drained, _DRAINS_WITHIN)
        if not drained:
            held = {host.incarnation: host.outbox.inventory() for host in self.hosts.values() if host is not None}
            self.ledger.complain(f"hosts keep what the kernel should have taken, or stay for an attempt: {held}")
        kernel = self.kernel
        assert kernel is not None
        await kernel.call(kernel.engine._loop.ask(lambda batch: None))
        for complaint in check_engine(kernel.engine):
            self.ledger.complain(complaint)
        for complaint in check_store(self.path, self.ledger, self.committed_at):
            self.ledger.complain(complaint)

    def _drained(self) -> bool:
        return not self.attempt_of and all(host.outbox.empty for host in self.hosts.values() if host is not None)

    async def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        until = self.loop.time() + seconds
        while not done():
            if self.loop.time() > until:
                return False
            await asyncio.sleep(1.0)
        return True

    def open_runs(self) -> list[tuple[str, str, str]]:
        """Return the runs that are not terminal."""
        query = "SELECT run_id, job_id, state FROM runs WHERE state IN ('QUEUED', 'RUNNING')"
        return self._looker.execute(query).fetchall()

    # What faults do to the parts.

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of the world itself."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def open_kernel(self) -> None:
        """Start a kernel if none is up; try until the store lets it. Only one at a time holds the file's lock."""
        async with self._file_lock:
            await self._open_kernel()

    async def _open_kernel(self) -> None:
        while self.kernel is None:
            kernel = SimulatedKernel(
                database=self._database,
                rng=self.rng,
                clock=self.clock,
                jobs=self.catalogue,
                faults=self.store_faults,
                committed_at=self.committed_at,
                on_ended=self._kernel_ended,
                on_taken_back=self.ledger.take_back,
            )
            try:
                await kernel.open()
            except StoreError as error:
                self.ledger.say(f"kernel cannot start: {error.message}")
                kernel.die()
                await asyncio.sleep(1.0)
                continue
            self.kernel = kernel
            self.ledger.say(f"kernel up, epoch {kernel.epoch}")
            self.kernel_up.set()

    def _kernel_ended(self, kernel: SimulatedKernel, error: Exception) -> None:
        if not isinstance(error, StaleEpoch):
            self.ledger.complain(f"the engine of epoch {kernel.epoch} has failed: {error!r}")
        elif kernel is self.kernel:
            self.ledger.complain(f"the kernel of epoch {kernel.epoch} was fenced, and no other was started")
        self.ledger.say(f"kernel of epoch {kernel.epoch} ends itself: {error!r}")
        self.loop.call_soon(kernel.die)
        if kernel is self.kernel:
            self.take_kernel()
            self.spawn(self.open_kernel())

    def take_kernel(self) -> SimulatedKernel | None:
        """Take the kernel out of its place, for whatever becomes of it."""
        kernel, self.kernel = self.kernel, None
        self.kernel_up.clear()
        return kernel

    def crash_kernel(self, down_seconds: float) -> None:
        """Kill the kernel, and start the next after a while."""
        kernel = self.take_kernel()
        if kernel is None:
            return
        self.ledger.say(f"kernel of epoch {kernel.epoch} is killed, down for {down_seconds:.1f} s")
        kernel.die()
        self.loop.call_later(down_seconds, lambda: self.spawn(self.open_kernel()))

    def link(self, address: str) -> Wire:
        """Return the wire of a host's address."""
        return next(host.wire for host in self.hosts.values() if host is not None and host.address == address)

    def name_own_instance(self, attempt_key: str) -> str:
        """Return the name of a new host for one attempt, which the engine lists from now on."""
        self._own += 1
        name = f"own{self._own}"
        self.attempt_of[name] = attempt_key
        return name

    def _left(self, name: str) -> None:
        """Forget a host for one attempt, whose process has ended by itself."""
        self.ledger.say(f"host {name} is not needed any more")
        self.hosts.pop(name, None)
        self.attempt_of.pop(name, None)

    def start_host(self, name: str) -> None:
        """Start an instance if none of that name is alive; it knows which earlier ones are gone, if any."""
        if self.hosts.get(name) is not None:
            return
        self._lives += 1
        wire = Wire(rng=self.rng, kernel=lambda: self.kernel, say=self.ledger.say)
        self.wires.append(wire)
        host = SimulatedHost(
            incarnation=f"instance-{name}-{self._lives}",
            address=f"unix:{name}-{self._lives}",
            wire=wire,
            ledger=self.ledger,
            rng=self.rng,
            directory=self.directory / name,
            ended=tuple(self.gone),
            small_memory=self.rng.random() < 0.2,
            refuses=lambda: 0.0 if self.over else self.refuses,
            for_attempt=self.attempt_of.get(name, ""),
            on_left=lambda: self._left(name),
        )
        self.hosts[name] = host
        self.ledger.say(f"host {host.incarnation} up, knows to be gone: {self.gone}")
