"""Quotas: the most that one user, service or host may ask of the kernel, and the most calls at once at one door."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.access.principals import Caller, Principal, PrincipalKind
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_project.models.settings_file import QuotaSection

_LIMITED = (PrincipalKind.USER, PrincipalKind.SERVICE)
_SAVED_SECONDS: Mapping[str, float] = {"calls_per_second": 10.0, "triggers_per_second": 60.0, "bytes_per_second": 10.0}
"""For each rate of ``[access.quotas]``: how long an allowance that is not used adds up."""
_HOST_CALLS: Mapping[str, tuple[float, float]] = {
    "Attach": (10.0, 200.0),
    "IntroduceManifest": (2.0, 120.0),
    "RenewCertificate": (1 / 600, 100.0),
    "StreamReports": (1000.0, 10_000.0),
    "Heartbeat": (500.0, 10_000.0),
    "LoadState": (1 / 5, 200.0),
}
"""The calls that all instances of one host may make: how many a second, and the most at once. Ten times a busy host.

Each renewal is a record for months: one every ten seconds would be a million. Each load is an event of up to 60 KiB.
"""
_CALLS: Mapping[str, tuple[float, float]] = {"InviteInstance": (1.0, 1000.0)}
"""The calls that a user or service may make less often than others, likewise.

Each join string is a record until a day after it, or its certificate, has ended: 180,000 an hour would be a gigabyte in
eight. A list of demand has at most 1,000 entries of a host.
"""
_HOST_BYTES = (2.0 * 1024 * 1024, 16.0 * 1024 * 1024)
"""The bytes that all instances of one host may send on their sessions: how many a second, and the most at once."""
_HOST_REPORTS = 64 * 1024 * 1024
"""The bytes of reports of all instances of one host that may wait for their answers: four commits of the engine."""
_MOST_CALLS, _MOST_OF_STRANGERS = 500, 100
"""The calls of a principal at once at one door, and those of all callers without a credential."""
_MOST_UNTAKEN, _SMALL = 128 * 1024 * 1024, 1024 * 1024
"""The bytes of answers of a principal's calls that wait at one door until it takes them, and those that do not count:
a call that has changed something is never refused for others. A run's answer may have 64 MiB."""
_MOST_RECEIVED = 8
"""The requests of a principal's calls that come at once at one door."""


@dataclass(slots=True)
class _Bucket:
    """An allowance that refills at a steady rate.

    :param rate: of refilling, a second
    :param size: the most that it holds
    """

    rate: float
    size: float
    level: float
    at: float

    def take(self, cost: float, now: float) -> float:
        """Take an allowance and return 0; or take nothing and return the seconds until it can be taken.

        What costs more than the bucket holds takes a full one, and leaves it in debt.
        """
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        needed = min(cost, self.size)
        if self.level < needed:
            return (needed - self.level) / self.rate
        self.level -= cost
        return 0.0


@dataclass(slots=True)
class Quotas:
    """Counts what each user, service and host asks for; the owner is exempt. A restart clears the counts.

    :param limits: ``[access.quotas]`` of nomaflow.toml
    """

    limits: QuotaSection
    clock: Clock
    _buckets: dict[tuple[str, str, str], _Bucket] = field(default_factory=dict)
    _streams: Counter[str] = field(default_factory=Counter)
    _reports: Counter[str] = field(default_factory=Counter)

    def call(self, principal: Principal, method: str = "", cost: float = 1.0) -> None:
        """Count a call, or a message of a session.

        :param method: the name of the rpc or the message
        :param cost: how many calls it counts as; it matters for hosts only
        :raises QuotaExceeded: if it is one too many
        """
        rates = _HOST_CALLS if principal.kind is PrincipalKind.HOST else _CALLS if principal.kind in _LIMITED else {}
        self._take(principal, "calls", "calls_per_second", 1)
        if method in rates:
            rate, most = rates[method]
            often = f"{rate:g} times a second" if rate >= 1 else f"once in {1 / rate:g} s"
            self._charge(principal, method, rate, most, cost, f"calls {method} more often than {often}")

    def message(self, principal: Principal, size: int) -> None:
        """Count a message of a stream.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        if principal.kind is PrincipalKind.HOST:
            rate, most = _HOST_BYTES
            self._charge(principal, "bytes", rate, most, size, f"sends more than {rate:,.0f} bytes a second")
        else:
            self.request(principal, size)

    def request(self, principal: Principal, size: int) -> None:
        """Count the request of a call.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        self._take(principal, "bytes", "bytes_per_second", size)

    def triggers(self, principal: Principal, count: int) -> None:
        """Count the runs that a request would start.

        :raises QuotaExceeded: if they are too many
        """
        if count:
            self._take(principal, "runs", "triggers_per_second", count)

    @contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Count a stream while it is open.

        :raises QuotaExceeded: if it is one too many
        """
        if principal.kind not in _LIMITED:
            yield
            return
        most = self.limits.streams
        problem = f"has {most} streams open, as many as [access.quotas] streams allows; close one"
        end = _counted(self._streams, principal, 1, most, problem, retry_seconds=0.0)
        try:
            yield
        finally:
            end()

    @contextmanager
    def report(self, principal: Principal, size: int) -> Iterator[None]:
        """Count a host's report until it is answered: it is in memory meanwhile.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        if principal.kind is not PrincipalKind.HOST:
            yield
            return
        problem = f"has {_HOST_REPORTS:,} bytes of reports without an answer, the maximum; try again in a moment"
        end = _counted(self._reports, principal, size, _HOST_REPORTS, problem)
        try:
            yield
        finally:
            end()

    def _take(self, principal: Principal, what: str, key: str, cost: float) -> None:
        """Take from an allowance of a user or service; others are exempt."""
        if principal.kind in _LIMITED:
            rate: float = getattr(self.limits, key)
            problem = f"asks for more {what} than [access.quotas] {key} = {rate:g} allows"
            self._charge(principal, what, rate, max(1.0, rate * _SAVED_SECONDS[key]), cost, problem)

    def _charge(self, principal: Principal, what: str, rate: float, most: float, cost: float, problem: str) -> None:
        """Take from an allowance of a principal; all instances of a host share theirs. A new one is full.

        :param problem: says what the principal does if it is too much
        """
        key, now = (principal.kind, principal.name, what), self.clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate=rate, size=most, level=most, at=now)
        wait = bucket.take(cost, now)
        if wait:
            raise QuotaExceeded(f"{principal} {problem}; try again in {time_span(wait)}", retry_seconds=wait)


class CallsAtOnce:
    """Counts the calls of each principal at one door, and what they hold, so that no caller can use it up.

    All callers without a credential are one.
    """

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def begin(self, caller: Caller) -> Callable[[], None]:
        """Count a call from now on; return the function that ends the count.

        :raises QuotaExceeded: if there are too many already
        """
        most = _MOST_OF_STRANGERS if caller.principal.kind is PrincipalKind.ANYONE else _MOST_CALLS
        problem = f"has {most} calls at once at this door, the maximum; try again in a moment"
        return _counted(self._now, caller.principal, 1, most, problem)

    def turn(self, caller: Caller) -> asyncio.Semaphore:
        """Return what a call holds while its request comes, which may have 4 MiB: the others of its caller wait.

        Callers without a credential do not wait for each other.
        """
        most = _MOST_OF_STRANGERS if caller.principal.kind is PrincipalKind.ANYONE else _MOST_RECEIVED
        return self._turns.setdefault(str(caller.principal), asyncio.Semaphore(most))

    def answer(self, caller: Caller, size: int) -> Callable[[], None]:
        """Count an answer until it is taken; return the function that ends the count. A small one does not count.

        :param size: its bytes
        :raises QuotaExceeded: if its caller leaves too much of earlier ones untaken
        """
        problem = f"leaves answers of more than {_MOST_UNTAKEN:,} bytes untaken; take them, or end their calls"
        return _counted(self._answers, caller.principal, size if size > _SMALL else 0, _MOST_UNTAKEN, problem)


def _counted(
    counts: Counter[str],
    principal: Principal,
    count: int,
    most: int,
    problem: str,
    *,
    retry_seconds: float | None = None,
) -> Callable[[], None]:
    """Add to a principal's count; return the function that takes it away again.

    :param problem: says what the principal does if it is too much
    """
    name = str(principal)
    if counts[name] + count > most:
        raise QuotaExceeded(f"{name} {problem}", retry_seconds=retry_seconds)
    counts[name] += count

    def end() -> None:
        counts[name] -= count
        if not counts[name]:
            del counts[name]

    return end
