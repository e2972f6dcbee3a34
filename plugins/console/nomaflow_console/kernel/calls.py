"""Clients of the kernel: one for each principal, with the name of the person who asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

from starlette.requests import Request

from nomaflow.client import AddressSource, ClientError, FixedAddress, KernelClient, KernelUnreachable, Unauthenticated
from nomaflow.client.values import KernelView
from nomaflow_console.access.sessions import Session
from nomaflow_console.kernel.hub import EventHub
from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.settings import ConsoleSettings

T = TypeVar("T")
PAGE_SECONDS = 2.0
"""How long a page waits for a kernel that is away: then it says so."""
_FRESH_SECONDS = 1.0
_MOST_PRINCIPALS = 100
"""Principals that are kept though nobody looks: each has connections of its own."""
_MOST_TROUBLED = 100
"""Jobs in trouble that are looked at for the hosts that brought them."""


class Principal:
    """One way to call the kernel, shared by all sessions with the same token.

    :param unwatched: see :class:`EventHub`
    :ivar asking: gives up soon, so that a page can say that the kernel is away
    :ivar watching: never gives up
    :ivar hub: the events, for all who look
    """

    def __init__(self, source: AddressSource, settings: ConsoleSettings, *, unwatched: Callable[[], None]) -> None:
        self.asking = KernelClient(
            source, ca=settings.ca, by="console", connect_seconds=PAGE_SECONDS, retry_seconds=PAGE_SECONDS
        )
        forever = float("inf")
        self.watching = KernelClient(
            source, ca=settings.ca, by="console", connect_seconds=forever, retry_seconds=forever,
            on_connected=self._connected,
        )  # fmt: skip
        self.hub = EventHub(self.watching, self.status, unwatched=unwatched)
        self._status = KernelStatus()
        self._asked = 0.0
        self._reading = asyncio.Lock()
        self._kept: dict[Hashable, Any] = {}

    def kept(self, what: Hashable, new: Callable[[], T]) -> T:
        """Return what pages keep of what this principal may see; the first time it is made."""
        if what not in self._kept:
            self._kept[what] = new()
        return cast("T", self._kept[what])

    async def status(self) -> KernelStatus:
        """Return the line about the kernel, at most a second old."""
        async with self._reading:
            if time.monotonic() - self._asked > _FRESH_SECONDS:
                self._status = await self._read()
                self._asked = time.monotonic()
            return self._status

    def _connected(self, there: bool) -> None:  # noqa: FBT001  # the callback's one argument
        """Look at once when the kernel goes or comes back."""
        del there
        self._asked = 0.0
        self.hub.look_now()

    async def _read(self) -> KernelStatus:
        kernel: KernelView | None = None
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                kernel = await self.asking.get_kernel()  # first: what follows is not older than its sequence
                hosts, counts, serving, jobs = await asyncio.gather(
                    self.asking.list_hosts(), self.asking.summarize_runs(), self.asking.is_serving(),
                    self.asking.list_jobs_page(conditions=["DISABLED", "KEPT"], page_size=_MOST_TROUBLED),
                )  # fmt: skip
        except Unauthenticated:
            return KernelStatus(as_of=datetime.now(UTC))
        except (ClientError, TimeoutError) as error:
            return self._as_told(kernel, error)
        runs = Counter({each.state: each.runs for each in counts})
        return KernelStatus.of(
            kernel, hosts, serving=serving, running=runs["RUNNING"], waiting=runs["QUEUED"], troubled=jobs.jobs
        )

    def _as_told(self, kernel: KernelView | None, error: Exception) -> KernelStatus:
        """Return the status of before, of a kernel that does not tell another one now.

        :param kernel: what it is; None if it has not answered even that
        """
        if isinstance(error, KernelUnreachable) or (kernel is None and isinstance(error, TimeoutError)):
            return replace(self._status, away_since=self._status.away_since or datetime.now(UTC))
        # It answers, and refuses this call, as beyond a quota, or takes its time.
        told = replace(self._status, as_of=datetime.now(UTC), away_since=None)
        return told if kernel is None else replace(told, last_event_seq=kernel.last_event_seq, caller=kernel.caller)

    async def close(self) -> None:
        """Stop watching, and close both clients."""
        await self.hub.close()
        await asyncio.gather(self.asking.close(), self.watching.close())


class Kernels:
    """The principals that call the kernel from this console: those that called last, and all for whom it is watched.

    :param unwatched: called with the token of a principal that the kernel refuses, or which nobody watches any more
    """

    def __init__(self, settings: ConsoleSettings, *, unwatched: Callable[[str | None], None] = lambda _: None) -> None:
        self._settings = settings
        self._unwatched = unwatched
        self._known: dict[str | None, Principal] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def principal(self, token: str | None) -> Principal:
        """Return the principal of a token; of None the console's own."""
        found = self._known.pop(token, None)
        if found is None:
            found = Principal(self._source(token), self._settings, unwatched=partial(self._unwatched, token))
        self._known[token] = found
        if len(self._known) > _MOST_PRINCIPALS:
            self._forget_idle()
        return found

    def _forget_idle(self) -> None:
        """Close the principal that has not called for the longest time, and forget what pages keep of it."""
        others = list(self._known)[:-1]
        idle = next((token for token in others if not self._known[token].hub.watches), None)
        if idle is not None:
            closing = asyncio.create_task(self._known.pop(idle).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def name_of(self, token: str) -> str:
        """Return the name of the user or service whose token it is.

        :raises ClientError: if the kernel does not take it, or is away
        """
        client = KernelClient(
            self._source(token), ca=self._settings.ca, connect_seconds=PAGE_SECONDS, retry_seconds=PAGE_SECONDS
        )
        async with client:
            caller = (await client.get_kernel()).caller
        return caller.name if caller is not None else "token"

    def _source(self, token: str | None) -> AddressSource:
        own = self._settings.kernel
        return own if token is None else FixedAddress(address=own.addresses(), token=token)

    def watch_for(self, session: Session) -> None:
        """Watch for a while whether the kernel still takes a session's token; the owner's socket takes everybody."""
        if self._settings.takes_tokens:
            self.principal(session.token).hub.watch_a_while()

    def of(self, session: Session) -> KernelClient:
        """Return the client that calls in a session's name."""
        return self.principal(session.token).asking.in_name_of(session.name)

    async def close(self) -> None:
        """Close every client."""
        await asyncio.gather(*(each.close() for each in self._known.values()), *self._closing)
        self._known.clear()


def principal_of(request: Request) -> Principal:
    """Return the principal of a request's session."""
    kernels: Kernels = request.app.state.kernels
    return kernels.principal(request.state.session.token)


def kernel_of(request: Request) -> KernelClient:
    """Return the client of the kernel that calls in the name of a request's session.

    Its errors, those of :mod:`nomaflow.client.errors`, may leave a handler: they become a page.
    """
    kernels: Kernels = request.app.state.kernels
    session: Session = request.state.session
    return kernels.of(session)


async def status_of(request: Request) -> KernelStatus:
    """Return the line about the kernel for the principal of a request, at most a second old."""
    return await principal_of(request).status()
