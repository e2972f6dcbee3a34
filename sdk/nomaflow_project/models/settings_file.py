"""The keys of nomaflow.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from nomaflow_api.bounds import MOST_NUMBER
from nomaflow_project.jobs.definitions import RetentionPolicy
from nomaflow_project.jobs.resources import Capacity, Labels
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_project.models.console_section import ConsoleSection
from nomaflow_project.models.kernel_addresses import Addresses, DialledAddresses, TcpAddresses
from nomaflow_project.models.launcher_section import LauncherSection
from nomaflow_project.models.roles import BUILT_IN_ROLES, GrantError, split_grant
from nomaflow_project.models.store_url import StoreUrl
from nomaflow_project.reading.keys import Checked, Entry, formed, key, refusal, seconds
from nomaflow_project.reading.names import HostName, HostNames, LogLevel

_ROLE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


def _path(value: str) -> str:
    if "\0" in value:
        raise refusal("bad_value", "{got} has a NUL byte", got=repr(value[:80]), fix="delete the byte")
    return value


def _free_role(value: str) -> str:
    if value in BUILT_IN_ROLES:
        message = "the role {got} is built in and cannot be changed"
        raise refusal("reserved_role", message, got=repr(value), fix="choose another name")
    return value


def _grant(value: str) -> str:
    try:
        split_grant(value)
    except GrantError as error:
        fix = "write VERB SCOPE, such as 'cancel job:nightly*'"
        raise refusal("bad_grant", "{problem}", problem=str(error), fix=fix) from None
    return value


FilePath = Annotated[str, Checked(_path)]
VariableName = Annotated[
    str,
    formed(
        "bad_variable",
        _VARIABLE.fullmatch,
        "the name of a variable",
        "write a name such as 'APP_REGION', or the beginning of several, 'APP_*'",
    ),
]
RoleName = Annotated[
    str,
    Checked(_free_role),
    formed(
        "bad_role_name",
        _ROLE_NAME.fullmatch,
        "the name of a role; expected at most 32 lower-case letters, digits, '-' or '_'",
        "give a name such as 'nightwatch'",
    ),
]
GrantText = Annotated[str, Checked(_grant)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditPolicy(Entry):
    """The audit: who changed what, and what was refused."""

    enabled: bool = key(default=True, meaning="Whether it is written. Without it, refused calls are only in the log.")
    keep_days: int = key(400, "Age at which rows are deleted; the rest stays verifiable.", unit="days", ge=1, le=36500)


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSection(Entry):
    """The kernel."""

    REPLACED: ClassVar[Mapping[str, str]] = {
        "token_file": "remove it, and give each user a token with `nomaflow token create --user NAME --role ROLE`, "
        "each program with `--service NAME`",
        "host_token_file": "remove it, and let each host join with `nomaflow token create --host NAME`",
    }

    listen: Addresses = key(
        "",
        "Addresses for clients, separated by commas: `unix:PATH` for the owner, `tls://HOST:PORT`, or `HOST:PORT` for "
        "the same, for others. Empty, `unix:` alone, or no Unix socket among them: one in `.nomaflow/` too.",
    )
    listen_hosts: TcpAddresses = key(
        "", "Addresses for hosts, `tls://HOST:PORT`. Empty: the port after each of `listen`."
    )
    listen_join: TcpAddresses = key(
        "", "Addresses at which join strings are used, `tls://HOST:PORT`. Empty: the port after each of `listen_hosts`."
    )
    tls_cert: str = key(
        "",
        "File with a certificate for clients and for joining, PEM, and those between it and its root. "
        "Empty: one of the kernel's own authority, in `.nomaflow/pki/`.",
    )
    tls_key: str = key("", "File with the certificate's key, PEM, readable by the kernel's user only.")
    tls_ca: str = key(
        "",
        "File with the authority of `tls_cert`, PEM, for join strings. Empty: callers' systems know it.",
    )
    advertise: Addresses = key(
        "",
        "Addresses at which clients on other machines reach this kernel and those that stand by for it. "
        "Empty: `listen`.",
    )
    advertise_hosts: TcpAddresses = key(
        "",
        "The same for hosts, `tls://HOST:PORT`. Empty: the names in `advertise`, at the ports at which this kernel "
        "listens for hosts.",
    )
    leader_ttl_seconds: float = key(
        12.0,
        "Silence of the leading kernel after which another one on the same PostgreSQL takes over.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    store: StoreUrl = key(
        "",
        "URL of the history, `sqlite:///PATH` or `postgresql+asyncpg://…`. A relative PATH begins at the project's "
        "folder; `%3F` stands for a question mark in it, `%25` for a percent sign. Empty: SQLite in `.nomaflow/`.",
    )
    jobs_file: str = key("", "A jobs.toml that the kernel itself reads. Empty: jobs come from hosts only.")
    heartbeat_seconds: float = seconds(5.0, "How often hosts show that they are alive.")
    lease_seconds: float = seconds(20.0, "Silence after which a host gets no new work.")
    lost_after_seconds: float = seconds(
        600.0, "Silence after which attempts of a host are LOST; jobs may say otherwise."
    )
    drain_seconds: float = seconds(10.0, "Time to finish open calls when stopping; 2 s at most.", zero=True)
    log_level: LogLevel = key("INFO", "Lowest level of the kernel's own log.")
    log_format: Literal["text", "json"] = key("text", "The kernel's own log: for people, or one JSON object a line.")
    metrics: str = key(
        "",
        "Address of Prometheus metrics: `IP:PORT`, such as `127.0.0.1:9464`, or `unix:PATH`. Empty: none.",
    )
    metrics_token_file: str = key(
        "",
        "File with the bearer token that a scrape has to show. Only addresses of this machine may do without.",
    )
    metrics_tls_cert: str = key("", "File with a certificate for metrics over TLS, PEM. Empty: no TLS.")
    metrics_tls_key: str = key("", "File with the certificate's key, PEM, readable by the process's user only.")
    retention: RetentionPolicy = key(RetentionPolicy, "Retention of runs whose jobs.toml says nothing about it.")
    audit: AuditPolicy = key(AuditPolicy, "The audit.")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSection(Entry):
    """The plugin host."""

    REPLACED: ClassVar[Mapping[str, str]] = {
        "token_file": "remove it: a host proves itself with a certificate, which it gets with --join",
        "kernel_ca": "remove it: a host knows its kernel's authority since it has joined",
    }

    name: HostName = key("", "The host's name, a team's. Empty: the name of the project's folder.")
    version: int | None = key(
        None,
        "Number of the release, such as a build number, which grows. Code of a lower one, started late, does not "
        "replace the jobs of a higher one, unless `nomaflow reload` says so.",
        ge=0,
        le=MOST_NUMBER,
    )
    kernel: DialledAddresses = key(
        "",
        "Address of the kernel's door for hosts, several separated by commas. "
        "Empty: that of the kernel that the host has joined (`--join`), else the project's own kernel.",
    )
    max_async: int = key(200, "Steps in shared workers at once.", ge=1, le=10_000)
    max_sync: int | None = key(
        None,
        "Steps in exclusive workers at once. Default: 8 times the cores, or as many as the limit of open files allows.",
        ge=1,
        le=10_000,
    )
    max_parallel: int | None = key(
        None, "Steps of either kind at once, over all instances of the host. Default: no bound.", ge=1, le=1_000_000
    )
    labels: Labels = key(dict, "Labels of the host's instances, which `resources` of steps may ask for.")
    capacity: Capacity = key(Capacity, "What an instance has for steps that ask for resources.")
    accept_jobs_from: HostNames = key(
        tuple,
        "Hosts whose jobs may name this one with `host`, and any callable that it offers. They may call its jobs too.",
    )
    accept_calls_from: HostNames = key(
        tuple, "Hosts whose jobs may start jobs of this one with `call_job`, and get their results."
    )
    shared_workers: int | None = key(
        None,
        "Shared worker processes; there are more if each of them has 1,000 steps. Default: one per core.",
        ge=1,
        le=1024,
    )
    cancel_grace_seconds: float = seconds(
        5.0, "Time a step has to stop by itself before it is forced.", zero=True, most=86_400
    )
    max_extras_bytes: int = key(1_048_576, "Largest extras of a result.", unit="bytes", ge=1024, le=1_900_000)
    memory_mb: int | None = key(
        None, "Memory of one worker's process tree. Default: no limit.", unit="MiB", ge=16, le=1 << 24
    )
    max_processes: int | None = key(None, "Processes of one worker's tree. Default: no limit.", ge=1, le=1 << 22)
    nice: int | None = key(None, "Niceness of workers. Default: the host's own.", ge=-20, le=19)
    env_file: str | tuple[str, ...] = key(
        tuple,
        "Files with variables of the project, `NAME=value` lines, relative to it; a path or several. "
        "The process's own environment wins; a reload reads them again.",
    )
    pass_env: tuple[VariableName, ...] = key(
        tuple,
        "Further variables of the host that workers get, including secret ones; `NAME*` stands for all that "
        "begin with NAME and are not secret.",
    )
    secret_key_file: str = key(
        "",
        "File with the keys of `ENC:` values, newest first, readable by the host's user only. "
        "NOMAFLOW_SECRET_KEY and NOMAFLOW_SECRET_KEY_FILE win.",
    )
    run_as: str = key(
        "",
        "User as whom the project's code runs: templates and workers. The host itself needs the rights of root. "
        "Empty: the host's own user.",
    )
    recycle_after_steps: int | None = key(
        None, "A worker is replaced after this many steps. Default: never.", ge=1, le=1 << 31
    )
    recycle_growth_mb: int | None = key(
        None,
        "A worker is replaced once its memory has grown by more than this. Default: never.",
        unit="MiB",
        ge=1,
        le=1 << 24,
    )
    drain_seconds: float = seconds(
        30.0,
        "Time for running steps to end when the host stops, and for the kernel to take their reports.",
        zero=True,
        most=604_800,
    )
    log_level: LogLevel = key("INFO", "Lowest level of the host's own log.")
    log_format: Literal["text", "json"] = key("text", "The host's own log: for people, or one JSON object a line.")
    metrics: str = key(
        "",
        "Address of Prometheus metrics: `IP:PORT`, such as `127.0.0.1:9465`, or `unix:PATH`. Empty: none.",
    )
    metrics_token_file: str = key(
        "",
        "File with the bearer token that a scrape has to show. Only addresses of this machine may do without.",
    )
    metrics_tls_cert: str = key("", "File with a certificate for metrics over TLS, PEM. Empty: no TLS.")
    metrics_tls_key: str = key("", "File with the certificate's key, PEM, readable by the process's user only.")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaSection(Entry):
    """The most that one user or service may ask of the kernel over TCP. The owner on the Unix socket is exempt."""

    calls_per_second: float = key(50.0, "Calls, on average over 10 s.", gt=0, le=1e6)
    triggers_per_second: float = key(20.0, "Runs to start, on average over 60 s.", gt=0, le=1e6)
    streams: int = key(50, "Open watches and followed logs at once.", ge=1, le=10_000)
    queued_runs: int = key(10_000, "Runs that wait to start.", ge=1, le=1_000_000)
    bytes_per_second: int = key(1_048_576, "Size of requests, on average over 10 s.", unit="bytes", ge=1024, le=1 << 40)


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessSection(Entry):
    """Rights and quotas of callers over TCP."""

    roles: dict[RoleName, tuple[GrantText, ...]] = key(
        dict, 'Roles of your own, name → grants: `nightwatch = ["read *", "cancel job:nightly*"]`.'
    )
    quotas: QuotaSection = key(QuotaSection, "The most that one caller may ask.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PathSection(Entry):
    """The path of another file."""

    config_path: FilePath = key("", "Path, relative to the project's folder. Empty: the file of the usual name there.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsFile(Entry):
    """nomaflow.toml: optional settings of a project."""

    app: dict[str, Any] = key(dict, "Free-form; `settings.app` in a callable.")
    kernel: KernelSection = key(KernelSection, "The kernel.")
    host: HostSection = key(HostSection, "The plugin host.")
    access: AccessSection = key(AccessSection, "Who may do what.")
    jobs: PathSection = key(PathSection, "Where the jobs are: `jobs.toml`.")
    console: ConsoleSection = key(ConsoleSection, "The console, the web page.")
    alerts: AlertsSection = key(AlertsSection, "Who is told when something goes wrong.")
    launcher: LauncherSection = key(LauncherSection, "Instances of hosts, started when steps wait for them.")
    connectors: PathSection = key(PathSection, "Where the connectors are: `connectors.toml`.")
