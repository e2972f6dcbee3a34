"""The state as a function of the store: at start, after a failed commit, and for data no longer in memory."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.engine import attaching
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.next_try import longest_delay
from nomaflow_kernel.engine.orders import cancel_order, dispatch_order
from nomaflow_kernel.engine.pausing import restore_pauses
from nomaflow_kernel.engine.reporting import find_attempt
from nomaflow_kernel.engine.run_queue import WaitingRuns
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.engine.timers import DueTimes, TimerKind
from nomaflow_kernel.history.lookups import EndedAttempt, RunDetail
from nomaflow_kernel.history.records import QueuedRun
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.store.sql_store import Store

_MISSING = EndedAttempt(job_id="", host="", incarnation="", state=AttemptState.LOST, final_seq=0, exists=False)


async def rebuild(state: EngineState, store: Store) -> None:
    """Discard everything known about runs and read it again. Sessions of hosts and their clocks stay, and what waits.

    A wait that this kernel has begun ends when it would have, whatever became of the wall clock. The wall clock alone
    tells what is left of one that an earlier kernel began: nothing else is the same for two processes.

    :raises StoreError: if the store cannot be read
    """
    found = await store.active_runs()
    pauses = await store.pauses()
    now, now_us = state.clock.monotonic(), state.clock.now_us()
    earlier, timers = state.active, state.timers
    state.active, state.running, state.parents = {}, {}, {}
    state.ended_children.clear()
    state.waiting, state.continuing = WaitingRuns(), {}
    state.wanted_specs, state.last_folds = set(), {}
    state.rebuilt += 1
    state.request_ids.clear()
    state.specs.clear()
    state.timers = DueTimes()
    restore_pauses(state, pauses, now, now_us)
    for instance in state.fleet:
        instance.drop_all()
        ended = state.ended.get(instance.hello.for_attempt)
        instance.used = ended is not None and ended.incarnation == instance.incarnation
    for detail in found.running:
        _restore(state, detail, earlier.get(detail.run.run_id), now, now_us)
    for entry in found.queued:
        _requeue(state, entry, timers.get((TimerKind.QUEUE_TIMEOUT, entry.run_id)), now, now_us)
    for instance in state.fleet:
        if not instance.introduced and not instance.attempts:
            state.fleet.remove(instance.key, now, now_us)
    for host in state.waiting.hosts():
        state.timers.put((TimerKind.HOST_AWAY, host), now)
    state.dirty_hosts.update(state.waiting.hosts())
    state.dirty_hosts.update(state.continuing)


def _restore(state: EngineState, detail: RunDetail, earlier: ActiveRun | None, now: float, now_us: int) -> None:
    run = ActiveRun.stored(detail)
    run.restore(detail.attempts)
    state.active[run.run_id] = run
    state.running.setdefault(run.job_id, set()).add(run.run_id)
    limit = run.definition.timeout_seconds
    if limit is not None:
        run.due = earlier.due if earlier is not None else now + _left(limit, run.started_at_us, now_us)
        state.timers.put((TimerKind.JOB_TIMEOUT, run.run_id), run.due)
    current = run.current
    if current is None:
        return
    known = earlier.current if earlier is not None else None
    if known is not None and known.key == current.key:
        current.due, current.call_due = known.due, known.call_due
    else:
        current.due = now + min((current.not_before_us - now_us) / 1_000_000, longest_delay(current))
        # Its start is the latest time that is recorded.
        current.call_due = now + _left(current.step.timeout_seconds or 0, run.latest_us, now_us)
    if current.child_run_id:
        state.parents[current.child_run_id] = run.run_id
        if current.step.timeout_seconds is not None:
            state.timers.put((TimerKind.CALL_TIMEOUT, run.run_id), current.call_due)
    elif current.state is not AttemptState.PENDING:
        attaching.await_instance(state, run, now, now_us)
    elif current.due > now:
        state.timers.put((TimerKind.ATTEMPT_DUE, run.run_id), current.due)
    else:
        state.await_turn(run)


def _requeue(state: EngineState, entry: QueuedRun, due: float | None, now: float, now_us: int) -> None:
    state.waiting.add(entry)
    if entry.queue_timeout_seconds is not None:
        if due is None:
            due = now + _left(entry.queue_timeout_seconds, entry.queued_at_us, now_us)
        state.timers.put((TimerKind.QUEUE_TIMEOUT, entry.run_id), due)


def _left(seconds: float, since_us: int, now_us: int) -> float:
    """Return what is left of a time: all of it, if the clock went back to before its start."""
    return seconds - max(0, now_us - since_us) / 1_000_000


def send_again(state: EngineState, now: float) -> None:
    """Send again the orders that attached hosts may have missed, because their commit was in doubt.

    The key makes a repeated dispatch harmless; a repeated cancel changes nothing.
    """
    for run in state.active.values():
        current = run.current
        instance = None if current is None else state.fleet.get(run.instance)
        if current is None or instance is None or instance.link is None:
            continue
        if current.state is AttemptState.DISPATCHED:
            instance.link.send([dispatch_order(state, run, instance, now)])
        if run.cancel is not None:
            instance.link.send([cancel_order(current.key, run.cancel)])


async def load_specs(state: EngineState, store: Store, run_ids: Sequence[str]) -> None:
    """Load the data that waiting runs need to start, and have their lanes checked."""
    for detail in await store.run_details(run_ids):
        run_id = detail.run.run_id
        entry = state.waiting.get(run_id)
        if entry is None or detail.run.state is not RunState.QUEUED:
            continue
        state.specs.put(run_id, ActiveRun.stored(detail))
        state.dirty_hosts.add(entry.host)


async def recall_attempts(state: EngineState, store: Store, attempt_keys: Sequence[str]) -> None:
    """Look up attempts that are neither current nor remembered, so that reports on them can be answered."""
    unknown = [key for key in attempt_keys if key not in state.ended and find_attempt(state, key) is None]
    if unknown:
        found = await store.ended_attempts({key.partition("/")[0] for key in unknown})
        for key in unknown:
            state.ended.put(key, found.get(key, _MISSING))


def discard(state: EngineState, run_id: str) -> None:
    """Remove a run that the store refused as a duplicate from memory, and free what it held."""
    state.waiting.remove(run_id)
    state.specs.pop(run_id, None)
    state.stop_timers(run_id)
    run = state.active.get(run_id)
    if run is None:
        return
    if run.current is not None:
        state.release(run)
        instance = state.fleet.get(run.instance)
        if instance is not None:
            instance.used = False  # one that came for this run alone is not needed, and was given nothing
    state.leave(run)
