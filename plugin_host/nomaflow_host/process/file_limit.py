"""The number of files that a host may have open: each of its workers needs some."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING

from nomaflow_host.process.errors import HostError

if TYPE_CHECKING:
    from nomaflow_host.supervisor.settings import SupervisorSettings

_USUAL = 65_536
_OWN = 64
_OF_WORKER = 10
"""The ends of its connection, pipes and ring, and the spill file of its attempt."""


class TooFewFiles(HostError):
    """Raised when a host may not open the files that its workers need."""

    exit_code = os.EX_CONFIG


def raise_file_limit(settings: SupervisorSettings) -> None:
    """Raise this process's limit of open files to what workers, rings and spill files need.

    :raises TooFewFiles: if the system does not allow as many
    """
    shared, sync = settings.shared_workers, settings.max_sync
    needed = _OWN + _OF_WORKER * (shared + sync)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(_allowed(hard), max(_USUAL, needed))
    if wanted < needed:
        fewer = ""
        if (most := most_sync(shared)) >= 1:
            fewer = f", or set max_sync = {most} in [host] of nomaflow.toml"
        elif (most := most_sync(1)) >= 1:
            fewer = f", or set shared_workers = 1 and max_sync = {most} in [host] of nomaflow.toml"
        raise TooFewFiles(
            f"the host may have {hard} files open, and needs {needed} for {shared} shared workers and {sync} steps in"
            " workers of their own\n"
            f"  fix: raise the hard limit to {needed} or more (`ulimit -Hn`, LimitNOFILE= of the service){fewer}"
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_sync(shared: int) -> int:
    """Return the greatest max_sync that files suffice for beside that many shared workers; 0 or less for none."""
    return (_allowed(resource.getrlimit(resource.RLIMIT_NOFILE)[1]) - _OWN) // _OF_WORKER - shared


def _allowed(hard: int) -> int:
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
