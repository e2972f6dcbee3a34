"""Jobs: the keys of jobs.toml, and the definitions of which runs keep a snapshot.

Only what is read from a file is checked: a definition that was stored stays usable, whatever later versions refuse.
Params and op_kwargs are JSON-ready trees as ``nomaflow_api.v1.lossless_json`` encodes them; the kernel uses their keys
and never their values. A definition converts to JSON and back without loss, and ignores keys of a newer version.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

from nomaflow_api.bounds import STEPS_OF_JOB
from nomaflow_project.jobs.alert_policy import AlertPolicy
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.jobs.step_types import CALL_JOB_STEP, PYTHON_STEP
from nomaflow_project.jobs.text_forms import Cron, Image, JobId, Name, Zone, ZoneOrUtc
from nomaflow_project.reading.keys import FORM, Entry, Unlisted, key, seconds
from nomaflow_project.reading.names import HostName, LogLevel
from nomaflow_project.reading.problems import Place


def canonical_json(definition: Mapping[str, Any]) -> str:
    """Return the text under which a definition is stored, and that its digest covers."""
    return json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


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


class IsolationChoice(enum.StrEnum):
    """The kind of worker that a step gets."""

    BY_KIND = "by_kind"
    """Shared for asynchronous callables, exclusive for synchronous ones."""
    SHARED = "shared"
    EXCLUSIVE = "exclusive"
    INSTANCE = "instance"
    """An instance of the host that is started for the attempt, takes nothing else, and ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy(Entry):
    """The history kept of finished runs. A run is deleted when either limit is reached; unfinished runs never are."""

    enabled: bool = key(default=True, meaning="Whether history is pruned at all.")
    days: int | None = key(90, "Age.", unit="days", ge=1, le=36500)
    keep_last_per_job: int | None = key(
        None,
        "Newest finished runs kept of each job, besides those of fires and requests of the last day. Unset: no bound.",
        ge=1,
        le=1_000_000_000,
    )
    sweep_interval_minutes: int = key(
        60,
        "How often to prune. A jobs.toml cannot change it: the kernel prunes for all hosts together.",
        unit="minutes",
        ge=1,
        le=1440,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDefinition(Entry):
    """One step. A type that a plugin contributes takes its own keys besides these, with `${NAME}` as in `op_kwargs`."""

    __pydantic_config__: ClassVar[Any] = {**FORM, "json_schema_extra": {"additionalProperties": True}}

    type: str = key(PYTHON_STEP, "`python`, `call_job`, or a type that a plugin contributes.")
    name: Name = key("", "Unique in the job. Without one the step is named after the last part of its callable.")
    enabled: bool = key(default=True, meaning="A disabled step is SKIPPED; a run or a preset can switch it on.")
    callable: str = key("", "What a `python` step calls: `package.module:function`.")
    op_kwargs: dict[str, Any] = key(
        dict, "Keyword arguments of the call. `${NAME}` and `${NAME:-default}` are resolved in the host, each time."
    )
    overridable: Annotated[tuple[str, ...] | None, Unlisted()] = None
    """The op_kwargs that params, and op_kwargs of presets and runs, may set, as its type declares; None for any."""
    target_job_id: str = key("", "The job that a `call_job` step runs.")
    params: dict[str, Any] = key(
        dict, "Params that a `call_job` step gives the run that it starts, laid over all that the run inherits."
    )
    timeout_seconds: float | None = seconds(None, "Limit of one attempt; it is then stopped and may be retried.")
    retry: RetryPolicy | None = key(None, "The step's own retries.")
    isolation: IsolationChoice | None = key(None, "As the job's `isolation`, for this step.")
    cancel_grace_seconds: float | None = seconds(None, "As the job's, for this step.", zero=True)
    resources: Resources | None = key(None, "What an instance of its host must have for the step to be sent to it.")
    image: Image = key("", "Container image of the instance that a launcher starts for it; implies `instance`.")

    @property
    def calls_job(self) -> bool:
        """True if the step runs another job instead of a callable."""
        return self.type == CALL_JOB_STEP

    def may_set(self, name: str) -> bool:
        """Return whether params, and op_kwargs of presets and runs, may set a key of the step."""
        return self.overridable is None or name in self.overridable


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetDefinition(Entry):
    """A named set of overrides, which may carry its own schedule."""

    name: Name = key(
        ..., "`run --preset NAME` applies it. Of several with this name, one with a schedule counts, else the first."
    )
    description: str = key("", "What it is for.")
    schedule: Cron = key("", "Cron expression of its own fires. Empty: only when asked for.")
    timezone: Zone = key("", "IANA zone of its schedule. Empty: the job's.")
    enabled: bool = key(default=True, meaning="Whether its schedule counts, whatever the job's own `enabled` says.")
    params: dict[str, Any] = key(dict, "Overrides of the job's `params`.")
    op_kwargs: dict[str, dict[str, Any]] = key(dict, "Overrides of op_kwargs, by step name.")
    steps: dict[str, bool] = key(dict, "Steps switched on or off, by name.")
    step_enabled: dict[str, bool] = key(dict, "The same as `steps`, under its former name.", of_file=True)
    log_level: LogLevel | None = key(None, "Override of the job's `log_level`.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """One cron schedule of a job: its own (``preset`` is empty) or a preset's."""

    preset: str
    expression: str
    timezone: str


@dataclass(frozen=True, kw_only=True)
class JobDefinition(Entry):
    """One job."""

    id: JobId = key(..., "Unique in a kernel. Letters, digits, `-`, `_`, `.`; at most 128.")
    host: HostName = key("", "The plugin host that runs it. Empty: the host that brought it.")
    description: str = key("", "What it is for.")
    schedule: Cron = key(
        "", "Cron expression of five fields, six with seconds last, or an alias. Empty: started by hand or by others."
    )
    timezone: ZoneOrUtc = key("UTC", "IANA zone whose wall clock the schedule refers to.")
    enabled: bool = key(default=True, meaning="A disabled job does not fire by its schedule.")
    tags: tuple[str, ...] = key(tuple, "Labels to group and find jobs by.")
    params: dict[str, Any] = key(
        dict, "Values for every step whose callable names them; also in `ctx.params`. Environment as in `op_kwargs`."
    )
    secret_params: tuple[str, ...] = key(
        tuple,
        "Params that are encrypted in the history and shown as `***` everywhere; "
        "in this file they are references, such as `${NAME}`, never literal texts.",
    )
    log_level: LogLevel = key("INFO", "Lowest level that the log of a run keeps.")
    timeout_seconds: float | None = seconds(None, "Limit of a whole run; it is then stopped and not retried.")
    retry: RetryPolicy = key(RetryPolicy, "Retries of its steps.")
    alerts: AlertPolicy | None = key(None, "What is reported about it, and to whom.")
    step_defaults: dict[str, Any] = key(
        dict,
        "Keys that each step whose type takes them has, unless it gives them itself; tables are merged key by key.",
        of_file=True,
    )
    overlap: Overlap = key(
        Overlap.SKIP, "What a run does while another of the job is active: skip, queue, run beside it, or cancel it."
    )
    max_queued: int = key(100, 'Runs that may wait with `overlap = "queue"`.', ge=1, le=1_000_000)
    misfire: Misfire = key(
        Misfire.LATEST,
        "Which fires that could not happen in time still run: none, the latest, the last 100. "
        'They start at once, so `all` needs `overlap = "queue"` or `"allow"`.',
    )
    misfire_window_seconds: float = seconds(3600.0, "Older fires never run.", zero=True)
    retry_on_lost: bool = key(
        default=False,
        meaning="Whether an attempt whose outcome cannot be known may run again: only for steps that may run twice.",
    )
    lost_after_seconds: float | None = seconds(
        None, "Silence of the host after which its attempts are LOST. Default: the kernel's."
    )
    isolation: IsolationChoice = key(
        IsolationChoice.BY_KIND,
        "Worker of a step: by kind (async shared, sync exclusive), shared, exclusive, or in an instance of its own.",
    )
    cancel_grace_seconds: float | None = seconds(
        None, "Time a step has to stop by itself before it is forced. Default: the host's.", zero=True
    )
    max_parallel: int | None = key(None, "Runs of the job at once. Default: no bound but `overlap`.", ge=1)
    priority: int = key(0, "Runs of higher priority are dispatched first.", ge=-1000, le=1000)
    queue_timeout_seconds: float | None = seconds(None, "A run that waited longer FAILS. Default: it keeps waiting.")
    max_log_bytes: int | None = key(
        None,
        "Log kept of one attempt; what exceeds it is dropped and counted, but for the last line. Default: all.",
        unit="bytes",
        ge=1024,
    )
    install_step: int | None = key(None, "Of the original; has no effect.", of_file=True)
    presets: tuple[PresetDefinition, ...] = key(tuple, "Presets.")
    steps: tuple[StepDefinition, ...] = key(..., "Steps, run in order.", min_length=1, max_length=STEPS_OF_JOB)

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
        return IsolationChoice.INSTANCE if step.image else step.isolation or self.isolation

    def cancel_grace_of(self, step: StepDefinition) -> float | None:
        """Return the cancel grace in seconds in effect for a step, or None for the host's setting."""
        return self.cancel_grace_seconds if step.cancel_grace_seconds is None else step.cancel_grace_seconds

    def values(self, at: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Yield each table of values for steps, with its place.

        :param at: the job's
        """
        yield at / "params", self.params
        for index, step in enumerate(self.steps):
            yield at / "steps" / index / "op_kwargs", step.op_kwargs
            yield at / "steps" / index / "params", step.params
        for index, preset in enumerate(self.presets):
            yield at / "presets" / index / "params", preset.params
            for name, values in preset.op_kwargs.items():
                yield at / "presets" / index / "op_kwargs" / name, values

    def schedules(self) -> Iterator[Schedule]:
        """Yield the cron schedules: the job's own if enabled, and each preset's by the preset's own flag."""
        if self.enabled and self.schedule:
            yield Schedule(preset="", expression=self.schedule, timezone=self.timezone)
        for preset in self.presets:
            if preset.enabled and preset.schedule:
                yield Schedule(
                    preset=preset.name, expression=preset.schedule, timezone=preset.timezone or self.timezone
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaEntry(Entry):
    """About the file."""

    version: int = key(1, "Version of the file's form.", ge=1, le=1)
    retention: RetentionPolicy | None = key(None, "Retention of the runs of these jobs.")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsFile(Entry):
    """jobs.toml: the jobs of a team; the jobs.toml of each folder of plugins/ is read too."""

    meta: MetaEntry = key(MetaEntry, "About the file.")
    jobs: tuple[JobDefinition, ...] = key(tuple, "The jobs.")
