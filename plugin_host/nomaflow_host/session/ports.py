"""What a session needs of the rest of the host. The supervisor, behind the app's adapter, is on the other side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nomaflow_host.attempt.checks import CheckedStep, CheckOutcome
from nomaflow_host.attempt.messages import AttemptOrder, CancelOrder

__all__ = ["HostIdentity", "HostStatus", "Manifest", "OrderRefused", "ReloadOutcome", "Runner", "WorkerLine"]


class OrderRefused(Exception):
    """Raised when an attempt cannot be taken now, though it may be later. Its text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostIdentity:
    """What stays the same for the life of a host's process.

    :param max_async: asynchronous steps at once
    :param max_sync: exclusive steps at once
    :param ended_incarnations: earlier lives of which nothing is left
    :param watching: whether it loads its code anew whenever a file is saved
    """

    host: str
    incarnation: str
    boot_id: str
    machine: str
    pid: int
    version: str
    max_async: int
    max_sync: int
    ended_incarnations: tuple[str, ...] = ()
    watching: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLine:
    """One worker process, for listings."""

    pid: int
    exclusive: bool
    generation: int
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStatus:
    """How the host is right now.

    :param generation: the load of plugin code that new steps go to; 0 for none
    :param isolation_mechanism: ``cgroup`` or ``sampling``
    :param load: the newest load, the same object for as long as there is no newer one; None before the first
    :param loading: whether the first load of its life is under way
    """

    running: int = 0
    workers: tuple[WorkerLine, ...] = ()
    generation: int = 0
    manifest_digest: str = ""
    loaded_at_us: int = 0
    code_newer: bool = False
    draining: bool = False
    isolation_mechanism: str = ""
    load: ReloadOutcome | None = None
    loading: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a generation offers, in the bytes that the digest names."""

    digest: str
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadOutcome:
    """What became of a load.

    :param message: why it was refused, or what changed
    :param problems: what it was refused for, or those of the new generation; in the manifest's form, with lines
    :param at_us: when, microseconds since the epoch
    :param jobs: how many jobs the files of what serves hold
    :param callables: how many callables it offers
    :param removed: ids of jobs that their files no longer hold
    :param stopped: schedules of other jobs that fire no more, by name
    :param added: ids of jobs that are new
    """

    accepted: bool
    generation: int
    digest: str
    message: str
    problems: tuple[dict[str, Any], ...] = field(default=())
    at_us: int = 0
    jobs: int = 0
    callables: int = 0
    removed: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class Runner(Protocol):
    """Runs attempts. No method blocks; the asynchronous ones may take long."""

    def accept(self, order: AttemptOrder) -> None:
        """Start an attempt.

        :raises OrderRefused: if there is no room, or the host is stopping
        """

    def cancel(self, order: CancelOrder) -> None:
        """Stop an attempt; an unknown key does nothing."""

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Stop an attempt at once; an unknown key does nothing."""

    def status(self) -> HostStatus:
        """Return how the host is."""

    def manifest(self) -> Manifest | None:
        """Return what the generation that serves offers; None where none does."""

    async def reload(self, *, force: bool) -> ReloadOutcome:
        """Load the project's code anew, beside what serves."""

    async def settled(self, seconds: float) -> bool:
        """Wait until no load is under way or due for what is on disk; False where that takes longer."""

    async def check(self, steps: Sequence[CheckedStep], seconds: float) -> CheckOutcome:
        """Return what the code that serves would refuse of given values, without calling it."""

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new and return when nothing runs any more; *deadline_s* 0 means the host's own setting."""
