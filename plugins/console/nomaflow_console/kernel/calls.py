"""Clients of the kernel: one for each principal, with the name of the person who asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import Request

from nomaflow.client import AddressSource, ClientError, FixedAddress, KernelClient, KernelUnreachable
from nomaflow.client.values import HostView, KernelView
from nomaflow_console.access.sessions import Session
from nomaflow_console.settings import ConsoleSettings

__all__ = ["KernelCalls", "KernelStatus", "Kernels", "Principal", "kernel_of"]

KernelCalls: TypeAlias = KernelClient

_PAGE_SECONDS = 2.0
"""How long a page waits for a kernel that is away: then it says so."""
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelStatus:
    """The line about the kernel on each page.

    :param as_of: when it was true, in seconds since the epoch
    :param away_since: since when no kernel answers; None if it answers
    :param alerts: the number of hosts that need a person
    """

    version: str = ""
    project: str = ""
    as_of: float = 0.0
    away_since: float | None = None
    running: int = 0
    waiting: int = 0
    hosts_ok: int = 0
    hosts_all: int = 0
    alerts: int = 0
    last_event_seq: int = 0


@dataclass(kw_only=True)
class Principal:
    """One way to call the kernel, shared by all sessions with the same token.

    :param asking: gives up soon, so that a page can say that the kernel is away
    :param watching: never gives up
    """

    asking: KernelClient
    watching: KernelClient
    _status: KernelStatus = field(default_factory=KernelStatus)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def status(self) -> KernelStatus:
        """Return the line about the kernel, at most a second old while it answers."""
        async with self._reading:
            if time.time() - self._status.as_of > _FRESH_SECONDS:
                self._status = await self._read()
            return self._status

    async def _read(self) -> KernelStatus:
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                kernel, hosts = await self.asking.get_kernel(), await self.asking.list_hosts()
                running = [run async for run in self.asking.list_runs(states=["RUNNING"], page_size=100)]
                waiting = [run async for run in self.asking.list_runs(states=["QUEUED"], page_size=100)]
        except (KernelUnreachable, TimeoutError):
            from dataclasses import replace

            return replace(self._status, away_since=self._status.away_since or time.time())
        except ClientError:
            return KernelStatus(as_of=time.time())
        return _status(kernel, hosts, running=len(running), waiting=len(waiting))

    async def close(self) -> None:
        """Close both clients."""
        await asyncio.gather(self.asking.close(), self.watching.close())


def _status(kernel: KernelView, hosts: list[HostView], *, running: int, waiting: int) -> KernelStatus:
    well = [host for host in hosts if host.state == "ATTACHED"]
    troubled = [host for host in hosts if host.state != "ATTACHED" or host.problems or _is_outdated(host)]
    return KernelStatus(
        version=kernel.version,
        project=kernel.project,
        as_of=time.time(),
        running=running,
        waiting=waiting,
        hosts_ok=len(well),
        hosts_all=len(hosts),
        alerts=len(troubled),
        last_event_seq=kernel.last_event_seq,
    )


def _is_outdated(host: HostView) -> bool:
    return any(instance.code_newer for instance in host.instances)


class Kernels:
    """The principals that call the kernel from this console."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._known: dict[str | None, Principal] = {}

    def principal(self, token: str | None) -> Principal:
        """Return the principal of a token; of None the console's own."""
        if token not in self._known:
            source = self._source(token)
            self._known[token] = Principal(
                asking=self._client(source, seconds=_PAGE_SECONDS),
                watching=self._client(source, seconds=float("inf")),
            )
        return self._known[token]

    def _client(self, source: AddressSource, *, seconds: float) -> KernelClient:
        return KernelClient(source, ca=self._settings.ca, by="console", connect_seconds=seconds, retry_seconds=seconds)

    def _source(self, token: str | None) -> AddressSource:
        own = self._settings.kernel
        return own if token is None else FixedAddress.of(own.addresses(), token=token)

    def of(self, session: Session) -> KernelCalls:
        """Return the client that calls in a session's name."""
        return self.principal(session.token).asking.in_name_of(session.name)

    async def close(self) -> None:
        """Close every client."""
        await asyncio.gather(*(each.close() for each in self._known.values()))
        self._known.clear()


def kernel_of(request: Request) -> KernelCalls:
    """Return the client of the kernel that calls in the name of a request's session.

    Its errors, those of :mod:`nomaflow.client.errors`, may leave a handler: they become a page.
    """
    kernels: Kernels = request.app.state.kernels
    session: Session = request.state.session
    return kernels.of(session)
