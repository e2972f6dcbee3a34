"""Messages of a host instance about itself, as values. ``nomaflow_api.v1.letters`` has those about attempts.

Times are microseconds since the epoch, by the clock of the sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from nomaflow_api.v1.letters import CancelOrder, DispatchOrder, InventoryLine
from nomaflow_kernel.domain.errors import KernelError
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.reading.problems import Problem

_NOTHING = Resources()

InstanceKey = tuple[str, str]
"""Host and incarnation of an instance. An incarnation is chosen by its host and known to others, so it is a name within
that host only: nobody can take that of another host's instance."""


class InstanceLink(Protocol):
    """The kernel's end of one session. Its methods never block: messages are queued and coalesced."""

    def send(self, orders: Sequence[DispatchOrder | CancelOrder]) -> None:
        """Send orders, in order. A broken link drops them: the reattach settles what happened to them."""

    @property
    def loading(self) -> bool:
        """True if the instance has not loaded and introduced its first generation yet."""

    @property
    def digest(self) -> str:
        """The digest of the manifest that the instance serves; empty before the first."""

    def end(self, reason: str) -> None:
        """End the session: a newer one of the same incarnation has taken over, or the kernel stops."""

    def refuse(self, error: KernelError) -> None:
        """End the session with the error that the instance would get if it attached now."""


class RefusedLoad(Struct, frozen=True, kw_only=True):
    """A load of plugin code that an instance refused: the previous code stays in service."""

    at_us: int
    message: str
    problems: tuple[Problem, ...] = ()

    @property
    def by_kernel(self) -> bool:
        """True if the kernel refused the manifest: the jobs stay as they were, and run on the new code."""
        return any(problem.code == "manifest_refused" for problem in self.problems)

    @property
    def summary(self) -> str:
        """The first problem with its place, in one line."""
        if not self.problems:
            return self.message.partition("\n")[0]
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return (f"{first.place}: " if first.place else "") + first.message.partition("\n")[0] + more


class LoadInfo(Struct, frozen=True, kw_only=True):
    """The result of an instance's newest load: refused, or in service with its number of jobs.

    The counts include the jobs and schedules that are not named.

    :param problems: those of a load that serves nevertheless, without those of single jobs; a refused one has its own
    :param by: who asked for it; empty for a load that the host made by itself
    """

    refused: RefusedLoad | None = None
    generation: int = 0
    jobs: int = 0
    callables: int = 0
    removed_job_ids: tuple[str, ...] = ()
    added_job_ids: tuple[str, ...] = ()
    stopped_schedules: tuple[str, ...] = ()
    removed_count: int = 0
    added_count: int = 0
    stopped_count: int = 0
    problems: tuple[Problem, ...] = ()
    by: str = ""


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One worker process of an instance."""

    pid: int
    exclusive: bool
    generation: int
    running: int
    attempt_keys: tuple[str, ...] = ()
    rss_bytes: int = 0
    started_at_us: int = 0


class HeartbeatInfo(Struct, frozen=True, kw_only=True):
    """The contents of a heartbeat; ``workers`` None means unchanged.

    :param generation: the plugin code in service; 0 for a host whose first load failed, until a reload
    :param newer_files: files that changed after they were loaded, relative to its project
    :param drain_deadline_us: when a draining host cancels what still runs
    :param sent_at_us: its own clock; 0 for none
    """

    spilled_bytes: int = 0
    saturated: bool = False
    code_newer: bool = False
    draining: bool = False
    generation: int = 0
    manifest_digest: str = ""
    loaded_at_us: int = 0
    loading: bool = False
    workers: tuple[WorkerStatus, ...] | None = None
    newer_files: tuple[str, ...] = ()
    drain_deadline_us: int | None = None
    sent_at_us: int = 0


class InstanceHello(Struct, frozen=True, kw_only=True):
    """An instance's introduction of itself.

    :param principal: who it proved to be; empty for an instance of which only the attempts are known
    :param has: what it has for steps that ask for resources
    :param ends_at_us: when the time of its machine ends, by its own clock; 0 for never
    :param for_attempt: the key of the one attempt that it takes; empty for one that takes any
    :param heartbeat: its first one, without workers
    """

    host: str
    incarnation: str
    machine: str = ""
    pid: int = 0
    version: str = ""
    max_async: int = 0
    max_sync: int = 0
    inventory: Sequence[InventoryLine] = ()
    ended_incarnations: tuple[str, ...] = ()
    isolation_mechanism: str = ""
    refused_load: RefusedLoad | None = None
    watching: bool = False
    principal: str = ""
    python: str = ""
    project: str = ""
    has: Resources = _NOTHING
    ends_at_us: int = 0
    for_attempt: str = ""
    heartbeat: HeartbeatInfo = HeartbeatInfo()

    @property
    def key(self) -> InstanceKey:
        """The key of the instance."""
        return self.host, self.incarnation
