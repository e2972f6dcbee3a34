"""Starts fresh interpreters: templates, and workers that cannot be forked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FIRST_FD", "spawn_module"]

FIRST_FD = 3
"""The first descriptor handed on; 0 is /dev/null, 1 and 2 are the output."""
_ABOVE = 64


def spawn_module(module: str, *, out: int, err: int, fds: Sequence[int], environ: Mapping[str, str]) -> int:
    """Start ``python -P -m module`` in a session of its own and return its pid.

    :param out: becomes its descriptor 1, *err* 2; *fds* become `FIRST_FD` and up, in order
    :raises OSError: if the system cannot start another process
    """
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in (out, err, *fds)]
    places = (1, 2, *range(FIRST_FD, FIRST_FD + len(fds)))
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in zip(moved, places, strict=True)]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", module],
            environ,
            file_actions=actions,
            setsid=True,
            setsigdef=list(range(1, 32)),
        )
    finally:
        for fd in moved:
            with contextlib.suppress(OSError):
                os.close(fd)
