"""The running system of ``nomaflow up`` once everything is up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nomaflow.client.values import CatalogueView, HostView, KernelView


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The addresses, processes and jobs of the system. ``host`` is None if it has not attached in time.

    :param kernel: the kernel that answers: on a shared database it may be another than the project's own
    :param kernel_pid: the project's own kernel
    :param kernel_seconds: time from the start of the kernel until it answered
    :param host_seconds: time from the start of the host until it was attached
    :param host_tail: its last lines if its code could not be loaded
    """

    project: Path
    address: str
    kernel: KernelView
    kernel_pid: int
    host: HostView | None
    catalogue: CatalogueView
    kernel_seconds: float
    host_seconds: float
    host_pid: int = 0
    host_tail: tuple[str, ...] = ()

    @property
    def stands_by(self) -> bool:
        """True if another kernel leads."""
        return self.kernel.pid != self.kernel_pid

    @property
    def serves(self) -> bool:
        """True if the host has code to run."""
        return any(one.pid == self.host_pid and one.generation for one in (self.host.instances if self.host else ()))
