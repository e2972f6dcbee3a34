"""Settings of a supervisor."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow_host.reaper.other_user import OtherUser

_REAPER_NEEDS = re.compile(r"^(PATH|HOME|LANG|LC_\w+|TMPDIR|VIRTUAL_ENV|PYTHON\w*|LD_LIBRARY_PATH)$")
_CORES = os.cpu_count() or 1


class SupervisorSettings(Struct, frozen=True, kw_only=True):
    """The limits and times of one host instance.

    :param max_async: number of attempts that all shared workers take together
    :param max_sync: number of exclusive attempts at once
    :param shared_workers: maximum number of shared workers
    :param spare_exclusive: number of idle exclusive workers that are kept ready
    :param cancel_grace_seconds: time between the request to stop a step and the use of force
    :param term_seconds: after the second rung of the stop ladder (its children get SIGTERM, its threads an exception)
    :param kill_seconds: after the third (SIGTERM to the worker)
    :param memory_mb: limit of the resident memory of a worker's tree, in MiB; None for no limit
    :param max_processes: limit of the processes of a worker's tree; None for no limit
    :param nice: added to the workers' niceness
    :param recycle_after_steps: number of steps after which a worker is replaced; None for never
    :param recycle_growth_mb: growth in MiB after which a worker is replaced; None for never
    :param load_seconds: time limit of the imports of a generation
    :param blocked_seconds: how long the loop of a shared worker may be blocked before the watchdog reports it
    :param state_dir: the instance's own directory; empty for none
    :param vanished_seconds: time that a missing job file has to come back before its jobs count as removed
    :param user: the user that templates and workers run as; None for the host's own user
    :param pass_env: variables that workers get in addition, see `worker_variables`
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
    state_dir: str = ""
    vanished_seconds: float = 0.0
    user: OtherUser | None = None
    pass_env: tuple[str, ...] = ()


def reaper_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the reaper needs to start interpreters: no load's secrets, since it outlives loads."""
    return {name: value for name, value in environ.items() if _REAPER_NEEDS.match(name)}
