"""Processes as /proc shows them: their identities and trees, and signals that reach no foreign process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_PF_EXITING = 0x4  # among the flags of include/linux/sched.h, set before descriptors are closed
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MAX_PASSES = 100
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessIdentity(NamedTuple):
    """A process that cannot be mistaken for a later one of the same pid.

    :param start_ticks: clock ticks since boot, from /proc; 0 if the process was gone when it was looked at
    """

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of the process that has the pid now, living or zombie."""
        info = read_process(pid)
        return cls(pid, 0) if info is None else info.identity

    @property
    def alive(self) -> bool:
        """True while exactly this process lives; a zombie does not."""
        info = read_process(self.pid)
        return info is not None and info.alive and info.identity == self

    def signal(self, signum: int) -> bool:
        """Send a signal to exactly this process; return False if it is gone or may not be signalled."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The handle was opened before the start time is read, so it cannot belong to a later process.
            if ProcessIdentity.of(self.pid) != self:
                return False
            signal.pidfd_send_signal(handle, signum)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


class ProcessInfo(NamedTuple):
    """One process at one moment.

    :param state: one letter, Z for a zombie
    :param cpu_ticks: clock ticks that it has spent on a processor
    :param threads: the number of its threads, which is exact
    :param exiting: True if it is already exiting, for whatever reason
    """

    identity: ProcessIdentity
    parent: int
    state: str
    cpu_ticks: int
    rss_bytes: int
    threads: int
    exiting: bool = False

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.identity.pid

    @property
    def alive(self) -> bool:
        """True unless it is a zombie, or about to vanish."""
        return self.state not in "ZX"

    @property
    def started_at_us(self) -> int:
        """The time of its start, microseconds since the epoch."""
        up_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.identity.start_ticks * 1_000_000_000 // _TICKS
        return (time.time_ns() - up_ns) // 1000

    @property
    def cpu_seconds(self) -> float:
        """The seconds that it has spent on a processor."""
        return self.cpu_ticks / _TICKS


def read_process(pid: int) -> ProcessInfo | None:
    """Return the entry of *pid* in /proc, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The name may hold spaces and parentheses, so count from the last parenthesis on.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return ProcessInfo(
        identity=ProcessIdentity(pid, int(fields[19])),
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        threads=int(fields[17]),
        exiting=bool(int(fields[6]) & _PF_EXITING),
    )


def processes() -> dict[int, ProcessInfo]:
    """Return every process of the system."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (info := read_process(int(name))) is not None:
            found[info.pid] = info
    return found


def own_children() -> list[int]:
    """Return the children of this process, zombies included.

    The list is exact: this process has one thread, and no child leaves it before it is waited for.
    """
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:  # a kernel built without that file
        return [info.pid for info in processes().values() if info.parent == pid]


def children_of(pid: int) -> list[ProcessInfo]:
    """Return the children of all threads of a process; none if it has ended."""
    found = []
    for thread in _threads_of(pid):
        found += [info for info in map(read_process, children_of_thread(pid, thread)) if info is not None]
    return found


def children_of_thread(pid: int, thread: int | str) -> list[int]:
    """Return the children that a thread of a process has started, or adopted; none if it has ended."""
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def _threads_of(pid: int) -> list[str]:
    """Return the threads of a process, none if it has ended.

    While one thread ends, Linux may leave out others that live; their number shows it, and they are listed again.
    """
    found: list[str] = []
    for _ in range(_MAX_PASSES):
        info = read_process(pid)
        if info is None:
            return []
        with contextlib.suppress(OSError):
            found = os.listdir(f"/proc/{pid}/task")
        if len(found) >= info.threads:
            break
    return found


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


def ticks_now() -> int:
    """Return the clock ticks since boot, the unit of the start times of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def become_subreaper(*, on: bool = True) -> None:
    """Make this process the parent of every orphan among its descendants.

    :raises OSError: if the system refuses
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, int(on))


def die_with_parent(signum: int) -> None:
    """Make the system send *signum* to this process when its parent dies.

    :raises OSError: if the system refuses
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def drop_ambient_capabilities() -> None:
    """Keep programs that this process starts from inheriting capabilities, as a service manager may have given them."""
    with contextlib.suppress(OSError):  # a system without them
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
