"""Becomes another program that gets SIGTERM when the process that started it dies, however it dies.

Run as a script: ``python -I tether.py PARENT_PID PROGRAM ARGUMENT…``. Needs the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    """Ask the system for the signal, then become the program; the setting survives exec."""
    parent, command = int(arguments[0]), list(arguments[1:])
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        return  # The parent died before the signal was set: nobody wants the program any more.
    for number in (signal.SIGHUP, signal.SIGUSR1):  # until the program handles them itself
        signal.signal(number, signal.SIG_IGN)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
