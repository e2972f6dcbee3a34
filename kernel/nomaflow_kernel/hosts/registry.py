"""The open sessions, by instance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from itertools import islice

from nomaflow_api.bounds import HOSTS, INSTANCES_OF_HOST
from nomaflow_kernel.access.principals import OWNER, NotAuthenticated
from nomaflow_kernel.domain.errors import KernelStopping, QuotaExceeded
from nomaflow_kernel.engine.host_messages import InstanceHello, InstanceKey
from nomaflow_kernel.hosts.session import Session


class SessionRegistry:
    """Finds the session of an instance, and the sessions of a host."""

    def __init__(self) -> None:
        self._sessions: dict[InstanceKey, Session] = {}
        self.reloading: set[str] = set()
        """The hosts that a reload is under way of."""
        self.stopped = False
        """True once the kernel is stopping: no new session is welcome."""
        self._changed = asyncio.Event()
        self._restless = False
        self._expected_until = 0.0

    def add(self, session: Session) -> None:
        """Add a session; it replaces an older one of the same instance."""
        self._sessions[session.hello.key] = session
        if not session.loading:
            self._expected_until = 0.0
        self.note_change()

    def check_room(self, hello: InstanceHello, *, known: Collection[str]) -> None:
        """Check that there is room for an instance. Hosts and instances that are known already are always served.

        :param known: the hosts that have introduced jobs
        :raises QuotaExceeded: if it is one too many
        """
        names = {*known, *self.hosts()} - {""}
        if hello.host not in names and len(names) >= HOSTS:
            raise QuotaExceeded(
                f"host {hello.host!r} is new, and this kernel knows {len(names):,} hosts, the maximum; "
                "forget those that are gone: nomaflow hosts forget NAME"
            )
        others = [each for each in self.of_host(hello.host) if each.hello.incarnation != hello.incarnation]
        if len(others) >= INSTANCES_OF_HOST:
            raise QuotaExceeded(
                f"host {hello.host!r} has {len(others):,} instances attached, the maximum; stop some of them"
            )

    def remove(self, session: Session) -> None:
        """Remove a session, unless a newer one of the same instance has replaced it."""
        if self._sessions.get(session.hello.key) is session:
            del self._sessions[session.hello.key]
            self.note_change()

    # --- waiting for hosts, before triggers ------------------------------------------------------------------------

    def expect_host(self, seconds: float) -> None:
        """Treat a host that is starting as loading, until an instance has loaded, for ``seconds`` at most."""
        self._expected_until = time.monotonic() + seconds

    def loaded(self, key: InstanceKey, *, digest: str = "") -> None:
        """Record that a load of an instance is over.

        :param digest: digest of the manifest it serves; empty if there is nothing to introduce
        """
        session = self._sessions.get(key)
        if session is not None and digest:
            session.digest = digest
        if session is not None and session.loading:
            session.loading = False
            self._expected_until = 0.0
            self.note_change()

    @property
    def restless(self) -> bool:
        """True if an instance loads its first generation or watches its files, or a host is expected."""
        return self._restless or self._expects()

    def loading(self) -> Sequence[str]:
        """Return the hosts with an instance that loads its first generation; an empty name is an expected host."""
        names = {session.hello.host for session in self._sessions.values() if session.open and session.loading}
        return sorted(names or ({""} if self._expects() else ()))

    def watching(self) -> Sequence[Session]:
        """Return the open sessions of instances that reload on save."""
        return [session for session in self._sessions.values() if session.open and session.hello.watching]

    async def changed(self) -> None:
        """Wait until an instance has come, gone or loaded its first generation."""
        await self._changed.wait()

    def note_change(self) -> None:
        """Wake the callers of :meth:`changed`."""
        self._restless = any(session.loading or session.hello.watching for session in self._sessions.values())
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _expects(self) -> bool:
        return self._expected_until > 0.0 and time.monotonic() < self._expected_until

    def digests_beside(self, hello: InstanceHello) -> frozenset[str]:
        """Return the digests that the other attached instances of a host serve."""
        others = (each for each in self.of_host(hello.host) if each.hello.incarnation != hello.incarnation)
        return frozenset(session.digest for session in others)

    def of_instance(self, host: str, incarnation: str) -> Session | None:
        """Return the open session of an instance; None if it has none."""
        session = self._sessions.get((host, incarnation))
        return session if session is not None and session.open else None

    def of_host(self, host: str) -> Sequence[Session]:
        """Return the open sessions of a host."""
        return [session for session in self._sessions.values() if session.hello.host == host and session.open]

    def shut_out(self, host: str) -> bool:
        """End the sessions of a host whose access was revoked; return False if one is at the owner's door."""
        sessions = self.of_host(host)
        if any(session.hello.principal == str(OWNER) for session in sessions):
            return False
        for session in sessions:
            session.refuse(NotAuthenticated())
        return True

    def hosts(self) -> Sequence[str]:
        """Return the names of the hosts with an open session, sorted."""
        return sorted({session.hello.host for session in self._sessions.values() if session.open})

    def queued_commands(self, limit: int) -> dict[str, int]:
        """Return how many commands wait in each open session, by host and incarnation; only the first ``limit``."""
        shown = islice(self._sessions.items(), limit)
        return {"/".join(key): session.queued for key, session in shown if session.open}

    def stop(self) -> None:
        """End every session: the kernel is stopping."""
        self.stopped = True
        for session in list(self._sessions.values()):
            session.refuse(KernelStopping())
