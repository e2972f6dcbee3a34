"""The next try of a step: whether one follows a failed attempt, what it counts as, and after what delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.history.transitions import AttemptEnd

_REFUSED = "host_refused"
"""The failure that the code did not cause, and that uses up no try."""
_NEIGHBOUR = "worker_killed"
"""The failure that a neighbour in the same worker caused: it uses up no try if the step may be repeated."""
_REFUSED_DELAY_SECONDS, _LONGEST_REFUSED_DELAY_SECONDS = 0.2, 30.0
"""Each refusal of a step makes a row: a host that keeps refusing is asked less and less often."""

_FOR_GOOD = frozenset({"job_timed_out", "job_disabled", "secret_params_unreadable"})
"""Failures of the run itself, which another try cannot mend."""

_LIKE_LOST = frozenset({"host_lost", "host_ended"})
_LOST_TRIES = 3
"""With retry_on_lost, a step gets at least this many tries before repeated losses fail the run."""


class NextTry(TypedDict):
    """The attempt that follows a failed one.

    :param tries: which try of the step it is, of those that count
    """

    tries: int
    delay_seconds: float


def next_try(run: ActiveRun, ended: CurrentAttempt, end: AttemptEnd, *, draw: Callable[[], float]) -> NextTry | None:
    """Return the next try of a step whose attempt has failed or is LOST; None if the step has failed for good.

    :param draw: returns a random number from 0 to 1, for the jitter
    """
    code = end.reason.code if end.reason else ""
    again, lost, policy = run.definition.retry_on_lost, end.state is AttemptState.LOST, ended.step.retry
    if code == _REFUSED:
        return {"tries": ended.tries, "delay_seconds": _refused_delay(ended.number - ended.tries)}
    if code == _NEIGHBOUR and again:
        return {"tries": ended.tries, "delay_seconds": 0.0}
    # The host itself may have kept the grace: it killed the attempt, and reports that before the kernel has given it
    # up. And an attempt whose host has certainly ended is tried again as it would be after the grace.
    if (lost or code in _LIKE_LOST) and retried_on_lost(run, ended):
        return {"tries": ended.tries + 1, "delay_seconds": 0.0}
    if lost or code in _FOR_GOOD:
        return None
    if ended.tries < policy.attempts and policy.retries(end.exception_types):
        return {"tries": ended.tries + 1, "delay_seconds": policy.delay_seconds(ended.tries, draw())}
    return None


def retried_on_lost(run: ActiveRun, attempt: CurrentAttempt) -> bool:
    """Return whether another attempt follows one that is lost with its host, unless its run is to end."""
    return run.definition.retry_on_lost and attempt.tries < max(attempt.step.retry.attempts, _LOST_TRIES)


def _refused_delay(refusals: int) -> float:
    return min(_REFUSED_DELAY_SECONDS * 2.0 ** min(refusals, 16), _LONGEST_REFUSED_DELAY_SECONDS)


def longest_delay(attempt: CurrentAttempt) -> float:
    """Return the longest time, in seconds, that an attempt may wait after the one before."""
    by_policy = attempt.step.retry.delay_seconds(max(1, attempt.tries - 1), 1.0)
    return max(by_policy, _refused_delay(attempt.number - attempt.tries))
