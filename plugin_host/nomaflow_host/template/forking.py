"""Forks a worker whose parent is the reaper."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from nomaflow_host.reaper.proc import read_process

if TYPE_CHECKING:
    from collections.abc import Sequence

_PID_BYTES = 8
_ENDING_SECONDS = 0.1


def unforkable() -> str:
    """Return why this process cannot be forked safely, or an empty text if it can."""
    until = time.monotonic() + _ENDING_SECONDS
    while (threads := _thread_count()) > 1:
        # A thread that has just ended may still count.
        if time.monotonic() > until:
            return f"its imports started {threads - 1} thread(s)"
        os.sched_yield()
    return "it has imported grpc" if "grpc" in sys.modules else ""


def _thread_count() -> int:
    # Not the length of a list of them: while one thread ends, Linux may leave out others that live.
    itself = read_process(os.getpid())
    assert itself is not None
    return itself.threads


def fork_to_reaper(*, keep: Sequence[int]) -> int:
    """Fork twice, so that the grandchild becomes a child of this process's parent.

    :param keep: the output descriptors that become 1 and 2 in the grandchild
    :return: 0 in the grandchild, its pid here
    :raises OSError: if the system cannot start another process
    """
    reading, writing = os.pipe()
    try:
        middle = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if middle == 0:
        return _fork_again(reading, writing, keep)
    os.close(writing)
    told = os.read(reading, _PID_BYTES)
    os.close(reading)
    os.waitpid(middle, 0)
    if len(told) < _PID_BYTES:
        raise OSError("the system could not fork")
    return int.from_bytes(told, "little")


def _fork_again(reading: int, writing: int, keep: Sequence[int]) -> int:
    """Fork in the middle process, report the pid and end. Returns only in the grandchild, as a child of the reaper."""
    middle = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(writing, pid.to_bytes(_PID_BYTES, "little"))
        os._exit(0)
    try:
        os.close(reading)
        os.close(writing)
        for fd, place in zip(keep, (1, 2), strict=True):
            os.dup2(fd, place)
            os.close(fd)
    except OSError:
        os._exit(1)  # this process must not return into the template's own code
    while os.getppid() == middle:
        os.sched_yield()
    return 0
