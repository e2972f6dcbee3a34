"""The engine's interface to the rest of the kernel: each call is a turn of its loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from nomaflow_api.v1.letters import AttemptAck, AttemptReport, Verdict
from nomaflow_kernel.access.secret_params import SecretParams
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import JobUnavailable, KernelError, RemovedJob, UnknownRun
from nomaflow_kernel.engine import (
    attaching,
    explaining,
    pausing,
    rebuilding,
    repeated_requests,
    reporting,
    stopping,
    triggering,
)
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.commands import TriggerCommand, TriggerOutcome, UnrunCommand
from nomaflow_kernel.engine.demand import Demand, demand
from nomaflow_kernel.engine.fleet import Fleet, Instance
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceKey, InstanceLink, LoadInfo
from nomaflow_kernel.engine.loop import EngineLoop
from nomaflow_kernel.engine.overview import EngineOverview, count_open_runs, engine_overview, oldest_running
from nomaflow_kernel.engine.state import Batch, EngineSettings, EngineState
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.lookups import RunCount, StoreInfo
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import CancelRequest, Fold, PauseRecord, RunRecord
from nomaflow_kernel.history.transitions import SetNextFire
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store

_LOG = logging.getLogger(__name__)
_OF_THE_JOB = (JobUnavailable, RemovedJob)


class Engine:
    """Decides what happens to every run.

    :param on_ended: called once if the engine ends by itself, with the error: LeadLost if this kernel no longer leads,
        or a defect; the process should then end
    :param on_trouble: called with each store error that made a commit fail
    :param traceparent: returns the trace context of a run; None to use that of its trigger
    """

    def __init__(
        self,
        *,
        store: Store,
        info: StoreInfo,
        clock: Clock,
        jobs: Catalogue,
        feed: EventFeed,
        settings: EngineSettings,
        on_ended: Callable[[Exception], None] = lambda _: None,
        on_trouble: Callable[[StoreError], None] = lambda _: None,
        traceparent: Callable[[RunRecord], str] | None = None,
        secrets: SecretParams | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._state = EngineState(
            settings=settings,
            clock=clock,
            jobs=jobs,
            epoch=info.epoch,
            ids=RunIds(now_ms=lambda: clock.now_us() // 1000),
            rng=random.Random(),  # noqa: S311  # jitter of back-offs, nothing secret
            secrets=secrets or SecretParams(),
            fleet=Fleet(clock.monotonic(), clock.now_us()),
        )
        self.secrets = self._state.secrets
        """Opens secret params, for values that a host checks."""
        if traceparent is not None:
            self._state.traceparent = traceparent
        self._loop = EngineLoop(state=self._state, store=store, feed=feed, on_ended=on_ended, on_trouble=on_trouble)

    async def start(self) -> None:
        """Rebuild the state from the store and start.

        :raises StoreError: if the store cannot be read
        """
        await self._loop.start()

    async def stop(self) -> None:
        """Stop after the current turn; running attempts continue in their hosts. Stopping twice is allowed."""
        await self._loop.stop()

    # Calls from outside the engine.

    async def trigger_many(self, commands: Sequence[TriggerCommand]) -> Sequence[TriggerOutcome | KernelError]:
        """Start runs, or replays of some, in one commit, and answer once they are durable; a repeat gets its run.

        :returns: what became of each, or why it is refused, see ``triggering.draft_run``
        :raises UnknownRun: if there is no run to replay
        :raises StoreError: if the runs cannot be stored
        """
        outcomes: dict[int, TriggerOutcome | KernelError] = {}
        left = {index: await self._with_replayed(command) for index, command in enumerate(commands)}
        doubtful = [each for each in left.values() if repeated_requests.must_look_up(self._state, each)]
        while left:
            for index, outcome in (await self._trigger_round(left, doubtful)).items():
                if outcome is not None:
                    outcomes[index] = outcome
                    del left[index]
            doubtful = list(left.values())
        return [outcomes[index] for index in range(len(commands))]

    async def _trigger_round(
        self, commands: Mapping[int, TriggerCommand], doubtful: Sequence[TriggerCommand]
    ) -> repeated_requests.Decided:
        """Decide about commands in one turn, after asking the store for the request ids of the doubtful ones."""
        rebuilt = self._state.rebuilt
        looked_up = await repeated_requests.look_up(self._state, self._store, doubtful)

        def decide(batch: Batch) -> repeated_requests.Decided:
            known = looked_up if self._state.rebuilt == rebuilt else frozenset()  # a rebuild forgets what was found
            return {
                index: repeated_requests.trigger_once(self._state, batch, command, known)
                for index, command in commands.items()
            }

        settle = partial(repeated_requests.settle, self._state, commands)
        return await self._loop.ask(decide, settle, changed=repeated_requests.runs_made)

    async def _with_replayed(self, command: TriggerCommand) -> TriggerCommand:
        if not command.replay_of or command.replayed is not None:
            return command
        found = await self._store.run_details([command.replay_of], as_steps_see=True)
        if not found:
            raise UnknownRun(command.replay_of)
        return replace(command, replayed=found[0])

    async def draft(self, command: TriggerCommand) -> TriggerCommand:
        """Return a command with the draft of the run that it would create, as far as known now. Nothing is created.

        :raises KernelError: if the run would be refused, see ``triggering.draft_run``
        """
        command = await self._with_replayed(command)
        return replace(command, draft=triggering.draft_run(self._state, command))

    def warnings_of(self, drafted: TriggerCommand) -> tuple[str, ...]:
        """Return what the person who triggers a drafted command would be warned of, as far as known now.

        :raises BadRequest: if a key of op_kwargs is misspelt
        """
        return () if drafted.draft is None else triggering.warnings_of(self._state, drafted, drafted.draft)

    async def is_repeat(self, command: TriggerCommand) -> bool:
        """Return whether a request was accepted before."""
        await repeated_requests.look_up(self._state, self._store, [command])
        return command.request_id in self._state.request_ids

    async def fire(
        self,
        triggers: Sequence[TriggerCommand],
        *,
        unrun: Sequence[UnrunCommand] = (),
        next_fires: Sequence[SetNextFire] = (),
    ) -> None:
        """Trigger due fires, record fires that will not run, and store the next fires, in one commit.

        A job that refuses a fire does not hold up the others.

        :raises StoreError: if they cannot be stored; nothing was applied
        """

        def decide(batch: Batch) -> None:
            batch.transitions += next_fires
            for each in unrun:
                triggering.record_unrun(self._state, batch, each)
            for fire in triggers:
                try:
                    triggering.trigger(self._state, batch, fire)
                except KernelError as error:
                    level = logging.DEBUG if isinstance(error, _OF_THE_JOB) else logging.WARNING
                    _LOG.log(level, "the fire %s was refused: %s", fire.slot, error.message)
                    triggering.record_unrun(self._state, batch, _refused(fire, error))

        await self._loop.ask(decide, lambda result, _: triggering.settle_folds(self._state, result))

    def pause_of(self, job_id: str, host: str, at_us: int | None = None) -> PauseRecord | None:
        """Return the pause that applies to a job, now or at an instant, or None; without a job id that of a host."""
        return self._state.pause_of(job_id, host, at_us)

    async def cancel(self, run_id: str, *, by: str, why: str) -> None:
        """Request that a run stops; answers once the request is durable. One that is over or unknown is left alone."""

        def decide(batch: Batch) -> bool:
            request = CancelRequest(at_us=batch.now_us, by=by, why=why)
            return stopping.request_cancel(self._state, batch, run_id, request)

        await self._loop.ask(decide, changed=lambda found: {} if found else None)

    async def attach(self, hello: InstanceHello, link: InstanceLink) -> Sequence[Verdict]:
        """Attach an instance; return a verdict on each attempt of its inventory, once the verdicts are durable.

        The resulting orders are sent on the link after the verdicts' commit.

        :raises KernelError: if it has come for an attempt that is taken or not wanted
        """
        await rebuilding.recall_attempts(self._state, self._store, [item.attempt_key for item in hello.inventory])
        try:
            outcome = await self._loop.ask(
                lambda batch: attaching.attach(self._state, batch, hello, link), repeatable=False
            )
        except (StoreError, asyncio.CancelledError):
            # Sessions are not rebuilt from the store, and nobody knows of this one. If it attaches yet, this follows.
            self.detach(hello.key, link)
            raise
        if isinstance(outcome, KernelError):
            raise outcome
        return outcome

    def heartbeat(self, key: InstanceKey, info: HeartbeatInfo) -> None:
        """Record that an instance is alive, with its status."""
        instance = self._state.fleet.get(key)
        if instance is None:
            return
        served, was_silent = instance.serves, instance.unreachable
        workers = info.workers if info.workers is not None else instance.heartbeat.workers
        instance.take(replace(info, workers=workers), self._clock.monotonic(), self._clock.now_us())
        if instance.serves and not served:
            self._loop.touch(instance.host)
        if was_silent:
            self._loop.tell(partial(attaching.tell_here, "host.reattached", instance), repeatable=True)

    def look_again(self, host: str) -> None:
        """Check the waiting runs of a host again: an instance of it serves another manifest."""
        self._loop.touch(host)

    def loaded(self, key: InstanceKey, load: LoadInfo) -> None:
        """Record the result of an instance's newest load."""
        self._loop.tell(lambda batch: attaching.take_load(self._state, batch, key, load))

    def detach(self, key: InstanceKey, link: InstanceLink) -> None:
        """Record that a session has ended; the instance's clocks run on."""
        self._loop.tell(lambda batch: attaching.detach(self._state, batch, key, link))

    async def declare_ended(self, key: InstanceKey, *, evidence: str, by: str) -> int | None:
        """Fail the attempts of an instance that is certainly gone; return their number, None if it is not known."""
        return await self._loop.ask(
            lambda batch: attaching.declare_ended(self._state, batch, key, evidence=evidence, by=by),
            repeatable=False,
            changed=lambda ended: None if ended is None else {},
        )

    async def report(
        self,
        reporter: InstanceKey,
        reports: Sequence[AttemptReport],
        *,
        size: int,
        answer: Callable[[Sequence[AttemptAck]], None] | None = None,
    ) -> Sequence[AttemptAck]:
        """Record what an instance reports of attempts; the answers are true once this returns.

        :param size: the bytes of the reports
        :param answer: called with the answers right after the orders that follow from the events were sent
        :raises StoreError: if they cannot be stored; nothing was recorded, and the host sends them again
        """
        await rebuilding.recall_attempts(self._state, self._store, [told.attempt_key for told in reports])
        return await self._loop.ask(
            lambda batch: [reporting.report(self._state, batch, reporter, told) for told in reports],
            settle=None if answer is None else lambda _, acks: answer(acks),
            size=size,
        )

    async def set_pause(self, pause: PauseRecord) -> None:
        """Pause a job, a host or everything."""
        await self._loop.ask(lambda batch: pausing.set_pause(self._state, batch, pause), changed=lambda _: {})

    async def clear_pause(self, scope: str, name: str, *, by: str = "") -> bool:
        """End a pause; return whether there was one."""
        return await self._loop.ask(
            lambda batch: pausing.clear_pause(self._state, batch, scope, name, by=by),
            changed=lambda was_paused: {} if was_paused else None,
        )

    def pauses(self) -> Sequence[PauseRecord]:
        """Return every pause in effect."""
        now_us = self._clock.now_us()
        return [pause for pause in self._state.pauses.values() if pause.holds_at(now_us)]

    def instances(self) -> Sequence[Instance]:
        """Return every instance, including those that hold attempts from an earlier kernel and are awaited."""
        return list(self._state.fleet)

    def overview(self) -> EngineOverview:
        """Return counts of the engine's contents."""
        return engine_overview(self._state, turns=self._loop.turns)

    def demand(self) -> Sequence[Demand]:
        """Return the attempts that are due and wait for an instance, by host and by what they need."""
        found = demand(self._state)
        if self._state.wanted_specs:
            self._loop.wake()
        return found

    async def whole_demand(self) -> Sequence[Demand]:
        """Return the demand once the data of all runs in it is in memory: after a start, none is.

        :raises StoreError: if the data cannot be read
        """
        found = demand(self._state)
        if self._state.wanted_specs:
            await self._loop.load_wanted()
            found = demand(self._state)
        return found

    def launches(self, host: str, seconds: float) -> None:
        """Note that a launcher starts instances of a host when attempts wait, for so long."""
        self._state.fleet.launches(host, self._clock.monotonic() + seconds)

    def is_launched(self, host: str) -> bool:
        """Return whether a launcher does so."""
        return self._state.fleet.is_launched(host, self._clock.monotonic())

    def open_runs(self) -> Sequence[RunCount]:
        """Return the number of QUEUED runs by job, host and trigger kind, and each RUNNING run with its rows so far."""
        return list(count_open_runs(self._state))

    def deadline_us(self, run_id: str) -> int | None:
        """Return when the time of a RUNNING run is up; None without a limit, or for any other run."""
        run = self._state.active.get(run_id)
        return None if run is None else run.deadline_us

    def queued_at_us(self, run_id: str) -> int | None:
        """Return when a RUNNING run was queued; None if it is not running."""
        run = self._state.active.get(run_id)
        return None if run is None else run.record.queued_at_us

    def oldest_running(self, limit: int) -> Sequence[ActiveRun]:
        """Return the runs that have been RUNNING longest, oldest first."""
        return oldest_running(self._state, limit)

    def queued_count(self, host: str) -> int:
        """Return how many runs wait for a host: to start, or with an attempt that is due."""
        return self._state.waiting.count_of_host(host) + len(self._state.continuing.get(host, ()))

    def held_count(self, host: str) -> int:
        """Return how many attempts the instances of a host hold, those that are away included."""
        return self._state.fleet.held(host)

    def absent_since_us(self, host: str) -> int | None:
        """Return since when a host has no instance, at the earliest since the kernel's start; None if it has one."""
        absent = self._state.fleet.absent_since(host)
        return None if absent is None else absent[1]

    def holdup(self, run_id: str, attempts: Container[str] | None = None) -> Reason | None:
        """Return why a QUEUED or RUNNING run is not progressing; None if nothing blocks it.

        :param attempts: see :func:`explaining.holdup`
        """
        return explaining.holdup(self._state, run_id, attempts)

    def why_not_running(self, job_id: str) -> str:
        """Return in one sentence why no run of a job is running; empty if one is or nothing blocks it."""
        return explaining.why_not_running(self._state, job_id)

    def is_active(self, job_id: str) -> bool:
        """Return whether any run of a job waits or runs."""
        return self._state.is_active(job_id)

    def jobs_changed(self) -> None:
        """Check the waiting runs and the attempts that are due again: the catalogue has changed."""
        for lane in (*self._state.waiting.hosts(), *self._state.continuing):
            self._loop.touch(lane)

        def end_waiting(batch: Batch) -> None:
            stopping.end_unaccepted(self._state, batch)
            for host in self._state.waiting.hosts():
                stopping.end_stranded(self._state, batch, host)

        self._loop.tell(end_waiting, repeatable=True)


def _refused(fire: TriggerCommand, error: KernelError) -> UnrunCommand:
    once = Fold(first_us=fire.at_us, last_us=fire.at_us, count=1)
    reason = Reason("job_disabled" if isinstance(error, _OF_THE_JOB) else "fire_refused", error.problem)
    return UnrunCommand(job_id=fire.job_id, preset=fire.request.preset, fold=once, reason=reason)
