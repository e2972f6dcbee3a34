"""The store's errors: one tree, under the kernel's own.

Unless an error says otherwise, nothing of the failed operation was applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.domain.errors import KernelError

CHECK_DATABASE = "check the database, its disk and the store's URL"


class StoreError(KernelError):
    """The root of the store's errors."""

    reason = "STORE_ERROR"


class StoreFull(StoreError):
    """Raised when the disk, or a limit on the store's size, leaves no room to write. Recovers when there is room.

    :param fix: the way out
    """

    reason = "STORE_FULL"

    def __init__(self, detail: str, *, fix: str = "free disk space, and the kernel continues by itself") -> None:
        self.detail = detail
        super().__init__(f"the history store cannot grow: {detail}; {fix}")


class StoreBusy(StoreError):
    """Raised when another process held the store's lock for longer than the kernel waits (5 s), or a read took long.

    :param locked: whether it was a lock
    """

    reason = "STORE_BUSY"

    def __init__(self, detail: str, *, locked: bool = True) -> None:
        super().__init__(
            f"the history store is locked by another process: {detail}; stop that process, then try again"
            if locked
            else f"the history store is busy: {detail}; check the load of the database, then try again"
        )


class StoreUnavailable(StoreError):
    """Raised when the store cannot be reached or read.

    :param outcome_unknown: True if the connection was lost during a commit and could not be restored: the operation may
        or may not be applied, and the caller must read before it continues
    :param fix: the way out
    """

    reason = "STORE_UNAVAILABLE"

    def __init__(self, detail: str, *, outcome_unknown: bool = False, fix: str = CHECK_DATABASE) -> None:
        self.detail = detail
        self.outcome_unknown = outcome_unknown
        doubt = "; it is not known yet whether the last change was stored" if outcome_unknown else ""
        super().__init__(f"the history store cannot be reached: {detail}{doubt}; {fix}")


class StoreInUse(StoreError):
    """Raised when another process holds the SQLite store.

    :param pid: that process, 0 if unknown
    :param work: its work on the store, such as ``restore``; empty for a kernel
    """

    reason = "STORE_IN_USE"

    def __init__(self, path: str, pid: int, work: str = "") -> None:
        self.pid = pid
        self.work = work
        if work:
            super().__init__(f"the history store {path!r} is in use by a {work}, pid {pid}; wait until it is done")
            return
        who = f"the kernel with pid {pid}" if pid else "another kernel"
        super().__init__(
            f"the history store {path!r} is in use by {who}; stop that one first, or give this kernel its own store"
        )


class StoreLed(StoreError):
    """Raised when another kernel has the lease on the same PostgreSQL; this one stands by.

    :param holder: host and process of that kernel
    :param addresses: the addresses it reports for clients; empty if it has not reported any yet
    :param hosts_addresses: those for hosts
    :param authority: the fingerprint of its authority; empty for none
    :param overdue: whether it should have renewed its lease by now, and may be gone
    :param given_up: whether it is this kernel, which has given up the lease before its end: nobody leads until then
    """

    reason = "NOT_LEADER"

    def __init__(
        self,
        *,
        holder: str,
        addresses: Sequence[str] = (),
        hosts_addresses: Sequence[str] = (),
        authority: str = "",
        overdue: bool = False,
        given_up: bool = False,
    ) -> None:
        self.holder = holder
        self.overdue = overdue
        self.given_up = given_up
        self.authority = authority
        self.addresses = tuple(addresses)
        self.hosts_addresses = tuple(hosts_addresses)
        where = f" at {', '.join(self.addresses)}" if self.addresses else ""
        metadata = {"leader": ",".join(self.addresses)} if self.addresses else {}
        leads = f"kernel {holder!r} is the leader{where}; ask that one"
        if given_up:
            leads = "nobody leads until the lease is over that it has given up; try again in a second"
        super().__init__(f"this kernel is on standby: {leads}", metadata=metadata)

    def for_hosts(self) -> StoreLed:
        """Return the same error with the addresses that hosts dial."""
        return StoreLed(holder=self.holder, addresses=self.hosts_addresses, given_up=self.given_up)


class LeadLost(StoreError):
    """Raised when this kernel no longer leads: it stops its work, and recovers only by taking the lead again."""

    reason = "NOT_LEADER"


class StaleEpoch(LeadLost):
    """Raised when a newer kernel has taken the store over; this one must stop scheduling at once."""

    def __init__(self, *, own: int, found: int) -> None:
        super().__init__(
            f"a newer kernel has taken over the history store: own epoch {own}, found {found}; "
            "this kernel no longer writes; use the other one"
        )


class StoreUnusable(StoreError):
    """Raised when the store that is named cannot be used as it is; it was not touched."""


class StoreMoved(StoreUnusable):
    """Raised when the history of a store continues in another one; ``other`` is that store."""

    reason = "STORE_MOVED"

    def __init__(self, other: str) -> None:
        self.other = other
        super().__init__(
            f"the history was moved to {other!r}; start the kernel with that store, "
            "or reclaim this one as it was before the move with: nomaflow store reclaim URL"
        )


class StoreUnfinished(StoreUnusable):
    """Raised when a store is an incomplete copy of ``other``."""

    reason = "STORE_UNFINISHED"

    def __init__(self, other: str) -> None:
        super().__init__(
            f"the history store is an unfinished copy of {other!r}; "
            "copy again with: nomaflow store copy FROM TO, and if that refuses because this one is not empty, empty it"
        )


class UnsupportedStore(StoreUnusable):
    """Raised when a store URL names no database that the kernel can use."""

    reason = "UNSUPPORTED_STORE"

    def __init__(self, url: str, why: str, *, expected: str = "'sqlite:///PATH' or 'postgresql+asyncpg://…'") -> None:
        super().__init__(f"cannot use the store {url!r}: {why}; expected {expected}")


class MaintenanceRefused(Exception):
    """Raised when work on a store without a kernel, such as a backup or a copy, is refused; nothing was changed.

    :param reason: stable, for programs
    :param fix: the way out
    """

    def __init__(self, message: str, *, reason: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fix = fix
