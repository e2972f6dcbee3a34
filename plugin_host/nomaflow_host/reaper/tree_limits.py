"""Limits of a worker's whole tree, enforced by sampling /proc or by a delegated cgroup."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_host.reaper.proc import descendants, processes

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEEDED = frozenset({"memory", "pids"})
_OOM_SCORE = "500"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
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

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        path.mkdir()
        if limits.memory_bytes is not None:
            (path / "memory.max").write_text(str(limits.memory_bytes))
        if limits.max_processes is not None:
            (path / "pids.max").write_text(str(limits.max_processes))

    def add(self, pid: int) -> None:
        """Move a process into the cgroup; processes that it forks later are inside as well."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def cause(self) -> str | None:
        """Return the reason code of the limit that was hit, or None."""
        if _counter(self._path / "memory.events", "oom_kill"):
            return "memory_limit"
        return "process_limit" if _counter(self._path / "pids.events", "max") else None

    def kill(self) -> None:
        """Kill every process in it."""
        (self._path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove it once it is empty."""
        try:
            self._path.rmdir()
        except OSError:
            self.kill()


def delegated_cgroup() -> Path | None:
    """Return a cgroup directory in which this process may create limited children, or None if there is none.

    The processes in it, this one included, are moved to a child called ``nomaflow-main``, since a cgroup with
    processes cannot limit its children.
    """
    path = _own_cgroup()
    if path is None or not (set(_words(path / "cgroup.controllers")) >= _NEEDED):
        return None
    main = path / "nomaflow-main"
    try:
        main.mkdir(exist_ok=True)
        for pid in _words(path / "cgroup.procs"):
            (main / "cgroup.procs").write_text(pid)
        (path / "cgroup.subtree_control").write_text("+memory +pids")
    except OSError:
        return None
    return path


def _own_cgroup() -> Path | None:
    mount = next((line.split()[1] for line in _lines(Path("/proc/self/mounts")) if line.split()[2] == "cgroup2"), None)
    own = next((line[3:] for line in _lines(Path("/proc/self/cgroup")) if line.startswith("0::")), None)
    return None if mount is None or own is None else Path(mount + own)


def _counter(path: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in _lines(path) if line.split()[0] == name), 0)


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
