"""Resource usage of an attempt."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable

from msgspec import Struct

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RECENT_SECONDS = 0.1


class Usage(Struct, frozen=True, kw_only=True):
    """The processor time of this process and its dead children at one moment.

    :param resident: returns the resident bytes of this process
    """

    cpu_seconds: float
    resident: Callable[[], int]

    @classmethod
    def begin(cls, *, exclusive: bool) -> Usage:
        """Record the start of an attempt; in an exclusive worker the peak of memory is counted from here."""
        if exclusive:
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            cpu_seconds=_seconds(mine) + _seconds(children), resident=resident_bytes if exclusive else _RECENT.bytes
        )

    def spent(self) -> dict[str, float | int]:
        """Return the processor seconds since then, and the peak and present resident bytes."""
        mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "cpu_seconds": max(0.0, _seconds(mine) + _seconds(children) - self.cpu_seconds),
            "peak_rss_bytes": mine.ru_maxrss * 1024,
            "rss_bytes": self.resident(),
        }


def resident_bytes() -> int:
    """Return the resident size of this process."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


class _RecentSize:
    """The resident size of a process with thousands of short steps, read only now and then."""

    def __init__(self) -> None:
        self._bytes = 0
        self._until = 0.0

    def bytes(self) -> int:
        """Return a size that is at most a tenth of a second old."""
        now = time.monotonic()
        if now >= self._until:
            self._bytes, self._until = resident_bytes(), now + _RECENT_SECONDS
        return self._bytes


_RECENT = _RecentSize()


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime
