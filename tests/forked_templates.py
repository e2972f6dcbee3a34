"""A host's reaper that has imported what templates import, and forks them from itself.

These imports take three quarters of all that a reload does, and more than half of a host's start, so the reaper is
forked too. A forked template differs from a fresh one in its command line and in what ``/proc`` says of its
environment, by which a host also knows what an earlier life of it has left. So a test of these asks for fresh ones, as
does one that kills hosts and reapers. A host whose first reaper has died starts the next one afresh.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from nomaflow_host.reaper.other_user import OtherUser

__all__ = ["FORK_TEMPLATES", "PRELOADED", "ReaperParent", "at_start", "offer"]

PRELOADED = "preloaded"
"""The name under which a process that forks hosts runs this file."""

FORK_TEMPLATES = "NOMAFLOW_TEST_FORKS_TEMPLATES"
"""A variable of a host whose reaper is to fork."""
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_")
_MOST_FILES = 65_536
_PR_SET_DUMPABLE = 4


# In the process that forks hosts, and in each host.

_OF_REAPERS: set[str] = set()
"""The modules that a reaper and its templates have imported."""
_OF_HOSTS: dict[str, object] = {}
"""The other modules that a host has imported, in its reaper."""
_SPARE: list[tuple[socket.socket, int]] = []
"""The reaper of a host that has started none yet, and how to reach it."""


def offer() -> None:
    """Import what templates do, before a host's modules, and have hosts whose environment has the variable fork."""
    _import_templates()
    _OF_REAPERS.update(sys.modules)
    from nomaflow_host.supervisor import reaper_link

    vars(reaper_link)["subprocess"] = _Starting()


def at_start() -> None:
    """Fork the first reaper of a host, while that is like the process that has forked it: it has no threads yet."""
    if FORK_TEMPLATES not in os.environ:
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        ours.close()
        _wait_for_link(theirs)
    theirs.close()
    _SPARE.append((ours, pid))


class _Starting:
    """All that a host uses of `subprocess` to start its reaper."""

    DEVNULL = subprocess.DEVNULL

    def Popen(  # noqa: N802
        self, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], **options: Any
    ) -> subprocess.Popen[bytes] | Adopted:
        if not _SPARE or _read_at_start(env) != _read_at_start(os.environ):
            return subprocess.Popen(command, env=env, pass_fds=pass_fds, **options)
        control, pid = _SPARE.pop()
        with control:
            socket.send_fds(control, [json.dumps(dict(env)).encode()], pass_fds)
        return Adopted(pid)


def _wait_for_link(control: socket.socket) -> NoReturn:
    """Wait until the host starts its reaper, and become that; end with a host that starts none."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    letter, given, _, _ = socket.recv_fds(control, 1 << 20, 1)
    if not given:
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # They stay as they are, and who imports one in a step imports it anew.
    _OF_HOSTS.update({name: sys.modules.pop(name) for name in sys.modules.keys() - _OF_REAPERS})
    _become_reaper(letter, given[0])


# In a test that has a supervisor of its own.


class ReaperParent:
    """A process that forks reapers. It stands for `subprocess` where they are started.

    Each becomes a child of this process, which adopts orphans as long as it has a supervisor.
    """

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def Popen(  # noqa: N802
        self, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], **options: Any
    ) -> subprocess.Popen[bytes] | Adopted:
        """Start a reaper; in another environment than that of this process, afresh."""
        if _read_at_start(env) != _read_at_start(os.environ):
            return subprocess.Popen(command, env=env, pass_fds=pass_fds, **options)
        socket.send_fds(self._control, [json.dumps(dict(env)).encode()], pass_fds)
        return Adopted(int.from_bytes(self._control.recv(8), "little"))

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.wait()


class Adopted:
    """A reaper, with the members of Popen that are used of one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = False

    def wait(self) -> None:
        """Wait for its end."""
        if not self._ended:
            os.waitpid(self.pid, 0)
            self._ended = True

    def kill(self) -> None:
        """Kill it."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)


def _fork_reapers(control: socket.socket) -> None:
    while True:
        letter, given, _, _ = socket.recv_fds(control, 1 << 20, 1)
        if not given:
            return
        reading, writing = os.pipe()
        middle = os.fork()
        if not middle:
            middle, pid = os.getpid(), os.fork()
            if not pid:
                while os.getppid() == middle:
                    os.sched_yield()
                _become_reaper(letter, given[0])
            os.write(writing, pid.to_bytes(8, "little"))
            os._exit(0)
        os.close(writing)
        os.close(given[0])
        told = os.read(reading, 8)
        os.close(reading)
        os.waitpid(middle, 0)
        control.send(told)


def _become_reaper(letter: bytes, link: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.dup2(link, 3)
        os.closerange(4, _MOST_FILES)
        os.environ.clear()
        os.environ.update(json.loads(letter))
        code = _run_reaper(3)
    except BaseException:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# In the reaper.


def _start(
    spawn: Any,
    module: str,
    *,
    out: int,
    err: int,
    fds: Sequence[int],
    environ: Mapping[str, str],
    user: OtherUser | None = None,
) -> int:
    if module != "nomaflow_host.template" or user is not None or _read_at_start(environ) != _read_at_start(os.environ):
        started: int = spawn(module, out=out, err=err, fds=fds, environ=environ, user=user)
        return started
    pid = os.fork()  # a reaper has one thread
    if not pid:
        _become(module, (out, err, *fds), environ)
    return pid


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_AT_START)}


def _become(module: str, given: Sequence[int], environ: Mapping[str, str]) -> NoReturn:
    """Turn a child into the template, as `nomaflow_host.reaper.spawning.spawn_module` starts it."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as the interpreter does
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        moved = [os.dup(fd) for fd in given if fd < _MOST_FILES]
        above = max(moved) + 1
        os.closerange(above, _MOST_FILES)
        high = [os.dup2(fd, above + place) for place, fd in enumerate(moved)]
        for place, fd in enumerate(high, start=1):
            os.dup2(fd, place)
        os.closerange(1 + len(high), _MOST_FILES)
        os.environ.clear()
        os.environ.update(environ)
        sys.argv[1:], sys.orig_argv[1:] = [], ["-P", "-m", module]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_reaper(link: int) -> int:
    from nomaflow_host.reaper import loop

    vars(loop)["spawn_module"] = partial(_start, vars(loop)["spawn_module"])
    return loop.main(link)


def _import_templates() -> None:
    import nomaflow_host.reaper.loop
    import nomaflow_host.template.process  # noqa: F401  # and with it all that a template imports


if __name__ == "__main__":
    from nomaflow_api.import_freeze import imports_frozen

    with imports_frozen():
        _import_templates()
    _fork_reapers(socket.socket(fileno=int(sys.argv[1])))
elif __name__ == PRELOADED:
    offer()
