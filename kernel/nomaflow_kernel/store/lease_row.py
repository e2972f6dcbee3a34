"""The lease of the kernel that leads: read, taken, renewed and given back by the database's clock.

Plain functions of a connection; the caller holds the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from nomaflow_kernel.store.errors import StaleEpoch, StoreError, StoreLed
from nomaflow_kernel.store.holders import certainly_ended

__all__ = ["LeasePolicy", "LeaseWatch", "Tenure", "refuse_while_held", "release_lease", "renew_lease", "take_lease"]

_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_LOOK = (
    f"SELECT term, lease_until_us, holder, process, addresses, lease_until_us - {_NOW} AS left_us"  # noqa: S608  # a constant
    " FROM leadership WHERE id = 1"
)
_TAKE = text(
    "UPDATE leadership SET term = :term, holder = :holder, process = :process, addresses = :addresses,"  # noqa: S608  # a constant
    f" lease_until_us = {_NOW} + :ttl_us WHERE id = 1"
)
_RENEW = text(
    f"UPDATE leadership SET addresses = :addresses, lease_until_us = {_NOW} + :ttl_us WHERE id = 1 AND term = :term"  # noqa: S608  # a constant
)
_HAS_LENGTHS = text("SELECT to_regclass('lease_length') IS NOT NULL")
_LENGTH = text("SELECT ttl_us FROM lease_length WHERE id = 1 AND term = :term")
_SET_LENGTH = text("UPDATE lease_length SET term = :term, ttl_us = :ttl_us WHERE id = 1")
_RELEASE = text("UPDATE leadership SET lease_until_us = 0 WHERE id = 1 AND term = :term")


def _nowhere() -> Sequence[str]:
    return ()


def _ignore(_error: StoreError) -> None:
    """Nobody asked to be told: the epoch refuses what a kernel writes that no longer leads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeasePolicy:
    """How a kernel leads on a database that several share.

    :param ttl_seconds: how long the lease holds unless it is renewed, which is tried three times as often
    :param addresses: returns where this kernel is reached, told to those who ask another one
    :param on_lost: called once, when the lease is lost
    """

    ttl_seconds: float = 15.0
    addresses: Callable[[], Sequence[str]] = _nowhere
    on_lost: Callable[[StoreError], None] = _ignore


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenure:
    """Who takes a lease: its name for people, and its process."""

    holder: str
    process: str


class LeaseWatch:
    """What one who stands by has seen of the lease, by a clock of its own.

    A database's clock that is set back would let the lease of a leader that is gone hold for that much longer. Where
    nobody has renewed it for as long as it holds, it is over, whatever that clock says.

    :param clock: seconds that go on while the machine is suspended
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen = (0, 0)
        self._since = 0.0

    def is_over(self, *, term: int, until_us: int, ttl_us: int) -> bool:
        """Return whether the lease was seen unchanged for as long as it holds.

        :param ttl_us: 0 where the leader is of a version that does not tell it
        """
        now = self._clock()
        if self._seen != (term, until_us):
            self._seen, self._since = (term, until_us), now
        return ttl_us > 0 and (now - self._since) * 1_000_000 >= ttl_us


def refuse_while_held(connection: Connection, watch: LeaseWatch, *, lock: bool = False) -> None:
    """Return where the lease is free: expired, given back, or of a process of this machine that has ended.

    :raises StoreLed: where it is not
    """
    row = connection.execute(text(_LOOK + (" FOR UPDATE" if lock else ""))).one()
    over = watch.is_over(term=row.term, until_us=row.lease_until_us, ttl_us=_length(connection, row.term))
    if row.left_us > 0 and not over and not certainly_ended(row.process):
        raise StoreLed(holder=row.holder, addresses=_split(row.addresses))


def _length(connection: Connection, term: int) -> int:
    """Return how long the lease of a term holds, microseconds; 0 where that is not known."""
    if not connection.execute(_HAS_LENGTHS).scalar_one():
        return 0  # an older version leads; this one has not migrated yet
    return int(connection.execute(_LENGTH, {"term": term}).scalar_one_or_none() or 0)


def take_lease(
    connection: Connection, tenure: Tenure, *, term: int, addresses: Sequence[str], ttl_seconds: float
) -> None:
    """Make a kernel the leader."""
    values = {"term": term, "holder": tenure.holder, "process": tenure.process}
    connection.execute(_TAKE, {**values, "addresses": _joined(addresses), "ttl_us": _micros(ttl_seconds)})
    connection.execute(_SET_LENGTH, {"term": term, "ttl_us": _micros(ttl_seconds)})


def renew_lease(connection: Connection, *, term: int, addresses: Sequence[str], ttl_seconds: float) -> None:
    """Let the lease hold from now on for its time again, expired or not: nobody else has taken it.

    :raises StaleEpoch: where another kernel has
    """
    values = {"term": term, "addresses": _joined(addresses), "ttl_us": _micros(ttl_seconds)}
    if connection.execute(_RENEW, values).rowcount != 1:
        found = connection.execute(text("SELECT term FROM leadership WHERE id = 1")).scalar_one()
        raise StaleEpoch(own=term, found=found)


def release_lease(connection: Connection, *, term: int) -> None:
    """Let the lease end now, so that another kernel need not wait; without effect where it is another's."""
    connection.execute(_RELEASE, {"term": term})


def _joined(addresses: Sequence[str]) -> str:
    return "\n".join(addresses)


def _split(addresses: str) -> tuple[str, ...]:
    return tuple(addresses.split("\n")) if addresses else ()


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
