"""Becomes another program that gets SIGUSR2 when the process that started it dies, however it dies.

SIGTERM would not do: if the starter has several threads, each thread's death can send the signal again, and a second
SIGTERM means that somebody is in a hurry. SIGUSR2, however often, says that the starter is gone.

Run as a script: ``python -I tether.py PARENT_PID PROGRAM ARGUMENT…``. Needs the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence

_PR_SET_PDEATHSIG = 1
_ORPHANED = signal.SIGUSR2
_LATER = (signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Make a process that is started inside hold back early signals until ``main`` ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LATER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(arguments: Sequence[str]) -> None:
    """Ask the system for the signal, then become the program; the setting survives exec."""
    parent, command = int(arguments[0]), list(arguments[1:])
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(_ORPHANED), 0, 0, 0)
    if os.getppid() != parent:
        return  # The parent died before the signal was set: nobody needs the program any more.
    for number in _LATER:  # until the program handles them itself
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LATER)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
