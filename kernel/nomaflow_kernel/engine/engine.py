"""The engine's interface to the rest of the kernel: each call is a turn of its loop."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from nomaflow_api.v1.letters import AttemptAck, AttemptReport, Verdict
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import JobUnavailable, KernelError, UnknownRun
from nomaflow_kernel.engine import (
    attaching,
    explaining,
    rebuilding,
    repeats,
    replaying,
    reporting,
    starting,
    stopping,
    triggering,
)
from nomaflow_kernel.engine.active import ActiveRun
from nomaflow_kernel.engine.commands import (
    EngineSettings,
    FireCommand,
    JobSource,
    KnownJob,
    ReplayCommand,
    TriggerCommand,
    TriggerOutcome,
    UnrunCommand,
)
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceLink, InstanceStatus, LoadInfo
from nomaflow_kernel.engine.loop import EngineLoop
from nomaflow_kernel.engine.overview import EngineOverview, engine_overview, oldest_running
from nomaflow_kernel.engine.plan import RunPlan
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import Timer, TimerKind
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.port import ApplyResult, PauseRecord, Store, StoreInfo
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import CancelRequest, Fold, RunRecord
from nomaflow_kernel.store.errors import StoreError

__all__ = ["Engine"]

_LOG = logging.getLogger(__name__)
_Outcomes = list[TriggerOutcome | KernelError]


class Engine:
    """Decides what happens to every run.

    :param on_ended: called once if the engine ends by itself, with the error: StaleEpoch if a newer kernel has taken
        the store over, or a defect; the process should then end
    :param on_trouble: called with each store error that made a commit fail
    :param traceparent: returns the trace context of a run; None to use that of its trigger
    """

    def __init__(
        self,
        *,
        store: Store,
        info: StoreInfo,
        clock: Clock,
        jobs: JobSource,
        feed: EventFeed,
        settings: EngineSettings,
        on_ended: Callable[[Exception], None] = lambda _: None,
        on_trouble: Callable[[StoreError], None] = lambda _: None,
        traceparent: Callable[[RunRecord], str] | None = None,
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
        )
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

    async def trigger(self, request: TriggerCommand) -> TriggerOutcome:
        """Start one run; answers once it is durable.

        :raises KernelError: if the run is refused, see ``triggering.trigger``
        :raises StoreError: if the run cannot be stored
        """
        outcome = (await self.trigger_many([request]))[0]
        if isinstance(outcome, KernelError):
            raise outcome
        return outcome

    async def trigger_many(self, requests: Sequence[TriggerCommand]) -> Sequence[TriggerOutcome | KernelError]:
        """Start many runs in one commit; each request has its own outcome."""

        def decide(batch: Batch) -> list[TriggerOutcome | KernelError]:
            return [self._try_trigger(batch, request) for request in requests]

        refused_for: list[int] = []

        def settle(result: ApplyResult, outcomes: list[TriggerOutcome | KernelError]) -> None:
            repeats.settle_duplicates(self._state, result, requests, outcomes)
            refused_for.extend(repeats.refused_for_duplicates(result, outcomes))

        outcomes = await self._decide_known(requests, decide, settle)
        refused_for.extend(await self._refused_repeats(requests, outcomes))
        if refused_for:
            again = [requests[index] for index in refused_for]
            await self._look_up(again)
            for index, outcome in zip(refused_for, await self.trigger_many(again), strict=True):
                outcomes[index] = outcome
        return outcomes

    def examine(self, request: TriggerCommand) -> tuple[KnownJob, RunPlan]:
        """Return the job and plan of the run that a trigger would create, as far as known now. Nothing is created.

        :raises KernelError: if the run would be refused, see ``triggering.trigger``
        """
        return triggering.examine(self._state, request)

    async def _refused_repeats(
        self, requests: Sequence[TriggerCommand], outcomes: Sequence[TriggerOutcome | KernelError]
    ) -> list[int]:
        """Return the indices of refused requests that are repeats of accepted ones.

        A repeat is answered with its run, whatever happened to the job since and however full the queue is.
        """
        doubtful = repeats.refused_unasked(self._state, requests, outcomes)
        await self._look_up([requests[index] for index in doubtful])
        return [index for index in doubtful if repeats.is_remembered(self._state, requests[index])]

    async def _decide_known(
        self,
        requests: Sequence[TriggerCommand],
        decide: Callable[[Batch], _Outcomes],
        settle: Callable[[ApplyResult, _Outcomes], None],
    ) -> _Outcomes:
        """Have requests decided, first looking up which of them are repeats if the decision depends on that.

        A rebuild forgets the lookup; if one came in between, the lookup is repeated.
        """
        rebuilt = self._state.rebuilt

        def decide_if_known(batch: Batch) -> _Outcomes | None:
            return decide(batch) if self._state.rebuilt == rebuilt else None

        def settle_decided(result: ApplyResult, outcomes: _Outcomes | None) -> None:
            if outcomes is not None:
                settle(result, outcomes)

        await self._look_up([each for each in requests if repeats.must_look_up(self._state, each)])
        outcomes = await self._loop.ask(decide_if_known, settle_decided)
        if outcomes is None:
            return await self._decide_known(requests, decide, settle)
        return outcomes

    async def _look_up(self, requests: Sequence[TriggerCommand]) -> None:
        """Look up the runs that repeated requests started."""
        wanted = [request.request_id for request in requests]
        for request_id, found in (await self._store.runs_of_requests(wanted) if wanted else {}).items():
            self._state.request_ids.put(request_id, found)

    def _try_trigger(self, batch: Batch, request: TriggerCommand) -> TriggerOutcome | KernelError:
        try:
            return triggering.trigger(self._state, batch, request)
        except KernelError as error:
            return error

    async def fire(self, command: FireCommand) -> None:
        """Trigger due fires, record fires that will not run, and store the next fires, in one commit.

        A job that refuses a fire does not hold up the others.

        :raises StoreError: if they cannot be stored; nothing was applied
        """

        def decide(batch: Batch) -> None:
            for kept in command.next_fires:
                batch.add(kept)
            for unrun in command.unrun:
                triggering.record_unrun(self._state, batch, unrun)
            for request in command.triggers:
                outcome = self._try_trigger(batch, request)
                if isinstance(outcome, KernelError):
                    level = logging.DEBUG if isinstance(outcome, JobUnavailable) else logging.WARNING
                    _LOG.log(level, "the fire %s was refused: %s", request.slot, outcome.message)
                    triggering.record_unrun(self._state, batch, _refused(request, outcome))

        await self._loop.ask(decide, lambda result, _: triggering.settle_folds(self._state, result))

    def pause_of(self, job_id: str, host: str, at_us: int | None = None) -> PauseRecord | None:
        """Return the pause that applies to a job, now or at an instant, or None."""
        return self._state.pause_of(job_id, host, at_us)

    async def cancel(self, run_id: str, *, by: str, why: str) -> None:
        """Request that a run stops; answers once the request is durable. A terminal run stays as it is.

        :raises UnknownRun: if there is no such run
        """

        def decide(batch: Batch) -> bool:
            request = CancelRequest(at_us=batch.now_us, by=by, why=why)
            return stopping.request_cancel(self._state, batch, run_id, request)

        if not await self._loop.ask(decide) and not await self._store.run_details([run_id]):
            raise UnknownRun(run_id)

    async def replay(self, request: ReplayCommand) -> str:
        """Start a new run from the snapshot of a finished one and return its id.

        :raises UnknownRun: if there is no such run
        :raises RunNotTerminal: if it has not finished
        :raises BadRequest: if the run does not have the step to start from
        """
        command, job, plan = await self.examine_replay(request)

        def decide(batch: Batch) -> list[TriggerOutcome | KernelError]:
            return [replaying.admit(self._state, batch, command, job, plan, request)]

        def settle(result: ApplyResult, outcomes: list[TriggerOutcome | KernelError]) -> None:
            repeats.settle_duplicates(self._state, result, [command], outcomes)

        outcome = (await self._decide_known([command], decide, settle))[0]
        if isinstance(outcome, KernelError):
            raise outcome
        return outcome.run_id

    async def examine_replay(self, request: ReplayCommand) -> tuple[TriggerCommand, KnownJob, RunPlan]:
        """Return the trigger, the job as it was, and the plan of a replay. Nothing is created.

        :raises KernelError: as `replay`
        """
        found = await self._store.run_details([request.run_id])
        if not found:
            raise UnknownRun(request.run_id)
        return replaying.prepare(self._state, found[0], request)

    async def attach(self, hello: InstanceHello, link: InstanceLink) -> Sequence[Verdict]:
        """Attach an instance; return a verdict on each attempt of its inventory, once the verdicts are durable.

        The resulting orders are sent on the link after the verdicts' commit.
        """
        await rebuilding.recall_attempts(self._state, self._store, [item.attempt_key for item in hello.inventory])
        try:
            return await self._loop.ask(
                lambda batch: attaching.attach(self._state, batch, hello, link), repeatable=False
            )
        except StoreError:
            # Sessions are not rebuilt from the store, and nobody has been told of this one.
            self.detach(hello.incarnation, link)
            raise

    def heartbeat(self, incarnation: str, info: HeartbeatInfo) -> None:
        """Record that an instance is alive, with its status."""
        instance = self._state.fleet.get(incarnation)
        if instance is None:
            return
        served = instance.serves
        workers = info.workers if info.workers is not None else instance.heartbeat.workers
        instance.heartbeat = replace(info, workers=workers)
        instance.last_heard, instance.last_heard_us = self._clock.monotonic(), self._clock.now_us()
        instance.unreachable = False
        if instance.serves and not served:
            self._loop.touch(instance.host)

    def loaded(self, incarnation: str, load: LoadInfo) -> None:
        """Record the result of an instance's newest load."""
        self._loop.tell(lambda batch: attaching.take_load(self._state, batch, incarnation, load))

    def detach(self, incarnation: str, link: InstanceLink) -> None:
        """Record that a session has ended; the instance's clocks run on."""
        self._loop.tell(lambda batch: attaching.detach(self._state, batch, incarnation, link))

    async def report(self, incarnation: str, reports: Sequence[AttemptReport]) -> Sequence[AttemptAck]:
        """Record events of attempts; the answers are true once this returns.

        :raises StoreError: if they cannot be stored; nothing was recorded, and the host sends them again
        """
        unknown = [told.attempt_key for told in reports if self._is_unknown(told.attempt_key)]
        if unknown:
            await rebuilding.recall_attempts(self._state, self._store, unknown)
        return await self._loop.ask(
            lambda batch: [reporting.report(self._state, batch, incarnation, told) for told in reports]
        )

    def _is_unknown(self, attempt_key: str) -> bool:
        state = self._state
        return reporting.find_attempt(state, attempt_key) is None and attempt_key not in state.ended

    async def set_pause(self, pause: PauseRecord) -> None:
        """Pause a job, a host or everything."""
        async with self._loop.changing_pauses():
            await self._store.set_pause(pause)
        self._state.keep_pause(pause)
        if pause.until_us is not None:
            seconds = max(0.0, (pause.until_us - self._clock.now_us()) / 1_000_000)
            self._state.timers.add(self._clock.monotonic() + seconds, Timer(kind=TimerKind.PAUSE_END))
        self._loop.wake()

    async def clear_pause(self, scope: str, name: str) -> bool:
        """End a pause; return whether there was one."""
        return await self._loop.clear_pause(scope, name)

    def pauses(self) -> Sequence[PauseRecord]:
        """Return every pause in effect."""
        now_us = self._clock.now_us()
        return [pause for pause in self._state.pauses.values() if pause.holds_at(now_us)]

    def instances(self) -> Sequence[InstanceStatus]:
        """Return every instance that has introduced itself."""
        return self._state.fleet.statuses()

    def overview(self) -> EngineOverview:
        """Return counts of the engine's contents."""
        return engine_overview(self._state, turns=self._loop.turns)

    def queued_at_us(self, run_id: str) -> int | None:
        """Return when a RUNNING run was queued; None if it is not running."""
        run = self._state.active.get(run_id)
        return None if run is None else run.record.queued_at_us

    def oldest_running(self, limit: int) -> Sequence[ActiveRun]:
        """Return the runs that have been RUNNING longest, oldest first."""
        return oldest_running(self._state, limit)

    def queued_count(self, host: str) -> int:
        """Return how many runs wait for a host."""
        return self._state.waiting.count_of_host(host)

    def holdup(self, run_id: str) -> Reason | None:
        """Return why a QUEUED or RUNNING run is not progressing; None if nothing blocks it."""
        return explaining.holdup(self._state, run_id)

    def why_not_running(self, job_id: str) -> str:
        """Return in one sentence why no run of a job is running; empty if one is or nothing blocks it."""
        return starting.why_not_running(self._state, job_id)

    def current_step(self, run_id: str) -> str:
        """Return the name of a RUNNING run's current step, or an empty string."""
        run = self._state.active.get(run_id)
        return run.current.step.name if run is not None and run.current is not None else ""

    def jobs_changed(self) -> None:
        """Check the queue again: the catalogue or a pause has changed."""
        for host in self._state.waiting.hosts():
            self._loop.touch(host)
        if stopping.stranded(self._state):
            self._loop.tell(lambda batch: stopping.end_stranded(self._state, batch))


def _refused(request: TriggerCommand, error: KernelError) -> UnrunCommand:
    once = Fold(first_us=request.at_us, last_us=request.at_us, count=1)
    code = "job_disabled" if isinstance(error, JobUnavailable) else "fire_refused"
    return UnrunCommand(job_id=request.job_id, preset=request.preset, fold=once, reason=Reason(code, error.message))
