"""The child processes of a worker: those that Python code has started, and those that nothing in it has.

The functions that start processes are wrapped, so that what a step starts is recorded in its scope.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import functools
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from nomaflow_host.reaper.proc import ProcessIdentity, children_of, children_of_thread, read_process
from nomaflow_host.worker.scope import StartedProcesses, starting_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nomaflow_host.reaper.proc import ProcessInfo
    from nomaflow_host.worker.scope import AttemptScope

_HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
)
_MARK = "_nomaflow_wrapped"
_started = StartedProcesses()
"""All children of this process that Python code has started, for whatever step."""


def record_children() -> None:
    """Wrap the functions that start processes. Call it once."""
    os.fork = _recorded(os.fork, lambda pid: pid)
    os.forkpty = _recorded(os.forkpty, lambda pid_and_fd: pid_and_fd[0])
    os.posix_spawn = _recorded(os.posix_spawn, lambda pid: pid)
    os.posix_spawnp = _recorded(os.posix_spawnp, lambda pid: pid)
    # `multiprocessing` takes it from its module, `subprocess` has a name of its own for it.
    _posixsubprocess.fork_exec = _recorded(_posixsubprocess.fork_exec, lambda pid: pid)
    subprocess._fork_exec = _posixsubprocess.fork_exec  # type: ignore[attr-defined]  # noqa: SLF001  # as above
    os.system = _recorded(os.system, lambda _status: 0)  # C code waits for its child: only what that leaves may stay


def all_children() -> set[ProcessIdentity]:
    """Return this process's living children; the orphans below it are its children, too.

    The helper processes of `multiprocessing` do not count, as long as they have no children.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return set()
        if ended is None:
            return _other_children(library_processes())
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, os.WNOHANG)


def orphans(since: int) -> set[ProcessIdentity]:
    """Return the living children that this process has adopted, if they started after *since*, and reap dead ones.

    Linux gives orphans to the main thread. No child that Python code has started is reaped, so it may be called while
    other steps run.

    :param since: clock ticks since boot, from `ticks_now`
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # there is no child at all, which is a cheaper check than a list of them
    found = set()
    for info in started_by_nobody(os.getpid()):
        if not info.alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(info.pid, os.WNOHANG)
        elif info.identity.start_ticks >= since:
            found.add(info.identity)
    return found


def started_by_nobody(thread: int) -> list[ProcessInfo]:
    """Return the children of a thread that no Python code has started: orphans, and those of C code as `os.system`."""
    # The list comes first: a child that another thread starts, records and leaves to this one is not in it then.
    pids = children_of_thread(os.getpid(), thread)
    known = {each.pid for each in _started}
    return [info for info in map(read_process, (pid for pid in pids if pid not in known)) if info is not None]


def library_processes() -> set[int]:
    """Return the pids of the helpers that `multiprocessing` starts once per process, and ends with it."""
    found = set()
    for module, helper, attribute in _HELPERS:
        keeper = getattr(sys.modules.get(module), helper, None)
        pid = getattr(keeper, attribute, None)
        if pid is not None:
            found.add(pid)
    return found


def _other_children(helpers: set[int]) -> set[ProcessIdentity]:
    return {
        info.identity
        for info in children_of(os.getpid())
        if info.alive and (info.pid not in helpers or any(child.alive for child in children_of(info.pid)))
    }


def _recorded(start: Callable[..., Any], pid_of: Callable[[Any], int]) -> Callable[..., Any]:
    """Return *start*, which starts a child process, so that the child is recorded."""

    @functools.wraps(start)
    def started(*args: Any, **kwargs: Any) -> Any:
        scope = starting_scope()
        with contextlib.nullcontext() if scope is None else _starting(scope):
            result = start(*args, **kwargs)
            if pid := pid_of(result):
                child = ProcessIdentity.of(pid)
                _started.add(child)
                _track_forkserver()
                if scope is not None:
                    scope.started.add(child)
        return result

    return started


@contextlib.contextmanager
def _starting(scope: AttemptScope) -> Iterator[None]:
    """Show that a process is being started for a step, which therefore has not ended.

    :raises RuntimeError: if it has, and its thread goes on, as that of a pool which replaces its dead processes
    """
    thread = threading.get_ident()
    scope.starting.add(thread)
    try:
        if scope.closed or not scope.may_start:
            raise RuntimeError(f"cannot start a process for the step {scope.step!r}: it has ended or is ended")
        scope.starts_processes = True
        yield
    finally:
        scope.starting.discard(thread)


def _track_forkserver() -> None:
    """Have the step's scope record what the server of `multiprocessing` forks for it: those are no children of ours."""
    module: Any = sys.modules.get("multiprocessing.forkserver")
    if module is None or hasattr(module.read_signed, _MARK):
        return
    plain = module.read_signed

    def read_signed(fd: int) -> int:
        """Return what the server has written: the pid of a process that it has forked, or later its exit code."""
        number = int(plain(fd))
        scope, info = starting_scope(), read_process(number)
        if scope is not None and info is not None and info.parent in library_processes():
            scope.started.add(info.identity)
        return number

    setattr(read_signed, _MARK, True)
    module.read_signed = read_signed
