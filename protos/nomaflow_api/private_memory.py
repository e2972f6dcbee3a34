"""Keeps the memory of a process from other processes of its user."""

from __future__ import annotations

import contextlib
import ctypes

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Make this process's memory, environment and descriptors unreadable in /proc for processes without root's rights.

    Nothing of the same user can attach a debugger either, and the system writes no core dump. Processes that this one
    starts are as readable as any. Where the system has no such switch, nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
