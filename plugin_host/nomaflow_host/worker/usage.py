"""What an attempt has used."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass

__all__ = ["Usage", "resident_bytes"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The processor time of this process and its dead children at one moment."""

    cpu_seconds: float

    @classmethod
    def begin(cls, *, exclusive: bool) -> Usage:
        """Note the start of an attempt; in an exclusive worker the peak of memory is counted from here."""
        if exclusive:
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        return cls(cpu_seconds=_cpu_seconds())

    def spent(self) -> dict[str, float | int]:
        """Return processor seconds since then, and the peak and present resident bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "cpu_seconds": max(0.0, _cpu_seconds() - self.cpu_seconds),
            "peak_rss_bytes": peak,
            "rss_bytes": resident_bytes(),
        }


def resident_bytes() -> int:
    """Return the resident size of this process."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _cpu_seconds() -> float:
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
