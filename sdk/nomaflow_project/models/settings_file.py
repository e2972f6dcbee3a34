"""The keys of nomaflow.toml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from nomaflow_project.jobs.definitions import RetentionPolicy
from nomaflow_project.jobs.values import LogLevel
from nomaflow_project.reading.keys import Entry, key, seconds

__all__ = ["HOST_NAME", "HostSection", "KernelSection", "PathSection", "SettingsFile"]

HOST_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def _host_name(value: str) -> str:
    if value and not HOST_NAME.fullmatch(value):
        raise PydanticCustomError(
            "bad_host_name",
            "{got} is not a host name; expected at most 64 lower-case letters, digits, '-' or '_'",
            {"got": repr(value[:80]), "fix": "give a name such as 'billing'"},
        )
    return value


HostName = Annotated[str, AfterValidator(_host_name)]


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSection(Entry):
    """The kernel."""

    listen: str = key(
        "",
        "Addresses, separated by commas: `unix:PATH`, `HOST:PORT` or `tls://HOST:PORT`. "
        "Empty, or `unix:` alone: a Unix socket in `.nomaflow/`.",
    )
    token_file: str = key(
        "", "File with the token that TCP clients must show. Empty: `.nomaflow/token`, made if absent."
    )
    host_token_file: str = key(
        "", "File with the token that TCP hosts must show. Empty: `.nomaflow/host-token`, made if absent."
    )
    tls_cert: str = key("", "File with the certificate of `tls://` addresses, PEM, and those between it and its root.")
    tls_key: str = key("", "File with the certificate's key, PEM, readable by the kernel's user only.")
    advertise: str = key(
        "", "Addresses at which others reach this kernel, told by a kernel that stands by. Empty: as in `listen`."
    )
    leader_ttl_seconds: float = key(
        15.0,
        "Silence of the leading kernel after which another one on the same PostgreSQL takes over.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    store: str = key(
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
    metrics: str = key("", "Loopback address such as `127.0.0.1:9464` to serve Prometheus metrics on. Empty: none.")
    retention: RetentionPolicy = key(RetentionPolicy, "Retention of runs whose jobs.toml says nothing of it.")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSection(Entry):
    """The plugin host."""

    name: HostName = key("", "The host's name, a team's. Empty: the name of the project's folder.")
    kernel: str = key(
        "",
        "Address of the kernel, several separated by commas; with TLS wherever it is not on loopback. "
        "Empty: that of the project's kernel.",
    )
    token_file: str = key("", "File with the token that the kernel asks for on TCP, readable by the host's user only.")
    kernel_ca: str = key("", "File with the authorities that vouch for the kernel, PEM. Empty: those of the system.")
    max_async: int = key(200, "Steps in shared workers at once.", ge=1, le=100_000)
    max_sync: int | None = key(None, "Steps in exclusive workers at once. Default: 8 times the cores.", ge=1, le=10_000)
    max_parallel: int | None = key(
        None, "Steps of either kind at once, over all instances of the host. Default: no bound.", ge=1, le=1_000_000
    )
    shared_workers: int | None = key(None, "Shared worker processes. Default: one per core.", ge=1, le=1024)
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
    pass_env: tuple[str, ...] = key(tuple, "Variables that workers get although they hold secrets.")
    secret_key_file: str = key(
        "",
        "File with the keys of `ENC:` values, newest first, readable by the host's user only. "
        "NOMAFLOW_SECRET_KEY and NOMAFLOW_SECRET_KEY_FILE win.",
    )
    recycle_after_steps: int | None = key(
        None, "A worker is replaced after so many steps. Default: never.", ge=1, le=1 << 31
    )
    recycle_growth_mb: int | None = key(
        None,
        "A worker is replaced once its memory has grown by more. Default: never.",
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
    metrics: str = key("", "Loopback address such as `127.0.0.1:9465` to serve Prometheus metrics on. Empty: none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PathSection(Entry):
    """The path of another file."""

    config_path: str = key("", "Path, relative to the project's folder. Empty: the file of the usual name there.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsFile(Entry):
    """nomaflow.toml: optional settings of a project."""

    app: dict[str, Any] = key(dict, "Free-form; `settings.app` in a callable.")
    kernel: KernelSection = key(KernelSection, "The kernel.")
    host: HostSection = key(HostSection, "The plugin host.")
    jobs: PathSection = key(PathSection, "Where the jobs are: `jobs.toml`.")
    console: dict[str, Any] = key(dict, "The web console's own settings.")
    connectors: PathSection = key(PathSection, "Where the connectors are: `connectors.toml`.")
