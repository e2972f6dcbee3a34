"""``ctx``: the information that a callable has about its run."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

from nomaflow.triggers import Trigger

__all__ = ["PreviousStep", "RunContext"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousStep:
    """The end of an earlier step of the same run.

    :param state: the state of its last attempt, such as ``SUCCEEDED`` or ``SKIPPED``
    :param rows_affected: its count, None if it reported none
    :param extras: the other keys that it returned; for a ``call_job`` step those of the last step of the run that it
        started, with ``child_run_id``, ``child_job_id`` and ``child_state``
    """

    name: str
    state: str
    rows_affected: int | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def child_run_id(self) -> str:
        """The run that a ``call_job`` step started; empty for other steps."""
        return str(self.extras.get("child_run_id", ""))

    @property
    def child_job_id(self) -> str:
        """The job of that run; empty for other steps."""
        return str(self.extras.get("child_job_id", ""))

    @property
    def child_state(self) -> str:
        """The final state of that run, such as ``SUCCEEDED``; empty for other steps."""
        return str(self.extras.get("child_state", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The state of a run, as one attempt at one of its steps sees it.

    Every field has a default, so that a test gives only what it needs: ``RunContext(run_id="run_1")``.

    :param run_id: the run, such as ``run_01hx…``; useful in audit rows
    :param job_id: the job of the run
    :param trigger: the trigger of the run; equal to its kind, such as ``"cron"``. Plain text is taken as a kind
    :param prev_rows_affected: the count of the last step that ran; None for the first step, or if that step reported
        none
    :param parent_chain: (job id, run id) of the runs that led to this one by ``call_job``, root first
    :param step_name: the step
    :param attempt: number of this attempt at the step, from 1
    :param attempt_key: ``run/step/attempt``, an idempotency token for other systems
    :param params: the merged params of job and run, including those that the callable does not take
    :param log_level: the level of the run's log, such as ``"INFO"``
    :param deadline: time at which the step or the job times out, with a time zone; None for never
    :param log: a logger whose lines go to the run's log; so do those of any other logger
    :param previous_steps: the steps before this one, in order
    :param cancel_check: the function behind `is_cancelled`
    :param progress_sink: the function behind `progress`
    """

    run_id: str = ""
    job_id: str = ""
    trigger: Trigger = field(default_factory=Trigger)
    prev_rows_affected: int | None = None
    parent_chain: tuple[tuple[str, str], ...] = ()
    step_name: str = ""
    attempt: int = 1
    attempt_key: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    log_level: str = "INFO"
    deadline: dt.datetime | None = None
    # Asked for by each context: a logger made with this module would be disabled by a team's dictConfig.
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("nomaflow.step"), repr=False, compare=False)
    previous_steps: Sequence[PreviousStep] = field(default=(), repr=False)
    cancel_check: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    progress_sink: Callable[[float, float | None, str], None] = field(
        default=lambda _done, _total, _message: None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Convert plain text to a trigger, and any sequence of pairs to a chain."""
        if not isinstance(self.trigger, Trigger):
            object.__setattr__(self, "trigger", Trigger(self.trigger))
        if not isinstance(self.parent_chain, tuple):
            object.__setattr__(self, "parent_chain", tuple((job, run) for job, run in self.parent_chain))

    def __copy__(self) -> Self:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return replace(self, params=deepcopy(self.params, memo), previous_steps=deepcopy(self.previous_steps, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle needs: in another process a copy sees no request to stop, and reports no progress."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        del kept["cancel_check"], kept["progress_sink"]
        return partial(RunContext, **kept), ()

    def is_cancelled(self) -> bool:
        """Return True once the run is asked to stop or its time is up. Cheap enough for a tight loop."""
        return self.cancel_check()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the step's progress to those who watch the run.

        :param done: amount done, in any unit
        :param total: amount in total, None if unknown
        :param message: description of the current work
        """
        self.progress_sink(done, total, message)

    def previous_step(self, name: str) -> PreviousStep | None:
        """Return the result of the earlier step *name*, or None if there is no such step."""
        return next((step for step in self.previous_steps if step.name == name), None)
