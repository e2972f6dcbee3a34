"""The clock of leases: it goes on while the machine sleeps, as monotonic time does not."""

from __future__ import annotations

import time


def boot_seconds() -> float:
    """Return seconds since boot, the time that the machine was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
