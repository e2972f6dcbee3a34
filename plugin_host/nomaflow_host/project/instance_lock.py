"""The identity of this process, and proof that nothing is left of its predecessor.

A host's state directory belongs to one process at a time. ``instance.json`` in it names that process, so that the
next one can make sure that the processes of an earlier life are gone and tell the kernel so.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import time
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from nomaflow_api.private_file import locked, write_private
from nomaflow_host.process.errors import HostBusy, LeftoverAlive, StateUnwritable
from nomaflow_host.project.mark import marked, new_mark
from nomaflow_host.reaper.proc import ProcessIdentity

_FILE = "instance.json"
_REAPER_SECONDS = 3.0
_LEFTOVER_SECONDS = 3.0
_REMEMBERED = 50


class Instance(Struct, frozen=True, kw_only=True):
    """One life of a host.

    :param boot_id: identifies the boot of the machine's running kernel
    :param machine_id: of the machine; empty if it has none
    :param pid_namespace: processes of another namespace cannot be looked for
    :param ended: earlier incarnations that have provably ended, newest last
    :param mark: mark of every process below its reaper; 0 if the system allows none
    :param lock: device and inode of the lock that it holds
    """

    incarnation: str
    boot_id: str
    machine_id: str
    pid_namespace: str
    main: ProcessIdentity
    reaper: ProcessIdentity | None = None
    ended: tuple[str, ...] = ()
    mark: int = 0
    lock: tuple[int, int] = (0, 0)

    @classmethod
    def new(cls) -> Instance:
        """Return the instance of this process, with a random incarnation."""
        return cls(
            incarnation=secrets.token_hex(16),
            boot_id=_text("/proc/sys/kernel/random/boot_id"),
            machine_id=_text("/etc/machine-id"),
            pid_namespace=_pid_namespace(),
            main=ProcessIdentity.of(os.getpid()),
            mark=new_mark(),
        )


class InstanceLock:
    """Holds a state directory for this process, and knows the earlier lives that have provably ended.

    :param state_dir: must exist
    """

    def __init__(self, *, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._fd = -1

    def acquire(self, me: Instance) -> tuple[str, ...]:
        """Take the directory, remove leftovers of the previous life, and return the incarnations that have ended.

        :raises HostBusy: if another process holds it
        :raises LeftoverAlive: if a leftover cannot be removed
        :raises StateUnwritable: if the directory is not writable
        """
        try:
            self._fd = locked(self._state_dir / "lock")
        except BlockingIOError:
            raise HostBusy(
                f"another process is this host already: {self._holder()}holds {self._state_dir}\n"
                "  fix: stop it first; one that is stopping already ends within its drain_seconds. "
                "If two hosts are meant, give this one a --name of its own; "
                "for one more instance of this host, a --state-dir"
            ) from None
        except OSError as error:
            raise StateUnwritable(self._state_dir, error) from None
        ended: list[str] = []
        previous = self._previous()
        if previous is not None:
            ended += previous.ended
            if _over(previous, structs.replace(me, lock=self._held())):
                ended.append(previous.incarnation)
        return tuple(ended[-_REMEMBERED:])

    def record(self, me: Instance) -> None:
        """Record the current holder of the directory.

        :raises StateUnwritable: if that fails; the previous record stays
        """
        try:
            write_private(self._state_dir / _FILE, msgspec.json.encode(structs.replace(me, lock=self._held())))
        except OSError as error:
            raise StateUnwritable(self._state_dir, error) from None

    def release(self) -> None:
        """Release the directory. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _held(self) -> tuple[int, int]:
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def _holder(self) -> str:
        previous = self._previous()
        return "" if previous is None else f"process {previous.main.pid} "

    def _previous(self) -> Instance | None:
        """Return the last recorded life, None if there is none or its record is damaged."""
        try:
            return msgspec.json.decode((self._state_dir / _FILE).read_bytes(), type=Instance)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None


def _over(previous: Instance, me: Instance) -> bool:
    """Return True if nothing of an earlier life can be running; remove what may still run first.

    :raises LeftoverAlive: if something of it cannot be removed
    """
    if previous.pid_namespace != me.pid_namespace:
        return False  # of a container, whose machine's id may be its image's: other machines have that, too
    if previous.boot_id != me.boot_id:
        # The machine was booted again since, if it is the same machine.
        return bool(me.machine_id) and previous.machine_id == me.machine_id
    if previous.lock != me.lock:
        return False  # its folder was copied, and it may be running there
    if previous.reaper is not None:
        _wait_or_kill(previous.reaper, _REAPER_SECONDS)
    if not previous.mark:
        return previous.reaper is None  # otherwise what it has started cannot be found
    _remove_leftovers(previous.mark)
    return True


def _remove_leftovers(mark: int) -> None:
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while left := list(marked(mark)):
        for process in left:
            process.signal(signal.SIGKILL)
        if time.monotonic() > deadline:
            pids = ", ".join(sorted(str(process.pid) for process in left))
            raise LeftoverAlive(
                f"processes of this host's earlier life are left and cannot be killed: {pids}\n"
                "  fix: end them by hand, then start the host again"
            )
        _wait_or_kill(left[0], 0.2)


def _wait_or_kill(process: ProcessIdentity, seconds: float) -> None:
    """Wait until a process is gone; kill it if that takes too long."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if process.alive and not select.select([fd], [], [], seconds)[0]:
            process.signal(signal.SIGKILL)
            select.select([fd], [], [], seconds)
    finally:
        os.close(fd)


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return ""
