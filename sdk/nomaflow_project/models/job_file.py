"""The keys of jobs.toml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.jobs.definitions import Backoff, IsolationChoice, Misfire, Overlap, is_job_id
from nomaflow_project.models.entries import Entry, key, seconds

__all__ = [
    "AlertsEntry",
    "JobEntry",
    "JobsFile",
    "LogLevel",
    "MetaEntry",
    "PresetEntry",
    "RetentionEntry",
    "RetryEntry",
    "StepEntry",
]

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_NAME_LENGTH = 128


def _job_id(value: str) -> str:
    if not is_job_id(value):
        raise PydanticCustomError(
            "bad_job_id",
            "{got} is not a job id; expected 1 to 128 ASCII letters, digits, '-', '_' or '.', beginning with a letter "
            "or digit",
            {"got": repr(value[:60]), "fix": "rename the job"},
        )
    return value


def _name(value: str) -> str:
    if not 1 <= len(value) <= _NAME_LENGTH or not value.isprintable() or not value.strip():
        raise PydanticCustomError(
            "bad_name",
            "{got} is not a name; expected 1 to 128 printable characters",
            {"got": repr(value[:60]), "fix": "rename it"},
        )
    return value


def _exception_names(values: list[str]) -> list[str]:
    for value in values:
        if not all(part.isidentifier() for part in value.split(".")):
            raise PydanticCustomError(
                "bad_exception_name",
                "{got} is not the name of an exception",
                {"got": repr(value[:60]), "fix": "give a class name such as 'ConnectionError' or 'httpx.HTTPError'"},
            )
    return values


def _checked_cron(text: str) -> str:
    """Return a schedule that is a valid cron expression, or empty."""
    if text.strip():
        try:
            CronExpression.parse(text)
        except CronError as error:
            raise _refusal("bad_schedule", "cron expression", error) from error
    return text.strip()


def _checked_zone(name: str) -> str:
    """Return the name of a known zone, or empty."""
    if name:
        try:
            zone(name)
        except CronError as error:
            raise _refusal("unknown_timezone", "timezone", error) from error
    return name


def _refusal(code: str, kind: str, error: CronError) -> PydanticCustomError:
    subject = error.subject if len(error.subject) <= 60 else error.subject[:60] + "…"
    context = {"kind": kind, "subject": repr(subject), "problem": error.problem, "fix": error.fix}
    return PydanticCustomError(code, "{kind} {subject}: {problem}", context)


JobId = Annotated[str, AfterValidator(_job_id)]
Name = Annotated[str, AfterValidator(_name)]
Cron = Annotated[str, AfterValidator(_checked_cron)]
Zone = Annotated[str, AfterValidator(_checked_zone)]
ExceptionNames = Annotated[list[str], AfterValidator(_exception_names)]


class RetryEntry(Entry):
    """Retries of failed steps. A step's own table overrides the job's key by key."""

    attempts: int = key(1, "All tries of a step, the first one included.", ge=1, le=1000)
    backoff: Backoff = key(Backoff.FIXED, "How the delay grows: the same each time, or doubled after each failure.")
    base_seconds: float = seconds(60.0, "Delay after the first failure.", zero=True)
    max_seconds: float = seconds(3600.0, "No delay is longer.", zero=True)
    jitter: float = key(0.1, "Each delay is lengthened at random by up to this fraction of it.", ge=0, le=1)
    retry_on: ExceptionNames = key(
        list, "Exceptions to retry on, by class name, bare or qualified, base classes included. Empty: any failure."
    )
    no_retry_on: ExceptionNames = key(list, "Exceptions never retried; wins over `retry_on`.")


class AlertsEntry(Entry):
    """The events of the job that call for attention."""

    on_failure: bool = key(default=True, meaning="Whether a run that ends FAILED or LOST is one.")
    on_long_run_minutes: float | None = key(
        None, "A run that goes on for longer is one; the run continues.", unit="minutes", gt=0
    )
    recipients: list[str] = key(list, "Names or addresses for whatever delivers the alerts.")


class StepEntry(Entry):
    """One step. A type that a plugin contributes takes its own keys besides these, with `${NAME}` as in `op_kwargs`."""

    model_config = ConfigDict(extra="allow")

    type: str = key("python", "`python`, `call_job`, or a type that a plugin contributes.")
    name: Name | None = key(
        None, "Unique in the job. Without one the step is named after the last part of its callable."
    )
    enabled: bool = key(default=True, meaning="A disabled step is SKIPPED; a run or a preset can switch it on.")
    callable: str = key("", "What a `python` step calls: `package.module:function`.")
    op_kwargs: dict[str, Any] = key(
        dict, "Keyword arguments of the call. `${NAME}` and `${NAME:-default}` are resolved in the host, each time."
    )
    target_job_id: str = key("", "The job that a `call_job` step runs.")
    params: dict[str, Any] | None = key(
        None, "Params that a `call_job` step gives the run that it starts, laid over all that the run inherits."
    )
    timeout_seconds: float | None = seconds(None, "Limit of one attempt; it is then stopped and may be retried.")
    retry: RetryEntry | None = key(None, "The step's own retries.")
    isolation: IsolationChoice | None = key(None, "As the job's `isolation`, for this step.")
    cancel_grace_seconds: float | None = seconds(None, "As the job's, for this step.", zero=True)


class PresetEntry(Entry):
    """A named set of overrides, which may carry its own schedule."""

    name: Name = key(
        ..., "`run --preset NAME` applies it. Of several with one name the one with a schedule stands, else the first."
    )
    description: str = key("", "What it is for.")
    schedule: Cron = key("", "Cron expression of its own fires. Empty: only when asked for.")
    timezone: Zone = key("", "IANA zone of its schedule. Empty: the job's.")
    enabled: bool = key(default=True, meaning="Whether its schedule counts, whatever the job's own `enabled` says.")
    params: dict[str, Any] = key(dict, "Overrides of the job's `params`.")
    op_kwargs: dict[str, dict[str, Any]] = key(dict, "Overrides of op_kwargs, by step name.")
    steps: dict[str, bool] = key(dict, "Steps switched on or off, by name.")
    step_enabled: dict[str, bool] = key(dict, "The same as `steps`, under its former name.")
    log_level: LogLevel | None = key(None, "Override of the job's `log_level`.")


class JobEntry(Entry):
    """One job."""

    id: JobId = key(..., "Unique in a kernel. Letters, digits, `-`, `_`, `.`; at most 128.")
    host: str = key("", "The plugin host that runs it. Empty: the host that brought it.")
    description: str = key("", "What it is for.")
    schedule: Cron = key(
        "", "Cron expression of five fields, six with seconds last, or an alias. Empty: started by hand or by others."
    )
    timezone: Zone = key("UTC", "IANA zone whose wall clock the schedule speaks of.")
    enabled: bool = key(default=True, meaning="A disabled job does not fire by its schedule.")
    tags: list[str] = key(list, "Labels to group and find jobs by.")
    params: dict[str, Any] = key(
        dict, "Values for every step whose callable names them; also in `ctx.params`. Environment as in `op_kwargs`."
    )
    log_level: LogLevel = key("INFO", "Lowest level that the log of a run keeps.")
    timeout_seconds: float | None = seconds(None, "Limit of a whole run; it is then stopped and not retried.")
    retry: RetryEntry = key(RetryEntry, "Retries of its steps.")
    alerts: AlertsEntry | None = key(None, "Alerts.")
    step_defaults: dict[str, Any] = key(
        dict,
        "Keys that each step whose type takes them has, unless it gives them itself; tables are merged key by key.",
    )
    overlap: Overlap = key(
        Overlap.SKIP, "What a run does while another of the job is going: skip, queue, run beside it, or cancel it."
    )
    max_queued: int = key(100, 'Runs that may wait with `overlap = "queue"`.', ge=1, le=1_000_000)
    misfire: Misfire = key(
        Misfire.LATEST, "Which fires that could not happen in time are caught up with: none, the latest, the last 100."
    )
    misfire_window_seconds: float = seconds(3600.0, "Older fires are never caught up with.", zero=True)
    retry_on_lost: bool = key(
        default=False,
        meaning="Whether an attempt whose outcome cannot be known may run again: only for steps that may run twice.",
    )
    lost_after_seconds: float | None = seconds(
        None, "Silence of the host after which its attempts are LOST. Default: the kernel's."
    )
    isolation: IsolationChoice = key(
        IsolationChoice.BY_KIND, "Worker of a step: by kind (async shared, sync exclusive), shared, or exclusive."
    )
    cancel_grace_seconds: float | None = seconds(
        None, "Time a step has to stop by itself before it is forced. Default: the host's.", zero=True
    )
    max_parallel: int | None = key(None, "Runs of the job at once. Default: no bound but `overlap`.", ge=1)
    priority: int = key(0, "Runs of higher priority are dispatched first.", ge=-1000, le=1000)
    queue_timeout_seconds: float | None = seconds(None, "A run that waited longer FAILS. Default: it waits on.")
    max_log_bytes: int | None = key(
        None, "Log kept of one attempt; what is beyond is dropped and counted. Default: all.", unit="bytes", ge=1024
    )
    install_step: int | None = key(None, "Of the original; has no effect.")
    presets: list[PresetEntry] = key(list, "Presets.")
    steps: list[StepEntry] = key(..., "Steps, run in order.", min_length=1, max_length=1000)


class RetentionEntry(Entry):
    """The history kept of finished runs. A run is deleted when either limit is reached; unfinished runs never are."""

    enabled: bool = key(default=True, meaning="Whether history is pruned at all.")
    days: int | None = key(90, "Age.", unit="days", ge=1, le=36500)
    keep_last_per_job: int | None = key(
        None,
        "Newest finished runs kept of each job, beside those of fires and requests of the last day. No bound without.",
        ge=1,
    )
    sweep_interval_minutes: int = key(60, "How often to prune.", unit="minutes", ge=1, le=1440)


class MetaEntry(Entry):
    """About the file."""

    version: int = key(1, "Version of the file's form.", ge=1, le=1)
    retention: RetentionEntry | None = key(None, "Retention of the runs of these jobs.")


class JobsFile(Entry):
    """jobs.toml: the jobs of a team; the jobs.toml of each folder of plugins/ is read too."""

    meta: MetaEntry = key(MetaEntry, "About the file.")
    jobs: list[JobEntry] = Field(default_factory=list, description="The jobs.", json_schema_extra={"since": "0.1.0"})
