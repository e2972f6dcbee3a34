"""Silent instances: UNREACHABLE after the lease, their attempts LOST after the grace."""

from __future__ import annotations

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.engine import own_instances, stepping
from nomaflow_kernel.engine.attaching import notify, runs_of
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.next_try import retried_on_lost
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.states import AttemptState


def margin_over(grace_seconds: float) -> float:
    """Return how much longer than the grace the kernel waits, in seconds: 30, or less if the grace itself is short.

    A host that is cut off ends its retried attempts by itself once the grace is over, and needs a moment for that.
    """
    return min(30.0, max(5.0, grace_seconds / 20))


def set_timer(state: EngineState, now: float) -> None:
    """Set the timer for the next check."""
    state.timers.put((TimerKind.HOST_CLOCKS, ""), now + max(0.05, min(1.0, state.settings.lease_seconds / 4)))


def check_clocks(state: EngineState, batch: Batch, _subject: str) -> None:
    """Check how long each instance has been silent: UNREACHABLE after the lease, its attempts LOST after the grace.

    If the last check is longer ago than the lease, the kernel itself was held up, for example by a suspended machine.
    It could not hear anybody, so the clocks start again, as they do at its start.
    """
    own_instances.end_unwanted(state)
    looked_at, state.clocks_looked_at = state.clocks_looked_at, batch.now
    if looked_at is not None and batch.now - looked_at > state.settings.lease_seconds:
        for instance in state.fleet:
            instance.last_heard = batch.now
    for instance in state.fleet:
        silent = batch.now - instance.last_heard
        if silent >= state.settings.lease_seconds and not instance.unreachable:
            instance.unreachable_since_us = batch.now_us - int((silent - state.settings.lease_seconds) * 1_000_000)
            notify(batch, instance, "host.unreachable", silent_seconds=round(silent, 1))
        if silent >= state.settings.lease_seconds:
            _lose_overdue(state, batch, instance, silent)
    set_timer(state, batch.now)


def _lose_overdue(state: EngineState, batch: Batch, instance: Instance, silent: float) -> None:
    """Declare attempts LOST whose grace is over; note when the next one's ends, and how many are tried again."""
    graces = []
    instance.retried_on_lost = 0
    for run in runs_of(state, instance):
        grace = (
            run.definition.lost_after_seconds or state.settings.grace_seconds
        ) + state.settings.grace_margin_seconds
        if silent >= grace:
            reason = Reason(
                "host_lost",
                f"host {instance.host!r} was silent for {time_span(silent)}; whether the step ended cannot be known",
            )
            stepping.conclude(state, batch, run, AttemptState.LOST, reason)
            continue
        graces.append(grace)
        if run.cancel is None and run.timed_out is None:
            instance.retried_on_lost += retried_on_lost(run, run.attempt)
    instance.lost_at_us = batch.now_us + int((min(graces) - silent) * 1_000_000) if graces else None
    if not instance.attempts and instance.link is None:
        state.forget(instance, batch.now, batch.now_us)
