"""The reload of a host: each of its instances is asked to load its code again, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_kernel.domain.errors import KernelError, KernelStopping
from nomaflow_kernel.hosts.errors import HostNotAttached
from nomaflow_kernel.hosts.registry import SessionRegistry
from nomaflow_kernel.hosts.session import Session

_RELOAD_SECONDS = 60.0
"""How long a host may take to answer a reload."""


async def reload_host(
    sessions: SessionRegistry, host: str, *, force: bool, by: str = ""
) -> Sequence[tuple[str, gateway.ReloadResult]]:
    """Ask every instance of a host to load its code again; return the incarnation and answer of each.

    One that leaves before it has answered is left out: it serves nothing any more.

    :param by: who asks for it
    :raises HostNotAttached: if none is attached, or all leave before they have answered
    :raises KernelStopping: if the kernel has ended their sessions, or does so before they have answered
    :raises KernelError: if a reload of that host is under way, or an answer takes too long
    """
    if host in sessions.reloading:
        why = f"host {host!r} is already being reloaded; wait for that reload, then try again"
        raise KernelError(why, reason="OPERATION_IN_PROGRESS")
    asked = [_reloaded(session, force=force, by=by) for session in sessions.of_host(host)]
    sessions.reloading.add(host)
    try:
        async with asyncio.timeout(_RELOAD_SECONDS):
            found = [each for each in await asyncio.gather(*asked) if each is not None]
    except TimeoutError:
        raise KernelError(
            f"host {host!r} has not answered the reload within {_RELOAD_SECONDS:g} seconds; "
            "`nomaflow hosts` shows its code, and its log says more",
            reason="RELOAD_UNANSWERED",
        ) from None
    finally:
        sessions.reloading.discard(host)
    if not found:
        raise KernelStopping() if sessions.stopped else HostNotAttached(host)
    return found


async def _reloaded(session: Session, *, force: bool, by: str) -> tuple[str, gateway.ReloadResult] | None:
    """Return the incarnation of an instance and its answer to a reload; None if it leaves before that."""
    try:
        return session.hello.incarnation, await session.reload(force=force, by=by)
    except HostNotAttached:
        return None
