"""Starts fresh interpreters: templates, and workers that cannot be forked."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow_host.reaper.other_user import OtherUser

FIRST_FD = 3
"""The first descriptor handed on; 0 is /dev/null, 1 and 2 are the output."""
_SIGNALS = tuple(range(1, 32))


def spawn_module(
    module: str,
    *,
    out: int,
    err: int,
    fds: Sequence[int],
    environ: Mapping[str, str],
    user: OtherUser | None = None,
) -> int:
    """Start ``python -P -m module`` in a session of its own and return its pid.

    :param out: becomes its descriptor 1, *err* 2; *fds* become `FIRST_FD` and up, in order
    :param user: whose process it is; None for the user of this one
    :raises OSError: if the system cannot start another process, or the user cannot run this interpreter
    :raises ValueError: if a variable has a NUL byte
    """
    above = FIRST_FD + len(fds)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (out, err, *fds)]
    places = dict(zip((1, 2, *range(FIRST_FD, above)), moved, strict=True))
    command = [sys.executable, "-P", "-m", module]
    try:
        if user is not None:
            user.own(out, err)
            return _spawn_as(user, command, places, environ)
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        ]
        actions += [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in places.items()]
        return os.posix_spawn(sys.executable, command, environ, file_actions=actions, setsid=True, setsigdef=_SIGNALS)
    finally:
        for fd in moved:
            os.close(fd)


def _spawn_as(user: OtherUser, command: Sequence[str], places: Mapping[int, int], environ: Mapping[str, str]) -> int:
    """Fork, become the user, and only then run the interpreter: its start already runs code that the user may choose.

    This process has one thread, so its child may run Python.
    """
    reading, low = os.pipe()
    failed = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, max(places) + 1)
    os.close(low)
    try:
        pid = os.fork()
        if pid == 0:
            _become(user, command, places, environ, failed)
    finally:
        os.close(failed)
        with os.fdopen(reading, "rb") as end:
            told = end.read()  # nothing, once the exec has closed the other end
    if told:
        os.waitpid(pid, 0)
        number = int(told)
        raise OSError(number, f"{os.strerror(number)}, for user {user.name!r}", command[0])
    return pid


def _become(
    user: OtherUser, command: Sequence[str], places: Mapping[int, int], environ: Mapping[str, str], failed: int
) -> NoReturn:
    """Turn this fresh child into the user's interpreter, or write the number of the error to *failed* and end."""
    try:
        for number in _SIGNALS:
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        for place, fd in places.items():
            os.dup2(fd, place)
        user.take_on()
        if not os.access(".", os.X_OK):
            os.chdir("/")
        os.execve(command[0], list(command), environ)  # noqa: S606  # no shell is wanted
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(127)
