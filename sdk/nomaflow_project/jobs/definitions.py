"""Job definitions: the data that a run takes its snapshot of.

Params and op_kwargs are JSON-ready trees in the encoding of ``nomaflow_api.v1.values``; the kernel uses their keys and
never their values. A definition converts to JSON and back without loss, and ignores unknown keys of a newer version.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from nomaflow_project.jobs.definition_json import Definition, canonical_json, known_fields

__all__ = [
    "CALL_JOB_STEP",
    "PYTHON_STEP",
    "AlertPolicy",
    "Backoff",
    "IsolationChoice",
    "JobDefinition",
    "Misfire",
    "Overlap",
    "PresetDefinition",
    "RetentionPolicy",
    "RetryPolicy",
    "Schedule",
    "StepDefinition",
    "is_job_id",
]

PYTHON_STEP = "python"
CALL_JOB_STEP = "call_job"
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def is_job_id(text: str) -> bool:
    """Return True if ``text`` has the form of a job id."""
    return _JOB_ID.fullmatch(text) is not None


class Overlap(enum.StrEnum):
    """The treatment of a new run while another run of the job is active."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    CANCEL_RUNNING = "cancel_running"


class Misfire(enum.StrEnum):
    """The choice of late fires that still run, within the misfire window."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"
    """The last 100 at most."""


class Backoff(enum.StrEnum):
    """The growth of the delay between attempts."""

    FIXED = "fixed"
    EXPONENTIAL = "exponential"


class IsolationChoice(enum.StrEnum):
    """The kind of worker that a step gets."""

    BY_KIND = "by_kind"
    """Shared for asynchronous callables, exclusive for synchronous ones."""
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy(Definition):
    """The rules for retrying a failed attempt, and the delay before it.

    :param attempts: number of all tries, the first one included
    :param base_seconds: delay after the first failure
    :param max_seconds: the longest delay
    :param jitter: a delay is lengthened by up to this fraction, at random
    :param retry_on: names of exceptions, qualified or bare; empty means any failure
    :param no_retry_on: names of exceptions that are never retried; wins over ``retry_on``
    """

    attempts: int = 1
    backoff: Backoff = Backoff.FIXED
    base_seconds: float = 60.0
    max_seconds: float = 3600.0
    jitter: float = 0.1
    retry_on: tuple[str, ...] = ()
    no_retry_on: tuple[str, ...] = ()

    def delay_seconds(self, failed_attempts: int, random: float) -> float:
        """Return the seconds to wait after a number of failed attempts (1 or more).

        :param random: a number from 0 to 1 that sets the jitter
        """
        if failed_attempts < 1:
            msg = f"failed_attempts must be 1 or more, got {failed_attempts}"
            raise ValueError(msg)
        delay = self.base_seconds
        if self.backoff is Backoff.EXPONENTIAL:
            delay *= 2.0 ** min(failed_attempts - 1, 60)
        # Capped below the maximum, so that runs that failed together stay spread out at the cap too.
        delay = min(delay, self.max_seconds / (1 + self.jitter)) * (1 + self.jitter * random)
        return min(delay, self.max_seconds)  # the division may have rounded up

    def retries(self, exception_types: Sequence[str]) -> bool:
        """Return whether a failure with these exception types is retried.

        :param exception_types: qualified names of the exception's classes, most derived first; empty for a failure
            without an exception, such as a dead worker, which only an empty ``retry_on`` covers
        """
        names = {*exception_types, *(name.rpartition(".")[2] for name in exception_types)}
        if names.intersection(self.no_retry_on):
            return False
        return not self.retry_on or bool(names.intersection(self.retry_on))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the policy that `to_json` wrote."""
        return cls(**known_fields(cls, data, backoff=Backoff, retry_on=tuple, no_retry_on=tuple))


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertPolicy(Definition):
    """The events of a job that call for attention.

    :param on_long_run_minutes: minutes after which a run still going is such an event; None for never
    :param recipients: names or addresses, for the program that delivers alerts
    """

    on_failure: bool = True
    on_long_run_minutes: float | None = None
    recipients: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the policy that `to_json` wrote."""
        return cls(**known_fields(cls, data, recipients=tuple))


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy(Definition):
    """The time that finished runs stay in the history: a run is deleted when either limit is reached.

    :param days: age in days; None for no bound
    :param keep_last_per_job: number of newest finished runs kept for each job, besides those of fires and requests of
        the last day; None for no bound
    """

    enabled: bool = True
    days: int | None = 90
    keep_last_per_job: int | None = None
    sweep_interval_minutes: int = 60

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the policy that `to_json` wrote."""
        return cls(**known_fields(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDefinition(Definition):
    """One step of a job.

    :param type: ``python``, ``call_job``, or a type contributed by a plugin, which then calls ``callable``
    :param callable: ``module:name``; empty for ``call_job``
    :param overridable: the op_kwargs that params, and op_kwargs of presets and runs, may set; None for any, as in a
        ``python`` step
    :param target_job_id: the job that ``call_job`` runs; otherwise empty
    :param params: params that a ``call_job`` step gives to the run it starts; they override inherited ones
    :param timeout_seconds: None for no limit
    :param retry: the step's own policy; None for the job's
    :param isolation: None for the job's choice
    :param cancel_grace_seconds: None for the job's
    """

    name: str
    type: str = PYTHON_STEP
    enabled: bool = True
    callable: str = ""
    op_kwargs: Mapping[str, Any] = field(default_factory=dict)
    overridable: tuple[str, ...] | None = None
    target_job_id: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float | None = None
    retry: RetryPolicy | None = None
    isolation: IsolationChoice | None = None
    cancel_grace_seconds: float | None = None

    @property
    def calls_job(self) -> bool:
        """True if the step runs another job instead of a callable."""
        return self.type == CALL_JOB_STEP

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the step that `to_json` wrote."""
        readers = {
            "op_kwargs": dict,
            "params": dict,
            "overridable": tuple,
            "retry": RetryPolicy.from_json,
            "isolation": IsolationChoice,
        }
        return cls(**known_fields(cls, data, **readers))

    def may_set(self, name: str) -> bool:
        """Return whether params, and op_kwargs of presets and runs, may set a key of the step."""
        return self.overridable is None or name in self.overridable


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetDefinition(Definition):
    """A named set of overrides on a job, optionally with its own schedule.

    :param schedule: a cron expression; empty for a preset that only runs on request
    :param timezone: IANA name; empty for the job's
    :param enabled: whether its schedule is active, regardless of the job's own flag
    :param op_kwargs: step name to overrides
    :param steps: step name to on or off
    :param log_level: empty for the job's
    """

    name: str
    description: str = ""
    schedule: str = ""
    timezone: str = ""
    enabled: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)
    op_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Mapping[str, bool] = field(default_factory=dict)
    log_level: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the preset that `to_json` wrote."""
        return cls(**known_fields(cls, data, params=dict, op_kwargs=dict, steps=dict))


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """One cron schedule of a job: its own (``preset`` is empty) or a preset's."""

    preset: str
    expression: str
    timezone: str


@dataclass(frozen=True, kw_only=True)
class JobDefinition(Definition):
    """A job, complete and checked.

    :param host: the name of the plugin host that runs its steps
    :param schedule: a cron expression; empty if the job has no schedule of its own
    :param timeout_seconds: time limit of a whole run; None for none
    :param max_queued: number of runs that may wait with ``overlap = "queue"``
    :param misfire_window_seconds: fires older than this never run late
    :param retry_on_lost: whether an attempt with an unknown outcome may run again
    :param lost_after_seconds: silence of the host after which attempts are LOST; None for the kernel's setting
    :param cancel_grace_seconds: seconds between asking and forcing; None for the host's setting
    :param max_parallel: number of runs of the job at once; None for no bound
    :param priority: a higher one is dispatched first; may be negative
    :param queue_timeout_seconds: a run that has waited longer fails; None for no limit
    :param max_log_bytes: log bytes kept of one attempt; None for all
    """

    id: str
    host: str = ""
    description: str = ""
    schedule: str = ""
    timezone: str = "UTC"
    enabled: bool = True
    tags: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    log_level: str = "INFO"
    timeout_seconds: float | None = None
    retry: RetryPolicy = RetryPolicy()
    alerts: AlertPolicy | None = None
    overlap: Overlap = Overlap.SKIP
    max_queued: int = 100
    misfire: Misfire = Misfire.LATEST
    misfire_window_seconds: float = 3600.0
    retry_on_lost: bool = False
    lost_after_seconds: float | None = None
    isolation: IsolationChoice = IsolationChoice.BY_KIND
    cancel_grace_seconds: float | None = None
    max_parallel: int | None = None
    priority: int = 0
    queue_timeout_seconds: float | None = None
    max_log_bytes: int | None = None
    presets: tuple[PresetDefinition, ...] = ()
    steps: tuple[StepDefinition, ...] = ()

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits over the canonical JSON; equal for equal definitions, across versions."""
        text = canonical_json(self.to_json(compact=True))
        return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()

    @cached_property
    def canonical_json(self) -> str:
        """The whole definition as JSON, stored as the snapshot of its runs."""
        return canonical_json(self.to_json())

    def step(self, name: str) -> StepDefinition | None:
        """Return the step of a name, or None."""
        return next((step for step in self.steps if step.name == name), None)

    def preset(self, name: str) -> PresetDefinition | None:
        """Return the preset of a name, or None."""
        named = [preset for preset in self.presets if preset.name == name]
        return next((preset for preset in named if preset.schedule), named[0] if named else None)

    def retry_of(self, step: StepDefinition) -> RetryPolicy:
        """Return the retry policy in effect for a step."""
        return step.retry or self.retry

    def isolation_of(self, step: StepDefinition) -> IsolationChoice:
        """Return the isolation in effect for a step."""
        return step.isolation or self.isolation

    def cancel_grace_of(self, step: StepDefinition) -> float | None:
        """Return the cancel grace in seconds in effect for a step, or None for the host's setting."""
        return self.cancel_grace_seconds if step.cancel_grace_seconds is None else step.cancel_grace_seconds

    def schedules(self) -> Iterator[Schedule]:
        """Yield the cron schedules: the job's own if enabled, and each preset's by the preset's own flag."""
        if self.enabled and self.schedule:
            yield Schedule(preset="", expression=self.schedule, timezone=self.timezone)
        for preset in self.presets:
            if preset.enabled and preset.schedule:
                yield Schedule(
                    preset=preset.name, expression=preset.schedule, timezone=preset.timezone or self.timezone
                )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the definition that `to_json` wrote, by this version or another.

        :raises KeyError: if ``id`` is missing
        :raises ValueError: if an enumerated value is not known
        """
        readers = {
            "tags": tuple,
            "params": dict,
            "retry": RetryPolicy.from_json,
            "alerts": AlertPolicy.from_json,
            "overlap": Overlap,
            "misfire": Misfire,
            "isolation": IsolationChoice,
            "presets": lambda each: tuple(PresetDefinition.from_json(item) for item in each),
            "steps": lambda each: tuple(StepDefinition.from_json(item) for item in each),
        }
        return cls(**known_fields(cls, data, **readers))
