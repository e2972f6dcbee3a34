"""How a supervisor is set up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow_project.reading.environment import file_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SupervisorSettings", "reaper_environment", "worker_environment"]

_SECRET = re.compile(r"^NOMAFLOW_.*(TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL)")
_REAPER_NEEDS = re.compile(r"^(PATH|HOME|LANG|LC_\w+|TMPDIR|VIRTUAL_ENV|PYTHON\w*|LD_LIBRARY_PATH)$")
_CORES = os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisorSettings:
    """The limits and times of one host instance.

    :param max_async: how many attempts shared workers take together
    :param max_sync: how many exclusive attempts run at once
    :param shared_workers: how many shared workers there are at most
    :param spare_exclusive: how many idle exclusive workers are kept ready
    :param cancel_grace_seconds: between asking a step to stop and making it
    :param term_seconds: after the second rung of the stop ladder (its children get SIGTERM, its threads an exception)
    :param kill_seconds: after the third (SIGTERM to the worker)
    :param memory_mb: resident memory that a worker's tree may have, in MiB; None for no limit
    :param max_processes: how many processes a worker's tree may have; None for no limit
    :param nice: added to the workers' niceness
    :param recycle_after_steps: a worker that has run as many is replaced; None for never
    :param recycle_growth_mb: a worker that has grown by as much, in MiB, is replaced; None for never
    :param load_seconds: how long the imports of a generation may take
    :param blocked_seconds: how long the loop of a shared worker may stand still before the watchdog says so
    :param spawn_only: start each worker as a fresh interpreter, also where forking would do
    :param state_dir: the instance's own directory; empty for none
    :param vanished_seconds: how long a job file that is gone may take to come back before its jobs count as removed
    :param pass_env: variables that workers inherit although they hold secrets
    """

    max_async: int = 200
    max_sync: int = 8 * _CORES
    shared_workers: int = _CORES
    spare_exclusive: int = _CORES
    cancel_grace_seconds: float = 5.0
    term_seconds: float = 1.0
    kill_seconds: float = 1.0
    memory_mb: int | None = None
    max_processes: int | None = None
    nice: int | None = None
    recycle_after_steps: int | None = None
    recycle_growth_mb: int | None = None
    load_seconds: float = 30.0
    blocked_seconds: float = 2.0
    spawn_only: bool = False
    state_dir: str = ""
    vanished_seconds: float = 0.0
    pass_env: tuple[str, ...] = ()


def worker_environment(
    environ: Mapping[str, str], *, drop: Iterable[str], settings: SupervisorSettings
) -> dict[str, str]:
    """Return what the processes of a generation inherit of *environ*: all but our secrets and the dropped names.

    :param drop: the variables that the generation's connectors.toml takes credentials from
    """
    kept, dropped = file_variables(set(settings.pass_env)), set(drop)
    return {
        name: value
        for name, value in environ.items()
        if name in kept or (name not in dropped and not _SECRET.match(name))
    }


def reaper_environment(environ: Mapping[str, str], *, keep: Iterable[str]) -> dict[str, str]:
    """Return what the reaper needs of *environ* to start an interpreter: it outlives loads, so no load's secrets."""
    kept = set(keep)
    return {name: value for name, value in environ.items() if name in kept or _REAPER_NEEDS.match(name)}
