"""Limits on the number of hosts that a kernel knows, and of instances that a host has."""

from __future__ import annotations

from collections.abc import Collection

from nomaflow_api.bounds import HOSTS, INSTANCES_OF_HOST
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.hosts.registry import SessionRegistry

__all__ = ["check_room"]


def check_room(hello: InstanceHello, *, known: Collection[str], sessions: SessionRegistry) -> None:
    """Check that there is room for an instance. Hosts and instances that are known already are always served.

    :param known: the hosts that have introduced jobs
    :raises QuotaExceeded: if it is one too many
    """
    names = {*known, *sessions.hosts()} - {""}
    if hello.host not in names and len(names) >= HOSTS:
        raise QuotaExceeded(
            f"host {hello.host!r} is new, and this kernel knows {len(names):,} hosts, the maximum; "
            "forget those that are gone: nomaflow hosts forget NAME"
        )
    others = [each for each in sessions.of_host(hello.host) if each.hello.incarnation != hello.incarnation]
    if len(others) >= INSTANCES_OF_HOST:
        raise QuotaExceeded(
            f"host {hello.host!r} has {len(others):,} instances attached, the maximum; stop some of them"
        )
