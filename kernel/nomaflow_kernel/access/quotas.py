"""Quotas: the most that one user, service or host may ask of the kernel. The owner is exempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from nomaflow_kernel.access.principals import Principal, PrincipalKind
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import QuotaExceeded
from nomaflow_project.models.settings_file import QuotaSection

_CALLS_SECONDS = 10.0
_TRIGGERS_SECONDS = 60.0


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
class _Account:
    """The allowances of one principal."""

    calls: _Bucket
    triggers: _Bucket
    bytes: _Bucket


@dataclass(slots=True)
class Quotas:
    """Counts what each user, service and host asks for. The counts are in memory: a restart clears them.

    :param limits: ``[access.quotas]`` of nomaflow.toml
    """

    limits: QuotaSection
    clock: Clock
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _streams: Counter[str] = field(default_factory=Counter)
    _hosts: dict[tuple[str, str], _Bucket] = field(default_factory=dict)

    def call(self, principal: Principal, method: str = "", cost: float = 1.0) -> None:
        """Count a call, or a message of a session.

        :param method: the name of the rpc or the message; it matters for hosts only
        :param cost: how many calls it counts as; it matters for hosts only
        :raises QuotaExceeded: if it is one too many
        """
        if principal.kind is PrincipalKind.HOST:
            self._call_of_host(principal, method, cost)
            return
        account = self._account(principal)
        if account is not None:
            self._take(account.calls, 1, principal, "calls", "calls_per_second")

    def _call_of_host(self, principal: Principal, method: str, cost: float) -> None:
        limit = _HOST_CALLS.get(method)
        if limit is None:
            return
        rate = limit[0]
        wait = self._of_host(principal, method, limit).take(cost, self.clock.monotonic())
        if wait:
            often = f"{rate:g} times a second" if rate >= 1 else f"once in {1 / rate:g} s"
            raise QuotaExceeded(
                f"{principal} calls {method} more often than {often}; try again in {wait:.1f} s",
                retry_seconds=wait,
            )

    def message(self, principal: Principal, size: int) -> None:
        """Count a message of a host's session.

        :param size: its bytes
        :raises QuotaExceeded: if it is too much
        """
        if principal.kind is PrincipalKind.HOST:
            wait = self._of_host(principal, "bytes", _HOST_BYTES).take(size, self.clock.monotonic())
            if wait:
                raise QuotaExceeded(
                    f"{principal} sends more than {_HOST_BYTES[0]:,.0f} bytes a second; try again in {wait:.1f} s",
                    retry_seconds=wait,
                )

    def _of_host(self, principal: Principal, what: str, limit: tuple[float, float]) -> _Bucket:
        rate, size = limit
        bucket = self._hosts.get((principal.name, what))
        if bucket is None:
            bucket = _Bucket(rate=rate, size=size, level=size, at=self.clock.monotonic())
            self._hosts[principal.name, what] = bucket
        return bucket

    def request(self, principal: Principal, size: int, triggers: int) -> None:
        """Count what a call asks for.

        :param size: of the request, in bytes
        :param triggers: how many runs it would start
        :raises QuotaExceeded: if it is too much
        """
        account = self._account(principal)
        if account is None:
            return
        self._take(account.bytes, size, principal, "bytes", "bytes_per_second")
        if triggers:
            self._take(account.triggers, triggers, principal, "runs", "triggers_per_second")

    @contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Count a stream while it is open.

        :raises QuotaExceeded: if it is one too many
        """
        if self._account(principal) is None:
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

    def _take(self, bucket: _Bucket, cost: float, principal: Principal, what: str, key: str) -> None:
        wait = bucket.take(cost, self.clock.monotonic())
        if wait:
            raise QuotaExceeded(
                f"{principal} asks for more {what} than [access.quotas] {key} = {bucket.rate:g} allows; "
                f"try again in {wait:.1f} s",
                retry_seconds=wait,
            )

    def _account(self, principal: Principal) -> _Account | None:
        """Return the account of a principal; None if it is exempt."""
        if principal.kind not in (PrincipalKind.USER, PrincipalKind.SERVICE):
            return None
        name = str(principal)
        if name not in self._accounts:
            limits = self.limits
            self._accounts[name] = _Account(
                calls=self._full(limits.calls_per_second, _CALLS_SECONDS),
                triggers=self._full(limits.triggers_per_second, _TRIGGERS_SECONDS),
                bytes=self._full(limits.bytes_per_second, _CALLS_SECONDS),
            )
        return self._accounts[name]

    def _full(self, rate: float, seconds: float) -> _Bucket:
        size = max(1.0, rate * seconds)
        return _Bucket(rate=rate, size=size, level=size, at=self.clock.monotonic())
