"""Limits of a worker's whole tree, enforced by sampling /proc or by a delegated cgroup."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from nomaflow_host.reaper.proc import descendants, processes

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEEDED = frozenset({"memory", "pids"})
_OOM_SCORE = "500"


class Limits(NamedTuple):
    """The limits of each worker's tree; None means no limit.

    :param memory_bytes: resident memory of all its processes together
    :param max_processes: number of its processes, the worker included
    """

    memory_bytes: int | None = None
    max_processes: int | None = None

    @property
    def any(self) -> bool:
        """True if there is a limit to enforce."""
        return self.memory_bytes is not None or self.max_processes is not None


def be_killed_first() -> None:
    """Have Linux kill this process, and those that it starts, before the host if the machine runs out of memory."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)


def over_limits(limits: Limits, pids: Iterable[int]) -> dict[int, str]:
    """Return the workers among *pids* whose tree exceeds a limit, with the reason code of that limit."""
    snapshot = processes()
    over: dict[int, str] = {}
    for pid in pids:
        if (root := snapshot.get(pid)) is None:
            continue
        tree = [root, *descendants([pid], snapshot)]
        if limits.max_processes is not None and len(tree) > limits.max_processes:
            over[pid] = "process_limit"
        elif limits.memory_bytes is not None and sum(info.rss_bytes for info in tree) > limits.memory_bytes:
            over[pid] = "memory_limit"
    return over


class CgroupTree:
    """The cgroup (version 2) of one worker's tree.

    :param path: its directory; created here
    :raises OSError: if it cannot be created or limited
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        os.mkdir(path)
        if limits.memory_bytes is not None:
            _write(f"{path}/memory.max", str(limits.memory_bytes))
        if limits.max_processes is not None:
            _write(f"{path}/pids.max", str(limits.max_processes))

    def add(self, pid: int) -> None:
        """Move a process into the cgroup; processes that it forks later are inside as well."""
        _write(f"{self._path}/cgroup.procs", str(pid))

    def cause(self) -> str | None:
        """Return the reason code of the limit that was hit, or None."""
        if _counter(f"{self._path}/memory.events", "oom_kill"):
            return "memory_limit"
        return "process_limit" if _counter(f"{self._path}/pids.events", "max") else None

    def remove(self) -> None:
        """Remove it, or kill what is still in it."""
        try:
            os.rmdir(self._path)
        except OSError:
            with contextlib.suppress(OSError):  # it is gone already, or the system is older than this switch
                _write(f"{self._path}/cgroup.kill", "1")


def delegated_cgroup() -> str | None:
    """Return a cgroup directory in which this process may create limited children, or None if there is none.

    The processes in it, this one included, are moved to a child called ``nomaflow-main``, since a cgroup with
    processes cannot limit its children.
    """
    path = _own_cgroup()
    if path is None or not (set(_words(f"{path}/cgroup.controllers")) >= _NEEDED):
        return None
    main = f"{path}/nomaflow-main"
    try:
        os.makedirs(main, exist_ok=True)
        for pid in _words(f"{path}/cgroup.procs"):
            _write(f"{main}/cgroup.procs", pid)
        _write(f"{path}/cgroup.subtree_control", "+memory +pids")
    except OSError:
        return None
    return path


def _own_cgroup() -> str | None:
    mount = next((line.split()[1] for line in _lines("/proc/self/mounts") if line.split()[2] == "cgroup2"), None)
    own = next((line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), None)
    return None if mount is None or own is None else mount + own


def _counter(path: str, name: str) -> int:
    return next((int(line.split()[1]) for line in _lines(path) if line.split()[0] == name), 0)


def _words(path: str) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
