"""Errors between the kernel and a host, besides those of the domain."""

from __future__ import annotations

from collections.abc import Collection

from nomaflow_kernel.domain.errors import KernelError


class HostNotAttached(KernelError):
    """Raised when an operation needs an attached instance of a host and there is none."""

    reason = "HOST_NOT_ATTACHED"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"no instance of host {host!r} is attached; start it with `nomaflow host DIR`; "
            "one that runs is back within 10 s after a start of the kernel"
        )


class HostLoading(KernelError):
    """Raised when a job is not found yet, while a host that may bring it is still loading.

    :param hosts: their names; an empty one stands for a host that is starting
    """

    reason = "HOST_LOADING"

    def __init__(self, job_id: str, hosts: Collection[str]) -> None:
        self.hosts = tuple(sorted(hosts))
        names = " and ".join(f"host {host!r}" if host else "a host that is being started" for host in self.hosts)
        verb = "is" if len(self.hosts) == 1 else "are"
        super().__init__(
            f"{names} {verb} still loading and may bring job {job_id!r}; try again in a second, "
            "and see `nomaflow hosts` if that does not help"
        )
