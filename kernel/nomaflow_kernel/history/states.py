"""The states of runs and attempts, and the allowed changes between them.

Every state change in the product is one of the pairs listed here; the store refuses any other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class RunState(enum.StrEnum):
    """The state of a run."""

    QUEUED = "QUEUED"
    """Entered by an accepted trigger; left when its first step can begin, by a cancel, or by a queue timeout. Lasts as
    long as host, slots, pauses and the overlap policy make it wait; its reason says which."""
    RUNNING = "RUNNING"
    """Entered when its first step begins, or at once if every step is switched off; left when the last step ends, a
    step fails for good, or a cancel has taken effect. A cancel under way is RUNNING with ``cancel_requested_at``."""
    SUCCEEDED = "SUCCEEDED"
    """Terminal: every enabled step succeeded."""
    FAILED = "FAILED"
    """Terminal: a step failed for good or was LOST, the job's time ran out, or the run could not start in time."""
    CANCELED = "CANCELED"
    """Terminal: stopped on request, or a step raised StepCancelled. Its code has provably stopped."""
    SKIPPED = "SKIPPED"
    """Terminal from birth: the overlap policy did not let it start. Consecutive ones of a schedule fold together."""
    MISSED = "MISSED"
    """Terminal from birth: fires that did not run, as during a downtime or a pause, folded into one row."""


class AttemptState(enum.StrEnum):
    """The state of one try at one step."""

    PENDING = "PENDING"
    """Entered when a step is due but has no slot, or waits for a retry's back-off; left by a dispatch, a cancel or the
    job's timeout."""
    DISPATCHED = "DISPATCHED"
    """Entered by committing the assignment to an instance, before it is sent; left by the host's report."""
    RUNNING = "RUNNING"
    """Entered when the host reports that the callable was started; left by its outcome or by LOST."""
    SUCCEEDED = "SUCCEEDED"
    """Terminal: the callable returned an accepted value, or the child run of a call_job step succeeded."""
    FAILED = "FAILED"
    """Terminal: the callable, its worker, its host or its preparation failed. May be followed by a new attempt."""
    CANCELED = "CANCELED"
    """Terminal: the code has provably stopped after a cancel, or asked to be canceled. Never retried."""
    SKIPPED = "SKIPPED"
    """Terminal from birth: the step is disabled, or the run ended before it."""
    LOST = "LOST"
    """Terminal: the outcome cannot be known. Fails the run; only ``retry_on_lost`` tries again."""


RUN_TERMINAL = frozenset(RunState) - {RunState.QUEUED, RunState.RUNNING}

ATTEMPT_TERMINAL = frozenset(AttemptState) - {AttemptState.PENDING, AttemptState.DISPATCHED, AttemptState.RUNNING}

_ATTEMPT_ENDS = ATTEMPT_TERMINAL - {AttemptState.SKIPPED}
"""The states in which an attempt ends that was dispatched."""

RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED}),
    **{state: frozenset() for state in RUN_TERMINAL},
}
"""The states that may follow each run state."""

ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.PENDING: frozenset(
        {AttemptState.DISPATCHED, AttemptState.RUNNING, AttemptState.CANCELED, AttemptState.FAILED}
    ),
    AttemptState.DISPATCHED: _ATTEMPT_ENDS | {AttemptState.RUNNING},
    AttemptState.RUNNING: _ATTEMPT_ENDS,
    **{state: frozenset() for state in ATTEMPT_TERMINAL},
}
"""The states that may follow each attempt state. PENDING becomes RUNNING directly in call_job steps."""
