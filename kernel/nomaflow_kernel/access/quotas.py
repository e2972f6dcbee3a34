"""Quotas: the most that one user, service or host may ask of the kernel. The owner is exempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.access.principals import Principal, PrincipalKind
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
    "Report": (1000.0, 10_000.0),
    "Heartbeat": (500.0, 10_000.0),
    "LoadState": (1 / 5, 200.0),
}
"""The calls that all instances of one host may make: how many a second, and the most at once. Ten times a busy host.

Each renewal is a record for months: one every ten seconds would be a million. Each load is an event of up to 60 KiB.
"""
_HOST_BYTES = (2.0 * 1024 * 1024, 16.0 * 1024 * 1024)
"""The bytes that all instances of one host may send on their sessions: how many a second, and the most at once."""


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
    """Counts what each user, service and host asks for. The counts are in memory: a restart clears them.

    :param limits: ``[access.quotas]`` of nomaflow.toml
    """

    limits: QuotaSection
    clock: Clock
    _buckets: dict[tuple[str, str, str], _Bucket] = field(default_factory=dict)
    _streams: Counter[str] = field(default_factory=Counter)

    def call(self, principal: Principal, method: str = "", cost: float = 1.0) -> None:
        """Count a call, or a message of a session.

        :param method: the name of the rpc or the message; it matters for hosts only
        :param cost: how many calls it counts as; it matters for hosts only
        :raises QuotaExceeded: if it is one too many
        """
        if principal.kind is PrincipalKind.HOST:
            self._call_of_host(principal, method, cost)
        else:
            self._take(principal, "calls", "calls_per_second", 1)

    def _call_of_host(self, principal: Principal, method: str, cost: float) -> None:
        limit = _HOST_CALLS.get(method)
        if limit is None:
            return
        rate = limit[0]
        wait = self._bucket(principal, method, *limit).take(cost, self.clock.monotonic())
        if wait:
            often = f"{rate:g} times a second" if rate >= 1 else f"once in {1 / rate:g} s"
            raise QuotaExceeded(
                f"{principal} calls {method} more often than {often}; try again in {time_span(wait)}",
                retry_seconds=wait,
            )

    def message(self, principal: Principal, size: int) -> None:
        """Count a message of a host's session.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        if principal.kind is PrincipalKind.HOST:
            wait = self._bucket(principal, "bytes", *_HOST_BYTES).take(size, self.clock.monotonic())
            if wait:
                raise QuotaExceeded(
                    f"{principal} sends more than {_HOST_BYTES[0]:,.0f} bytes a second; try again in {time_span(wait)}",
                    retry_seconds=wait,
                )

    def request(self, principal: Principal, size: int, triggers: int) -> None:
        """Count what a call asks for.

        :param size: of the request, in bytes
        :param triggers: how many runs it would start
        :raises QuotaExceeded: if it is too much
        """
        self._take(principal, "bytes", "bytes_per_second", size)
        if triggers:
            self._take(principal, "runs", "triggers_per_second", triggers)

    @contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Count a stream while it is open.

        :raises QuotaExceeded: if it is one too many
        """
        if principal.kind not in _LIMITED:
            yield
            return
        name = str(principal)
        if self._streams[name] >= self.limits.streams:
            raise QuotaExceeded(
                f"{name} has {self._streams[name]} streams open, as many as [access.quotas] streams allows; close one",
                retry_seconds=0.0,
            )
        self._streams[name] += 1
        try:
            yield
        finally:
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]

    def _take(self, principal: Principal, what: str, key: str, cost: float) -> None:
        """Take from an allowance of a user or service; others are exempt."""
        if principal.kind not in _LIMITED:
            return
        rate: float = getattr(self.limits, key)
        bucket = self._bucket(principal, what, rate, max(1.0, rate * _SAVED_SECONDS[key]))
        wait = bucket.take(cost, self.clock.monotonic())
        if wait:
            raise QuotaExceeded(
                f"{principal} asks for more {what} than [access.quotas] {key} = {rate:g} allows; "
                f"try again in {time_span(wait)}",
                retry_seconds=wait,
            )

    def _bucket(self, principal: Principal, what: str, rate: float, size: float) -> _Bucket:
        """Return an allowance of a principal; all instances of a host share theirs. A new one is full."""
        key = principal.kind, principal.name, what
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate=rate, size=size, level=size, at=self.clock.monotonic())
        return bucket
