"""Carries the attempt into threads and executors, and records what each attempt has started.

A ContextVar does not reach plain threads or executors, so ``Thread.start``, ``ThreadPoolExecutor.submit`` and the
functions that start child processes (see `children`) are wrapped, once per process.
"""

from __future__ import annotations

import concurrent.futures.thread
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.children import record_children
from nomaflow_host.worker.forks import AuthorCode
from nomaflow_host.worker.scope import CURRENT, STARTER, current_scope, starting_scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from nomaflow_host.worker.scope import AttemptScope

_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = ("concurrent.futures", "asyncio", "multiprocessing", "logging.handlers")
_WORKS_FOR_ANY = concurrent.futures.thread._worker  # noqa: SLF001  # a thread of an executor has no other mark
_plain_start = threading.Thread.start
_plain_submit = ThreadPoolExecutor.submit


def install_tracking() -> None:
    """Wrap threads, executors and subprocesses of this process. Call it once."""
    threading.Thread.start = _start  # type: ignore[method-assign]  # the purpose of this module
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign, assignment]  # the purpose of this module
    record_children()
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


def _start(self: threading.Thread) -> None:
    scope = starting_scope()
    if scope is not None and not scope.closed:
        if not is_library_thread(self):
            _bind(self, scope)
        elif self.__dict__.get("_target") is not _WORKS_FOR_ANY:
            self.__dict__[STARTER] = scope
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
    work = object()
    scope.working[work] = 0

    def carried(*args: Any, **kwargs: Any) -> Any:
        scope.working[work] = threading.get_ident()
        token = CURRENT.set(scope)
        try:
            with AuthorCode():
                return fn(*args, **kwargs)
        finally:
            CURRENT.reset(token)

    try:
        future = _plain_submit(self, carried, *args, **kwargs)
    except BaseException:
        del scope.working[work]
        raise
    future.add_done_callback(lambda _future: scope.working.pop(work))
    return future
