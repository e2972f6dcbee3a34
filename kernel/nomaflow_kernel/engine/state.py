"""The engine's whole state, and the batch of decisions for its next commit.

The state is a function of the store: if a commit fails, the state is discarded and rebuilt. So handlers may change it
as they decide; nothing leaves the kernel before the commit.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct

from nomaflow_api.v1.letters import CancelOrder, DispatchOrder
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.fleet import Fleet, Instance
from nomaflow_kernel.engine.host_messages import InstanceKey
from nomaflow_kernel.engine.run_plan import RunPlan, lane_of, plan_run
from nomaflow_kernel.engine.run_queue import WaitingRuns
from nomaflow_kernel.engine.timers import DueTimes, TimerKind
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.lookups import EndedAttempt, RunOfRequest
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import PauseRecord, RunRecord, RunRequest
from nomaflow_kernel.history.transitions import FinishRun, Transition
from nomaflow_project.jobs.definitions import JobDefinition

Timer = tuple[TimerKind, str]
"""A timer, with the run, the pause or the host that it is for. Only the newest due time of each counts."""

_OF_RUN = (TimerKind.ATTEMPT_DUE, TimerKind.QUEUE_TIMEOUT, TimerKind.JOB_TIMEOUT, TimerKind.CALL_TIMEOUT)

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class RecentlyUsed(OrderedDict[_K, _V]):
    """A bounded dict that drops the least recently used entries. Use `put` and `find`, which note the use."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def find(self, key: _K) -> _V | None:
        """Return the value, or None."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def put(self, key: _K, value: _V) -> None:
        """Keep a value."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.size:
            self.popitem(last=False)


class EngineSettings(Struct, frozen=True, kw_only=True):
    """The engine's time limits and bounds, in seconds unless stated otherwise.

    :param lease_seconds: silence after which a host gets no new work
    :param grace_seconds: silence after which, plus ``grace_margin_seconds``, attempts are LOST
    :param max_waiting: the most runs that wait; of a host, as many as then there is still room for
    :param max_waiting_of_author: the most waiting runs of one user or service
    """

    lease_seconds: float = 20.0
    grace_seconds: float = 600.0
    grace_margin_seconds: float = 30.0
    max_waiting: int = 1_000_000
    max_waiting_of_author: int = 10_000


@dataclass(kw_only=True, slots=True)
class Batch:
    """The engine's decisions for one commit.

    :param now_us: wall time of the turn that decides; 0 before the first
    :param now: monotonic time of that turn
    :param orders: instance → orders to send after the commit
    """

    now_us: int = 0
    now: float = 0.0
    transitions: list[Transition] = field(default_factory=list)
    orders: dict[InstanceKey, list[DispatchOrder | CancelOrder]] = field(default_factory=dict)

    def add(self, transition: Transition) -> None:
        """Add a transition."""
        self.transitions.append(transition)

    def send(self, instance: InstanceKey, order: DispatchOrder | CancelOrder) -> None:
        """Send an order to an instance after the commit."""
        self.orders.setdefault(instance, []).append(order)

    def drop_dispatches(self, run_ids: Container[str]) -> None:
        """Cancel the dispatches of some runs."""
        for instance, orders in self.orders.items():
            self.orders[instance] = [
                order for order in orders if not (isinstance(order, DispatchOrder) and order.run_id in run_ids)
            ]


@dataclass(kw_only=True, slots=True)
class EngineState:
    """The engine's memory.

    :param running: job id → ids of its RUNNING runs
    :param continuing: host → RUNNING runs whose attempt is PENDING and due, in order
    :param specs: the data of waiting runs that may start soon
    :param parents: child run id → the run whose call_job step waits for it
    :param ended_children: ends of runs that call_job steps wait for, with the extras of the last step that ran
    :param last_folds: (job, preset) → the SKIPPED or MISSED run that takes the next unrun fire with the same reason
    :param plans: digest of a definition → the plan of its runs without requests of their own
    :param invalid: attempts with an invalid report that has been logged, and the instance that sent the first one
    :param dirty_hosts: hosts with a change that may let a run start
    :param wanted_specs: waiting runs whose turn it is and whose spec must be loaded first
    :param clocks_looked_at: when the hosts' silence was last checked; None before the first check
    :param traceparent: returns the trace context for a run's attempts and the runs it calls; empty for none. By default
        it is the context of the run's trigger
    :param secrets: seals and opens secret params
    :param rebuilt: how many times the state was discarded and read again
    """

    settings: EngineSettings
    clock: Clock
    jobs: Catalogue
    epoch: int
    ids: RunIds
    rng: random.Random
    active: dict[str, ActiveRun] = field(default_factory=dict)
    waiting: WaitingRuns = field(default_factory=WaitingRuns)
    fleet: Fleet = field(default_factory=Fleet)
    timers: DueTimes[Timer, float] = field(default_factory=DueTimes)
    running: dict[str, set[str]] = field(default_factory=dict)
    continuing: dict[str, deque[str]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    ended_children: deque[tuple[FinishRun, bytes]] = field(default_factory=deque)
    pauses: dict[tuple[str, str], PauseRecord] = field(default_factory=dict)
    last_folds: dict[tuple[str, str], RunRecord] = field(default_factory=dict)
    specs: RecentlyUsed[str, ActiveRun] = field(default_factory=lambda: RecentlyUsed(4096))
    plans: RecentlyUsed[str, RunPlan] = field(default_factory=lambda: RecentlyUsed(4096))
    ended: RecentlyUsed[str, EndedAttempt] = field(default_factory=lambda: RecentlyUsed(20_000))
    invalid: RecentlyUsed[str, str] = field(default_factory=lambda: RecentlyUsed(1000))
    request_ids: RecentlyUsed[str, RunOfRequest] = field(default_factory=lambda: RecentlyUsed(20_000))
    dirty_hosts: set[str] = field(default_factory=set)
    wanted_specs: set[str] = field(default_factory=set)
    traceparent: Callable[[RunRecord], str] = lambda record: record.request.traceparent
    secrets: SecretParams = field(default_factory=SecretParams)
    clocks_looked_at: float | None = None
    rebuilt: int = 0

    def pause_of(self, job_id: str, host: str, at_us: int | None = None) -> PauseRecord | None:
        """Return the pause that applies to a job, now or at an instant, or None.

        A pause that has ended may stay here for a while: the fires in its time may be judged later.
        """
        if not self.pauses:
            return None
        at_us = self.clock.now_us() if at_us is None else at_us
        for key in (("all", ""), ("host", host), ("job", job_id)):
            pause = self.pauses.get(key)
            if pause is not None and pause.holds_at(at_us):
                return pause
        return None

    def plan(self, definition: JobDefinition, request: RunRequest) -> RunPlan:
        """Return the plan of a run; all runs of a definition without requests of their own share one."""
        if request.changes_plan:
            return plan_run(definition, request)
        plan = self.plans.find(definition.digest)
        if plan is None:
            plan = plan_run(definition, request)
            self.plans.put(definition.digest, plan)
        return plan

    def refusal_of(self, run: ActiveRun) -> Reason | None:
        """Return why no step of a run may start: its host no longer accepts the job. None if they may."""
        job = self.jobs.job(run.job_id)
        if job is None or not job.unaccepted or job.host != run.host:
            return None
        return Reason("job_disabled", job.why_not_valid)

    def await_turn(self, run: ActiveRun) -> None:
        """Put a run whose attempt is due in line: for a slot of its host, or for the start of the run that it calls."""
        lane = lane_of(run.attempt.step, run.host)
        self.continuing.setdefault(lane, deque()).append(run.run_id)
        self.dirty_hosts.add(lane)

    def ends(self, batch: Batch, end: FinishRun, *, extras_json: bytes = b"") -> None:
        """Record the end of a run; the call_job step that waits for it, if there is one, ends before the commit.

        :param extras_json: extras returned by the last step that ran
        """
        batch.add(end)
        if end.run_id in self.parents:
            self.ended_children.append((end, extras_json))

    def leave(self, run: ActiveRun) -> None:
        """Remove a run from the RUNNING ones, and have the lanes checked in which a run may start instead."""
        self.active.pop(run.run_id, None)
        self.stop_timers(run.run_id)
        siblings = self.running.get(run.job_id, set())
        siblings.discard(run.run_id)
        if not siblings:
            self.running.pop(run.job_id, None)
        self.dirty_hosts.add(run.host)
        self.dirty_hosts.update(self.waiting.lanes_of_job(run.job_id))

    def stop_timers(self, run_id: str) -> None:
        """Stop the timers of a run that is over."""
        for kind in _OF_RUN:
            self.timers.put((kind, run_id), None)

    def release(self, run: ActiveRun) -> None:
        """Free the slot of a run's attempt, if it has one."""
        instance = self.fleet.get(run.instance)
        if instance is not None:
            instance.release(run.attempt.key)
            self.dirty_hosts.add(instance.host)

    def heard_of(self, run: ActiveRun) -> None:
        """Note that the first report on a run's attempt has come; its host is looked at if it had too much to read."""
        instance = self.fleet.get(run.instance)
        if instance is not None:
            if instance.behind:
                self.dirty_hosts.add(instance.host)
            instance.read(run.attempt.key)

    def forget(self, instance: Instance, now: float, now_us: int) -> None:
        """Forget an instance that has left; the runs that wait for its host are looked at if it was the last one."""
        self.fleet.remove(instance.key, now, now_us)
        if not self.fleet.has_instance(instance.host):
            self.timers.put((TimerKind.HOST_AWAY, instance.host), now)

    def is_active(self, job_id: str) -> bool:
        """Return whether any run of the job is waiting or running."""
        return bool(self.running.get(job_id)) or self.waiting.count_of_job(job_id) > 0
