"""The kernel itself, and who asks it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nomaflow.client.values.shapes import Shaped

__all__ = ["CallerView", "KernelView"]


class CallerView(Shaped, frozen=True, kw_only=True):
    """The principal that asks, and what it may do.

    :param kind: ``owner``, ``user`` or ``service``
    :param grants: ``VERB SCOPE`` each, as in docs/access.md
    :param roles: the roles that they came from
    """

    name: str
    kind: str
    grants: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def may(self, verb: str, *, job_id: str = "", host: str = "", tags: Iterable[str] = ()) -> bool:
        """Return whether the grants allow something, so that a program offers what the kernel will not refuse.

        :param verb: ``read``, ``logs``, ``trigger``, ``cancel``, ``operate`` or ``admin``
        :param job_id: the job it is about; empty for none
        :param host: the host that runs the job, or the host that it is about. Without job and host it is about
            everything
        :param tags: the job's tags
        """
        tags = tuple(tags)
        for scope in (grant.partition(" ")[2] for grant in self.grants if grant.partition(" ")[0] == verb):
            kind, _, name = scope.partition(":")
            begins = name.endswith("*") and job_id.startswith(name[:-1])
            if (
                scope == "*"
                or (kind == "job" and job_id and (job_id == name or begins))
                or (kind == "host" and host == name)
                or (kind == "tag" and name in tags)
            ):
                return True
        return False

    def may_some(self, verb: str) -> bool:
        """Return whether the grants allow something for anything at all."""
        return any(grant.partition(" ")[0] == verb for grant in self.grants)


class KernelView(Shaped, frozen=True, kw_only=True):
    """The description of a kernel; ``store`` is ``sqlite`` or ``postgresql``.

    :param pid: 0 for a caller that may not operate the whole kernel
    :param project: empty for such a caller
    :param store_id: random name of the history; a cursor kept from another history is invalid here
    :param pruned_through_seq: the newest event that retention has removed, 0 for none
    :param lease_seconds: silence after which a host gets no new work; 0 from a kernel that does not say
    :param grace_seconds: silence after which a host's attempts may be declared LOST; 0 from a kernel that does not say
    :param now: the kernel's clock; None from a kernel that does not say
    :param caller: who asks; None from a kernel that does not say
    :param trouble: why the kernel cannot work, in one sentence; empty while it can
    """

    version: str
    epoch: int
    pid: int
    store: str
    started_at: datetime | None = None
    project: str = ""
    last_event_seq: int = 0
    store_id: str = ""
    pruned_through_seq: int = 0
    lease_seconds: float = 0.0
    grace_seconds: float = 0.0
    now: datetime | None = None
    caller: CallerView | None = None
    trouble: str = ""
