"""The lease of the kernel that leads: read, taken, renewed and given back by the database's clock.

Plain functions of a connection; the caller holds the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Connection, literal_column, select, text, update

from nomaflow_kernel.store.errors import StaleEpoch, StoreError, StoreLed
from nomaflow_kernel.store.holders import certainly_ended
from nomaflow_kernel.store.schema import leadership

_NOW: ColumnElement[int] = literal_column(
    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)", BigInteger()
)
_END_FROZEN = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :name"
    " AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => :seconds)"
)

_HOSTS = "\n\n"
"""Between the addresses for clients and those for hosts; each is a line."""

Reported = tuple[Sequence[str], Sequence[str]]
"""A kernel's addresses: for clients, and for hosts."""


class LeasePolicy(Struct, frozen=True, kw_only=True):
    """Settings of leadership on a database that several kernels share.

    :param ttl_seconds: validity of the lease; it is renewed after a quarter of that
    :param addresses: returns this kernel's addresses, which standby kernels tell callers; none while it knows none
    :param authority: returns the fingerprint of this kernel's authority, which standby kernels compare; empty for none
    :param on_lost: called once, when the lease is lost; the epoch refuses the writes of a kernel without it anyway
    """

    ttl_seconds: float = 12.0
    addresses: Callable[[], Reported] = lambda: ((), ())
    authority: Callable[[], str] = lambda: ""
    on_lost: Callable[[StoreError], None] = lambda _: None


class LeaseWatch:
    """A standby kernel's observation of the lease, by its own clock.

    If the database's clock is set back, the lease of a dead leader would hold that much longer. A lease that nobody
    renewed for its whole length is over, whatever that clock says.

    :param clock: seconds that keep counting while the machine is suspended
    :param own: holder and process of the kernel that looks: a lease of its own is one that it has given up
    """

    def __init__(self, clock: Callable[[], float], own: tuple[str, str] = ("", "")) -> None:
        self._clock = clock
        self.own = own
        self._seen = (0, 0)
        self._since = 0.0

    def is_over(self, *, term: int, until_us: int, ttl_us: int) -> bool:
        """Return whether the lease was unchanged for its whole length."""
        now = self._clock()
        if self._seen != (term, until_us):
            self._seen, self._since = (term, until_us), now
        return (now - self._since) * 1_000_000 >= ttl_us

    def is_overdue(self, *, ttl_us: int) -> bool:
        """Return whether the lease was unchanged for half of its length: a renewal is due after a quarter."""
        return (self._clock() - self._since) * 1_000_000 >= ttl_us / 2


def refuse_while_held(connection: Connection, watch: LeaseWatch, *, lock: bool = False) -> str:
    """Check that the lease is free: expired, given back, or of a process of this machine that has ended.

    :return: the fingerprint of the authority of the kernel that led last; empty for none
    :raises StoreLed: if it is held
    """
    look = select(leadership, (leadership.c.lease_until_us - _NOW).label("left_us"))
    row = connection.execute(look.with_for_update() if lock else look).one()
    over = watch.is_over(term=row.term, until_us=row.lease_until_us, ttl_us=row.ttl_us)
    if row.left_us > 0 and not over and not certainly_ended(row.process):
        given_up = (row.holder, row.process) == watch.own
        clients, _, hosts = ("" if given_up else row.addresses).partition(_HOSTS)
        raise StoreLed(
            holder=row.holder,
            addresses=_lines(clients),
            hosts_addresses=_lines(hosts),
            authority=row.authority,
            overdue=watch.is_overdue(ttl_us=row.ttl_us),
            given_up=given_up,
        )
    return str(row.authority)


def end_frozen_writers(connection: Connection, *, name: str, seconds: float) -> None:
    """End the sessions whose transaction has been waiting for its client: what they have locked becomes free.

    The database ends an idle transaction by itself, but not one whose client was frozen, or lost, between the parts
    of a statement (after Parse and Flush, say): that session counts as active for as long as it is connected.

    :param name: application name of the sessions
    :param seconds: age of the transactions, at least
    """
    connection.execute(_END_FROZEN, {"name": name, "seconds": seconds})


def take_lease(connection: Connection, policy: LeasePolicy, *, holder: str, process: str, term: int) -> None:
    """Make a kernel the leader.

    :param holder: its name for people
    """
    connection.execute(update(leadership).values(**_values(policy, term), holder=holder, process=process))


def renew_lease(connection: Connection, policy: LeasePolicy, *, term: int) -> bool:
    """Extend the lease by its full length from now, expired or not: nobody else has taken it.

    :return: whether others learn this kernel's addresses by it
    :raises StaleEpoch: if another kernel has taken it
    """
    values = _values(policy, term)
    if connection.execute(update(leadership).where(leadership.c.term == term).values(**values)).rowcount != 1:
        raise StaleEpoch(own=term, found=connection.execute(select(leadership.c.term)).scalar_one())
    return bool(values["addresses"])


def _values(policy: LeasePolicy, term: int) -> dict[str, Any]:
    clients, hosts = policy.addresses()
    ttl_us = round(policy.ttl_seconds * 1_000_000)
    return {
        "term": term,
        "addresses": "\n".join(clients) + (_HOSTS + "\n".join(hosts) if hosts else ""),
        "authority": policy.authority(),
        "ttl_us": ttl_us,
        "lease_until_us": _NOW + ttl_us,
    }


def release_lease(connection: Connection, *, term: int) -> None:
    """End the lease now, so that another kernel need not wait; no effect if it belongs to another kernel."""
    connection.execute(update(leadership).where(leadership.c.term == term).values(lease_until_us=0))


def _lines(text: str) -> Sequence[str]:
    return text.split("\n") if text else ()
