"""Interfaces between the session and the rest of the host; an adapter in the app connects them to the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nomaflow_host.attempt.checks import CheckedStep, CheckOutcome
from nomaflow_host.attempt.messages import AttemptOrder, CancelOrder
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus

__all__ = ["HostIdentity", "HostStatus", "Manifest", "Runner"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostIdentity:
    """The facts that stay the same for the life of a host's process.

    :param max_async: asynchronous steps at once
    :param max_sync: exclusive steps at once
    :param ended_incarnations: earlier lives of which no process is left
    :param watching: True if it reloads its code whenever a file is saved
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
class HostStatus:
    """The current state of the host.

    :param generation: the load of plugin code that new steps go to; 0 for none
    :param isolation_mechanism: ``cgroup`` or ``sampling``
    :param load: the newest load, the same object for as long as there is no newer one; None before the first
    :param loading: True while the first load of its life is under way
    """

    running: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    generation: int = 0
    manifest_digest: str = ""
    loaded_at_us: int = 0
    code_newer: bool = False
    draining: bool = False
    isolation_mechanism: str = ""
    load: LoadOutcome | None = None
    loading: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The manifest of a generation, in the bytes that the digest is computed from."""

    digest: str
    body: bytes


class Runner(Protocol):
    """Runs attempts. No method blocks; the asynchronous ones may take long."""

    def accept(self, order: AttemptOrder) -> None:
        """Start an attempt.

        :raises Refused: if there is no room, or the host is stopping
        """

    def cancel(self, order: CancelOrder) -> None:
        """Stop an attempt; an unknown key does nothing."""

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Stop an attempt at once; an unknown key does nothing."""

    def status(self) -> HostStatus:
        """Return the host's current state."""

    def manifest(self) -> Manifest | None:
        """Return the manifest of the serving generation, or None if none serves."""

    async def reload(self, *, force: bool) -> LoadOutcome:
        """Load the project's code again beside the serving one."""

    async def settled(self, seconds: float) -> bool:
        """Wait until no load is under way or due for changes on disk; return False if that takes longer."""

    async def check(self, steps: Sequence[CheckedStep], seconds: float) -> CheckOutcome:
        """Return the given values that the serving code would refuse, without calling it."""

    async def drain(self, deadline_s: float) -> None:
        """Accept nothing new and return when nothing runs any more; *deadline_s* 0 means the host's own setting."""
