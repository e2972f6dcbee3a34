"""Job ids that are reserved for hosts, by their join strings and certificates, before they bring the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nomaflow_kernel.access.credential_ends import ended_at_us
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord


def _overlap(one: str, other: str) -> bool:
    """Return whether some job id fits both."""
    if one.endswith("*") and other.endswith("*"):
        return one[:-1].startswith(other[:-1]) or other[:-1].startswith(one[:-1])
    return _fits(one, other) or _fits(other, one)


def _fits(job_id: str, reserved: str) -> bool:
    return job_id == reserved or (reserved.endswith("*") and job_id.startswith(reserved[:-1]))


class ReservedIds:
    """Says for which host a job id is reserved. A reservation ends with the last credential that carries it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, dict[str, int]] = {}

    def read(self, tokens: Iterable[TokenRecord], certificates: Iterable[CertificateRecord]) -> None:
        """Replace the reservations with those of all credentials."""
        self._ends = {}
        held: list[tuple[str, TokenRecord | CertificateRecord]] = [
            *((each.name, each) for each in tokens if each.kind == "host"),
            *((each.host, each) for each in certificates),
        ]
        for host, record in held:
            for reserved in record.ids:
                ends = self._ends.setdefault(reserved, {})
                ends[host] = max(ends.get(host, 0), ended_at_us(record))

    def host_of(self, job_id: str) -> str:
        """Return the host that an id is reserved for; empty if it is not reserved."""
        return next((host for reserved, host in self._in_effect() if _fits(job_id, reserved)), "")

    def taken(self, reserved: str, host: str) -> tuple[str, str] | None:
        """Return another host, and a reservation of it that overlaps; None if there is none."""
        held = ((name, other) for other, name in self._in_effect() if name != host and _overlap(reserved, other))
        return next(held, None)

    def _in_effect(self) -> Iterator[tuple[str, str]]:
        """Yield each reservation that has not ended, with its host."""
        now = self._clock.now_us()
        return ((reserved, host) for reserved, ends in self._ends.items() for host, end in ends.items() if end > now)
