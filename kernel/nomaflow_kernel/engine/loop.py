"""The engine's loop: it takes waiting turns, decides, commits once, and only then acts.

It is the only place where the state changes. While one commit is under way it decides the next one ahead; see
docs/decisions/2026-11-24-processes-and-contracts.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from nomaflow_kernel.access.audited_calls import CALL
from nomaflow_kernel.domain.errors import KernelError, KernelStopping
from nomaflow_kernel.engine import pausing, rebuilding, silence, starting, stopping
from nomaflow_kernel.engine.decisions import Decisions
from nomaflow_kernel.engine.inbox import Inbox, Turn
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import ApplyResult
from nomaflow_kernel.history.transitions import AppendLog, Notice, Transition
from nomaflow_kernel.store.errors import LeadLost, StoreBusy, StoreError, StoreUnavailable
from nomaflow_kernel.store.sql_store import Store

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_REBUILD_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0)
_PUBLISHED_TOGETHER = 500
_MOST_BYTES = 16 * 1024 * 1024
"""The reports in one commit, up to one more: a commit of a gigabyte takes longer than the lease of a kernel lasts."""
_ON_TIMER: Mapping[TimerKind, Callable[[EngineState, Batch, str], None]] = {
    TimerKind.ATTEMPT_DUE: starting.attempt_due,
    TimerKind.QUEUE_TIMEOUT: stopping.queue_timed_out,
    TimerKind.JOB_TIMEOUT: stopping.job_timed_out,
    TimerKind.CALL_TIMEOUT: stopping.call_timed_out,
    TimerKind.HOST_CLOCKS: silence.check_clocks,
    TimerKind.PAUSE_END: pausing.end_pause,
    TimerKind.HOST_AWAY: stopping.end_stranded,
}


class EngineLoop:
    """Turns inputs into commits, and commits into effects.

    :param on_ended: called once if the loop ends by itself, with the error: LeadLost if this kernel no longer leads,
        or a defect
    :param on_trouble: called with each store error that made a commit fail
    """

    def __init__(
        self,
        *,
        state: EngineState,
        store: Store,
        feed: EventFeed,
        on_ended: Callable[[Exception], None],
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        self._state = state
        self._clock = state.clock
        self._store = store
        self._feed = feed
        self._on_ended = on_ended
        self._on_trouble = on_trouble
        self._inbox = Inbox()
        self._unanswered = [Decisions()]  # the last is open and receives new decisions
        self._committing: tuple[Decisions, asyncio.Future[ApplyResult]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0  # of commits, since the last one that was done
        self._side_tasks: set[asyncio.Task[None]] = set()

    @property
    def turns(self) -> int:
        """The number of inputs that wait for their turn."""
        return len(self._inbox)

    async def start(self) -> None:
        """Rebuild the state from the store and start."""
        await self._rebuild()
        self._task = asyncio.create_task(self._run(), name="engine")

    async def stop(self) -> None:
        """Stop after the current turn. Stopping twice is allowed."""
        self._inbox.close()
        task, self._task = self._task, None
        if task is not None:
            await task
        for loading in self._side_tasks:
            loading.cancel()
        await asyncio.gather(*self._side_tasks, return_exceptions=True)

    async def ask(
        self,
        decide: Callable[[Batch], _T],
        settle: Callable[[ApplyResult, _T], None] | None = None,
        *,
        repeatable: bool = True,
        changed: Callable[[_T], Mapping[int, str] | None] | None = None,
        size: int = 0,
    ) -> _T:
        """Have ``decide`` called in the next turn, and return its answer once the decision is durable.

        :param settle: corrects the answer with the store's result
        :param repeatable: False if it changes state that is not rebuilt from the store: it is then never decided ahead
        :param changed: returns the runs that an answer creates, see ``AuditedCall.rows_with_runs``; for the audit of
            the call under way, whose rows are stored with the change
        :param size: bytes that the decision adds to its commit, where that may be many
        :raises KernelStopping: if the loop is stopping
        :raises StoreError: if the commit failed; nothing was applied
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        call = CALL.get()
        audit = None if call is None or changed is None else lambda answer: call.rows_with_runs(changed(answer))
        turn = Turn(decide=decide, settle=settle, future=future, repeatable=repeatable, audit=audit, size=size)
        if not self._inbox.put(turn):
            raise KernelStopping
        try:
            return await future
        except asyncio.CancelledError:
            self._inbox.withdraw(turn)  # it may have megabytes of reports, which nobody counts from now on
            raise

    def tell(self, decide: Callable[[Batch], object], *, repeatable: bool = False) -> None:
        """Have ``decide`` called in the next turn, without an answer; again after a failed commit if it is repeatable.

        :param repeatable: whether it changes only state that is rebuilt from the store
        """
        self._inbox.put(Turn(decide=decide, settle=None, future=None, repeatable=repeatable))

    def touch(self, host: str) -> None:
        """Have the waiting runs of a host checked again."""
        self._state.dirty_hosts.add(host)
        self._inbox.wake()

    def wake(self) -> None:
        """Have timers and the lanes that have changed checked again."""
        self._inbox.wake()

    async def _run(self) -> None:
        try:
            while await self._inbox.wait(self._seconds_to_next_timer()):
                await self._step()
            if self._committing is not None:
                await asyncio.wait([self._committing[1]])
                await self._finish(*self._committing)
        except Exception as error:  # noqa: BLE001  # without the loop every call would wait in vain
            self._inbox.close()
            if isinstance(error, LeadLost):
                _LOG.error("the engine ends: %s", error.message)
            else:
                _LOG.exception("the engine has failed, and the kernel must end")
            self._fail_all(error if isinstance(error, KernelError) else KernelStopping())
            self._on_ended(error)
        self._fail_all(KernelStopping())

    def _fail_all(self, error: Exception) -> None:
        for decisions in self._unanswered:
            _fail(decisions.turns, error)
        _fail(self._inbox.take(), error)

    def _seconds_to_next_timer(self) -> float | None:
        due = self._state.timers.next_due()
        # Timers are checked between two commits: the end of the current one wakes the loop.
        return None if due is None or self._committing is not None else max(0.0, due - self._clock.monotonic())

    async def _step(self) -> None:
        """Take the next step: begin a commit, finish it, or decide the next one while it is under way."""
        if self._committing is None:
            decisions = self._decide_rest()
            if not self._begin(decisions):
                self._act(decisions, ApplyResult())
        elif self._committing[1].done():
            await self._finish(*self._committing)
        else:
            ahead = self._unanswered[-1]
            ahead.decide(self._inbox.take_repeatable(_MOST_BYTES - ahead.size), self._clock)
            starting.start_due(self._state, ahead)

    def _decide_rest(self) -> Decisions:
        """Decide waiting turns and timers; return them with decisions made ahead. No commit is under way.

        All turns, unless they would make the commit too large.
        """
        decisions = self._unanswered[-1]
        self._unanswered.append(Decisions())
        decisions.decide(self._inbox.take(_MOST_BYTES - decisions.size), self._clock)
        self._fire_timers(decisions)
        starting.start_due(self._state, decisions)
        decisions.wanted_specs, self._state.wanted_specs = self._state.wanted_specs, set()
        return decisions

    def _begin(self, decisions: Decisions) -> bool:
        """Begin the commit of the decisions; return False if they change nothing."""
        decisions.add_audit()
        if not decisions.transitions:
            return False
        decisions.published = self._feed.last_seq
        commit = asyncio.ensure_future(self._store.apply(decisions.transitions, at_us=decisions.now_us))
        commit.add_done_callback(lambda _: self._inbox.wake())
        self._committing = decisions, commit
        return True

    async def _finish(self, decisions: Decisions, commit: asyncio.Future[ApplyResult]) -> None:
        """Act on a durable commit once the next one is on its way; start over if the commit failed."""
        self._committing = None
        ahead = self._unanswered[-1]
        try:
            result = commit.result()
        except LeadLost:
            raise
        except StoreError as error:
            self._unanswered.remove(decisions)
            _fail(decisions.turns, error)
            await self._start_over(decisions, error)
            return
        self._failures = 0
        for run_id in result.duplicates:
            rebuilding.discard(self._state, run_id)
        decisions.drop_dispatches(result.duplicates)
        ahead.drop(result.duplicates)
        unexpected = result.lost - result.dropped
        if unexpected or self._inbox.closed:
            self._act(decisions, result)
        else:
            following = self._decide_rest()
            begun = self._begin(following)
            self._act(decisions, result)
            if not begun:
                self._act(following, ApplyResult())
        if unexpected:
            _LOG.error("%d transitions had lost their state; rebuilding from the store", len(unexpected))
            self._take_back()
            await self._rebuild_until_it_works(self._feed.last_seq)

    def _act(self, decisions: Decisions, result: ApplyResult) -> None:
        """Tell hosts, watchers and callers what is durable now; hosts first, since they have work to do."""
        self._unanswered.remove(decisions)
        for key, orders in decisions.orders.items():
            instance = self._state.fleet.get(key)
            if instance is not None and instance.link is not None:
                instance.link.send(orders)
        if result.events:
            self._feed.publish(result.events)
        for run_id in {each.chunk.run_id for each in decisions.transitions if isinstance(each, AppendLog)}:
            self._feed.touch_log(run_id)
        decisions.settle(result)
        if decisions.wanted_specs:
            # Not earlier: some of the runs may have been stored only now.
            loading = asyncio.create_task(self._load_specs(sorted(decisions.wanted_specs)))
            self._side_tasks.add(loading)
            loading.add_done_callback(self._side_tasks.discard)

    async def _start_over(self, failed: Decisions, error: StoreError) -> None:
        """Continue from the store after a failed commit. Decisions made ahead of it are made again.

        Repeatable turns that nobody waits for are decided again too. A store that goes on failing is asked less often.
        """
        _LOG.warning("a commit has failed: %s", error.message)
        self._on_trouble(error)
        self._take_back()
        self._inbox.put_back([turn for turn in failed.turns if turn.future is None and turn.repeatable])
        self._unanswered[-1].transitions += [each for each in failed.transitions if _holds_anyway(each)]
        if isinstance(error, StoreBusy):
            # Callers that came meanwhile have waited for the same lock, and do not wait for it twice.
            _fail(self._inbox.take_asked(), error)
        if self._failures:
            await self._inbox.pause(_REBUILD_DELAYS[min(self._failures, len(_REBUILD_DELAYS)) - 1])
        self._failures += 1
        in_doubt = isinstance(error, StoreUnavailable) and error.outcome_unknown
        await self._rebuild_until_it_works(failed.published, in_doubt=in_doubt)

    def _take_back(self) -> None:
        self._inbox.put_back(self._unanswered.pop().turns)
        self._unanswered.append(Decisions())

    def _fire_timers(self, batch: Batch) -> None:
        for (kind, subject), _ in self._state.timers.take_due(batch.now):
            _ON_TIMER[kind](self._state, batch, subject)

    # Loading and rebuilding.

    async def load_wanted(self) -> None:
        """Load the data of the waiting runs that are wanted now.

        :raises StoreError: if it cannot be read
        """
        await rebuilding.load_specs(self._state, self._store, sorted(self._state.wanted_specs))
        # A run that was decided ahead of a commit is not in the store yet: it is still wanted.
        self._state.wanted_specs.difference_update(self._state.specs)
        self.wake()

    async def _load_specs(self, run_ids: Sequence[str]) -> None:
        try:
            await rebuilding.load_specs(self._state, self._store, run_ids)
        except StoreError as error:
            _LOG.warning("could not load %d waiting runs yet: %s", len(run_ids), error.message)
            await self._inbox.pause(1.0)
            waiting = (self._state.waiting.get(run_id) for run_id in run_ids)
            self._state.dirty_hosts.update(entry.host for entry in waiting if entry is not None)
        self.wake()

    async def _rebuild(self) -> None:
        await rebuilding.rebuild(self._state, self._store)
        silence.set_timer(self._state, self._clock.monotonic())

    async def _publish_kept(self, published: int) -> None:
        """Publish what a commit in doubt has stored after all: nobody else publishes it."""
        more = True
        while more:
            page = await self._store.events_after(published, limit=_PUBLISHED_TOGETHER)
            self._feed.publish(page.events)
            published, more = page.next_seq, page.next_seq > 0
        for run_id in self._state.active:
            self._feed.touch_log(run_id)

    async def _rebuild_until_it_works(self, published: int, *, in_doubt: bool = False) -> None:
        """Rebuild the state from the store, trying until the store can be read.

        :param published: the newest event that was certainly published
        :param in_doubt: whether the last commit may still be done: a write comes before what is read then, after which
            it cannot be done any more
        """
        delays = iter(_REBUILD_DELAYS)
        delay = 0.0
        while not self._inbox.closed:
            try:
                if in_doubt:
                    await self._store.ping()
                await self._rebuild()
                if in_doubt:
                    rebuilding.send_again(self._state, self._clock.monotonic())
                await self._publish_kept(published)
            except LeadLost:
                raise
            except StoreError as error:
                delay = next(delays, delay)
                _LOG.warning("cannot read the store, trying again in %.1f s: %s", delay, error.message)
                await self._inbox.pause(delay)
            else:
                return


def _holds_anyway(transition: Transition) -> bool:
    """Return whether it tells of a host's absence: the sessions stay as they are, and nothing else would tell of it."""
    return isinstance(transition, Notice) and transition.kind in ("host.detached", "host.unreachable")


def _fail(turns: Sequence[Turn], error: Exception) -> None:
    for turn in turns:
        turn.fail(error)
