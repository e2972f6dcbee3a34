"""``ctx``: what a callable can know of the run it is part of."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow.triggers import Trigger

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PreviousStep", "RunContext"]


def _never() -> bool:
    return False


def _ignore(done: float, total: float | None, message: str) -> None:
    """Drop progress where nobody listens, as in a test."""


def _step_logger() -> logging.Logger:
    return logging.getLogger("nomaflow.step")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousStep:
    """How an earlier step of the same run ended.

    :param state: the state of its last attempt, such as ``SUCCEEDED`` or ``SKIPPED``
    :param rows_affected: its count, None where it reported none
    :param extras: the other keys it returned; for a ``call_job`` step those of the last step of the run that it
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
        """The job that the run is of; empty for other steps."""
        return str(self.extras.get("child_job_id", ""))

    @property
    def child_state(self) -> str:
        """The state in which the run ended, such as ``SUCCEEDED``; empty for other steps."""
        return str(self.extras.get("child_state", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The state of a run, as one attempt at one of its steps sees it.

    Every field has a default, so that a test gives only what it needs: ``RunContext(run_id="run_1")``.

    :param run_id: the run, such as ``run_01hx…``; goes well with audit rows
    :param job_id: the job that the run is of
    :param trigger: what fired the run; equal to its kind, such as ``"cron"``. Plain text is taken for a kind
    :param prev_rows_affected: the count of the last step that ran, None for the first one or where it
        reported none
    :param parent_chain: (job id, run id) of the runs that led to this one by ``call_job``, root first
    :param step_name: the step
    :param attempt: which try at the step this is, from 1
    :param attempt_key: ``run/step/attempt``, an idempotency token to hand to other systems
    :param params: the merged params of job and run, also those that the callable does not take
    :param log_level: the level of the run's log, such as ``"INFO"``
    :param deadline: when the step or the job times out, with a time zone; None for never
    :param log: a logger whose lines go to the run's log; any other logger does as well
    :param previous_steps: the steps before this one, in order
    :param cancel_check: what `is_cancelled` asks
    :param progress_sink: what `progress` tells
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
    log: logging.Logger = field(default_factory=_step_logger, repr=False, compare=False)
    previous_steps: Sequence[PreviousStep] = field(default=(), repr=False)
    cancel_check: Callable[[], bool] = field(default=_never, repr=False, compare=False)
    progress_sink: Callable[[float, float | None, str], None] = field(default=_ignore, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Take plain text for a trigger's kind and any sequence of pairs for a chain."""
        if not isinstance(self.trigger, Trigger):
            object.__setattr__(self, "trigger", Trigger(self.trigger))
        if not isinstance(self.parent_chain, tuple):
            object.__setattr__(self, "parent_chain", tuple((job, run) for job, run in self.parent_chain))

    def is_cancelled(self) -> bool:
        """Return True once the run is asked to stop or its time is up. Cheap enough for a tight loop."""
        return self.cancel_check()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell those who watch the run how far the step is.

        :param done: how much is done, in any unit
        :param total: how much there is, None where that is not known
        :param message: what is being done
        """
        self.progress_sink(done, total, message)

    def previous_step(self, name: str) -> PreviousStep | None:
        """Return how the earlier step *name* ended, None where there is none of that name."""
        return next((step for step in self.previous_steps if step.name == name), None)
