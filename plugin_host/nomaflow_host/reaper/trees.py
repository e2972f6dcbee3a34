"""Signals whole process trees and never a foreign process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow_host.reaper.proc import processes, read_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nomaflow_host.reaper.proc import ProcessInfo

__all__ = ["Tree", "descendants", "kill_trees", "signal_process"]

_MAX_PASSES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A process and its descendants, identified by the root."""

    pid: int
    start_time: int


def descendants(roots: Iterable[int], snapshot: Mapping[int, ProcessInfo]) -> list[ProcessInfo]:
    """Return every process of *snapshot* below *roots*, without zombies and the roots themselves."""
    children: dict[int, list[ProcessInfo]] = {}
    for info in snapshot.values():
        children.setdefault(info.parent, []).append(info)
    found, waiting = [], list(roots)
    while waiting:
        for info in children.get(waiting.pop(), ()):
            waiting.append(info.pid)
            if info.state not in "ZX":
                found.append(info)
    return found


def signal_process(pid: int, start_time: int, signum: int) -> bool:
    """Send *signum* to exactly that process; return False if it is gone or may not be signalled."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        info = read_process(pid)
        if info is None or info.start_time != start_time:
            return False
        signal.pidfd_send_signal(handle, signum)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def kill_trees(trees: Iterable[Tree]) -> int:
    """Stop all of *trees*, then kill all; return the number of processes.

    Everything is stopped first, in passes until one finds nothing new, since a stopped process cannot fork. Takes
    milliseconds; the dead still have to be waited for.
    """
    frozen = {tree.pid: tree.start_time for tree in trees if signal_process(tree.pid, tree.start_time, signal.SIGSTOP)}
    roots = list(frozen)
    for _ in range(_MAX_PASSES):
        new = [info for info in descendants(roots, processes()) if frozen.get(info.pid) != info.start_time]
        for info in new:
            signal_process(info.pid, info.start_time, signal.SIGSTOP)
            frozen[info.pid] = info.start_time
        if not new:
            break
    for pid, start_time in frozen.items():
        signal_process(pid, start_time, signal.SIGKILL)
    return len(frozen)
