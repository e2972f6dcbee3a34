"""The facts about a host that its session tells the kernel."""

from __future__ import annotations

from msgspec import Struct, field

from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus
from nomaflow_project.jobs.resources import Resources


class HostIdentity(Struct, frozen=True, kw_only=True):
    """The facts that stay the same for the life of a host's process.

    :param max_async: asynchronous steps at once
    :param max_sync: exclusive steps at once
    :param ended_incarnations: earlier lives of which no process is left
    :param watching: True if it reloads its code whenever a file is saved
    :param python: the version of its Python
    :param project: the folder of its project, absolute
    :param has: what it has for steps that ask for resources
    :param ends_at_us: when the time of its machine ends, microseconds since the epoch; 0 for never
    :param for_attempt: the key of the one attempt that it takes; empty for any
    """

    host: str
    incarnation: str
    machine: str
    pid: int
    version: str
    max_async: int
    max_sync: int
    ended_incarnations: tuple[str, ...] = ()
    watching: bool = False
    python: str = ""
    project: str = ""
    has: Resources = field(default_factory=Resources)
    ends_at_us: int = 0
    for_attempt: str = ""


class HostStatus(Struct, frozen=True, kw_only=True):
    """The current state of the host.

    :param generation: the load of plugin code that new steps go to; 0 for none
    :param isolation_mechanism: ``cgroup`` or ``sampling``
    :param load: the newest load, the same object for as long as there is no newer one; None before the first
    :param loading: True while the first load of its life is under way
    :param newer_files: files on disk that are newer than what is loaded, at most 20, relative to the project
    :param drain_deadline_at_us: when a draining host cancels what still runs, microseconds since the epoch; otherwise 0
    """

    running: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    generation: int = 0
    manifest_digest: str = ""
    loaded_at_us: int = 0
    newer_files: tuple[str, ...] = ()
    draining: bool = False
    drain_deadline_at_us: int = 0
    isolation_mechanism: str = ""
    load: LoadOutcome | None = None
    loading: bool = False
