"""Signals whole process trees and never a foreign process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from nomaflow_host.reaper.proc import processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nomaflow_host.reaper.proc import ProcessIdentity, ProcessInfo

__all__ = ["descendants", "kill_trees"]

_MAX_PASSES = 100


def descendants(roots: Iterable[int], snapshot: Mapping[int, ProcessInfo]) -> list[ProcessInfo]:
    """Return every process of *snapshot* below *roots*, without zombies and the roots themselves."""
    children: dict[int, list[ProcessInfo]] = {}
    for info in snapshot.values():
        children.setdefault(info.parent, []).append(info)
    found, waiting = [], list(roots)
    while waiting:
        for info in children.get(waiting.pop(), ()):
            waiting.append(info.pid)
            if info.alive:
                found.append(info)
    return found


def kill_trees(roots: Iterable[ProcessIdentity]) -> int:
    """Stop the processes *roots* and all below them, then kill all; return the number of processes.

    Everything is stopped first, in passes until one finds nothing new, since a stopped process cannot fork. Takes
    milliseconds; the dead still have to be waited for.
    """
    frozen = {root for root in roots if root.signal(signal.SIGSTOP)}
    pids = [root.pid for root in frozen]
    for _ in range(_MAX_PASSES):
        new = {info.identity for info in descendants(pids, processes())} - frozen
        for each in new:
            each.signal(signal.SIGSTOP)
        frozen |= new
        if not new:
            break
    for each in frozen:
        each.signal(signal.SIGKILL)
    return len(frozen)
