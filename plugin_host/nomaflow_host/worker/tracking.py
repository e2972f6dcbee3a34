"""Carries the attempt into threads and executors, and records what each attempt has started.

A ContextVar does not reach plain threads or executors, so ``Thread.start``, ``ThreadPoolExecutor.submit`` and the
functions that start child processes are wrapped, once per process.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import functools
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nomaflow_host.reaper.proc import children_of, children_of_thread, read_process
from nomaflow_host.worker.forks import AuthorCode
from nomaflow_host.worker.scope import CURRENT, current_scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from nomaflow_host.worker.scope import AttemptScope

_MARK = "_nomaflow_wrapped"
_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
)
_STANDARD = ("concurrent.futures", "asyncio", "multiprocessing", "logging.handlers")
_plain_start = threading.Thread.start
_plain_submit = ThreadPoolExecutor.submit
_plain_popen = subprocess.Popen.__init__
_popens: weakref.WeakSet[subprocess.Popen[Any]] = weakref.WeakSet()
_forks: set[int] = set()
"""The pids of this process's children that have no `subprocess.Popen`."""


def install_tracking() -> None:
    """Wrap threads, executors and subprocesses of this process. Calling it again changes nothing."""
    if getattr(threading.Thread.start, _MARK, False):
        return
    setattr(_start, _MARK, True)
    threading.Thread.start = _start  # type: ignore[method-assign]  # the purpose of this module
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign, assignment]  # the purpose of this module
    subprocess.Popen.__init__ = _popen  # type: ignore[method-assign]  # the purpose of this module
    os.fork = _recorded(os.fork, lambda pid: pid)
    os.forkpty = _recorded(os.forkpty, lambda pid_and_fd: pid_and_fd[0])
    os.posix_spawn = _recorded(os.posix_spawn, lambda pid: pid)
    os.posix_spawnp = _recorded(os.posix_spawnp, lambda pid: pid)
    # `multiprocessing` starts its processes with it.
    _posixsubprocess.fork_exec = _recorded(_posixsubprocess.fork_exec, lambda pid: pid)
    threading.excepthook = _thread_failed


def is_library_thread(thread: threading.Thread) -> bool:
    """Return True if a thread runs an installed library's own loop, such as that of a connection in a pool.

    Such threads may outlive a step: they are how libraries work, not work that the step has left.
    """
    target: Any = getattr(thread, "_target", None) or type(thread).run
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    code = getattr(target, "__code__", None)
    if code is None:
        return False
    module = str(getattr(target, "__module__", ""))
    return module.startswith(_STANDARD) or any(part in code.co_filename for part in _LIBRARIES)


def is_running(process: subprocess.Popen[Any]) -> bool:
    """Return True if a child still runs. Does not reap it: that is its owner's task."""
    return process.returncode is None and is_child_running(process.pid)


def is_child_running(pid: int) -> bool:
    """Return True if *pid* is a child of this process that still runs. Does not reap it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def all_children() -> set[int]:
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


def orphans(since: int) -> set[int]:
    """Return the living children that this process has adopted, if they started after *since*.

    Linux gives orphans to the main thread. Reaps nothing, so it may be called while other steps run.

    :param since: clock ticks since boot, from `ticks_now`
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # there is no child at all, which is a cheaper check than a list of them
    infos = map(read_process, started_by_nobody(os.getpid()))
    return {info.pid for info in infos if info is not None and info.alive and info.identity.start_ticks >= since}


def started_by_nobody(thread: int) -> set[int]:
    """Return the children of a thread that no Python code has started: orphans, and those of C code as `os.system`."""
    known = {process.pid for process in list(_popens)} | _forks
    return set(children_of_thread(os.getpid(), thread)) - known


def library_processes() -> set[int]:
    """Return the pids of the helpers that `multiprocessing` starts once per process, and ends with it."""
    found = set()
    for module, helper, attribute in _HELPERS:
        keeper = getattr(sys.modules.get(module), helper, None)
        pid = getattr(keeper, attribute, None)
        if pid is not None:
            found.add(pid)
    return found


def _other_children(helpers: set[int]) -> set[int]:
    return {
        info.pid
        for info in children_of(os.getpid())
        if info.alive and (info.pid not in helpers or any(child.alive for child in children_of(info.pid)))
    }


def _recorded(start: Callable[..., Any], pid_of: Callable[[Any], int]) -> Callable[..., Any]:
    """Return *start*, which starts a child process, so that the step's scope records the child."""

    @functools.wraps(start)
    def started(*args: Any, **kwargs: Any) -> Any:
        result = start(*args, **kwargs)
        if pid := pid_of(result):
            _forks.difference_update([each for each in list(_forks) if not is_child_running(each)])
            _forks.add(pid)
            _track_forkserver()
            scope = current_scope()
            if scope is not None:
                scope.forked = [each for each in scope.forked if is_child_running(each)]
                scope.forked.append(pid)
        return result

    return started


def _track_forkserver() -> None:
    """Have the step's scope record what the server of `multiprocessing` forks for it: those are no children of ours."""
    module: Any = sys.modules.get("multiprocessing.forkserver")
    if module is None or hasattr(module.read_signed, _MARK):
        return
    plain = module.read_signed

    def read_signed(fd: int) -> int:
        """Return what the server has written: the pid of a process that it has forked, or later its exit code."""
        number = int(plain(fd))
        scope, info = current_scope(), read_process(number)
        if scope is not None and info is not None and info.parent in library_processes():
            scope.served = [each for each in scope.served if each.alive]
            scope.served.append(info.identity)
        return number

    setattr(read_signed, _MARK, True)
    module.read_signed = read_signed


def _start(self: threading.Thread) -> None:
    scope = current_scope()
    if scope is not None and not is_library_thread(self):
        _bind(self, scope)
    _plain_start(self)


def _bind(thread: threading.Thread, scope: AttemptScope) -> None:
    run = thread.run

    def carried() -> None:
        CURRENT.set(scope)
        try:
            with AuthorCode():
                run()
        finally:
            thread.__dict__.pop("run", None)
            scope.threads.discard(thread)

    scope.threads.add(thread)
    thread.run = carried  # type: ignore[method-assign]  # only this thread's


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Report an exception that ended a thread as Python does, from the author's own frames on."""
    trace = args.exc_traceback
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, threading.__file__):
        trace = trace.tb_next
    if trace is not None and args.exc_value is not None:
        args.exc_value.__traceback__ = trace
    threading.__excepthook__(args)


def _submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    scope = current_scope()
    if scope is None:
        return _plain_submit(self, fn, *args, **kwargs)
    number = scope.begin_work()

    def carried(*args: Any, **kwargs: Any) -> Any:
        scope.working[number] = threading.get_ident()
        token = CURRENT.set(scope)
        try:
            with AuthorCode():
                return fn(*args, **kwargs)
        finally:
            CURRENT.reset(token)

    try:
        future = _plain_submit(self, carried, *args, **kwargs)
    except BaseException:
        scope.end_work(number)
        raise
    future.add_done_callback(lambda _future: scope.end_work(number))
    return future


def _popen(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
    _plain_popen(self, *args, **kwargs)
    _popens.add(self)
    scope = current_scope()
    if scope is not None:
        scope.processes = [process for process in scope.processes if process.returncode is None]
        scope.processes.append(self)
