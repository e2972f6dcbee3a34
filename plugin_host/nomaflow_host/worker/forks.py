"""Handling of processes that a step's code forks: such a process belongs to that code and is never a second worker.

Such a child has everything its worker has: the event loop, the connection to the host, the descriptors. So shared
parts are cut off at once, and the child ends when its code returns to, or awaits in, the worker's own code.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import faulthandler
import os
import selectors
import signal
from typing import TYPE_CHECKING, Any, NoReturn

from nomaflow_host.worker.emitter import write_all
from nomaflow_host.worker.outcome import author_traceback
from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_CAME_BACK = b"a process that the step forked came back from the step's code and is ended here (end it with os._exit)\n"


class AuthorCode:
    """Runs an author's code. Only the process that entered ``with AuthorCode():`` leaves it; its forks end there."""

    __slots__ = ("_pid",)

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> None:
        if os.getpid() != self._pid:
            end_fork(error)


class _Forked(collections.deque[Any]):
    """Replaces the queue of waiting callbacks on a loop, in a process that may run none of them."""

    def append(self, _handle: Any, /) -> None:
        """Drop the callback."""

    def popleft(self) -> NoReturn:
        end_fork(None)


class WorkerLoop(asyncio.SelectorEventLoop):
    """The event loop of a worker. A process that was forked from the worker ends instead of running it.

    The default executor is the worker's: a step that sets another, or shuts it down, does so for itself alone.
    """

    _ready: collections.deque[Any]

    def __init__(self) -> None:
        self._worker_selector = selectors.EpollSelector()
        super().__init__(self._worker_selector)
        os.register_at_fork(after_in_child=self._leave)

    def fileno(self) -> int:
        """Return the descriptor on which it waits; the system shares it with forked processes."""
        return self._worker_selector.fileno()

    def set_default_executor(self, executor: Any) -> None:
        """Set the default executor of the running step."""
        if (scope := current_scope()) is None:
            super().set_default_executor(executor)
        else:
            scope.executor = executor

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]  # no generics
        """Call *func* in an executor, by default the step's own or else the worker's."""
        if executor is None and (scope := current_scope()) is not None:
            executor = scope.executor
        return super().run_in_executor(executor, func, *args)

    async def shutdown_default_executor(self, *_: Any, **__: Any) -> None:
        """Shut down the executor that the step has set; the worker's own has work of its neighbours."""
        scope = current_scope()
        if scope is not None and (own := scope.executor) is not None:
            scope.executor = None
            await super().run_in_executor(None, own.shutdown)

    def _leave(self) -> None:
        # The callbacks of this turn belong to neighbours; no public method removes them from the loop.
        self._ready.clear()
        self._ready = _Forked()
        self._worker_selector.select = _end  # type: ignore[method-assign, assignment]  # costs the worker's own turns nothing


def _end(_timeout: float | None = None) -> NoReturn:
    end_fork(None)


def cut_off_forks(fds: Iterable[int]) -> None:
    """Replace *fds* by the null device in each process that is forked from this one."""
    null, shared = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), tuple(fds)

    def cut_off() -> None:
        for fd in shared:
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
        with contextlib.suppress(ValueError):  # not the main thread of the interpreter
            signal.set_wakeup_fd(-1)
        faulthandler.enable(file=2)  # the worker's own stacks go to one of these descriptors

    os.register_at_fork(after_in_child=cut_off)


def end_fork(error: BaseException | None) -> NoReturn:
    """End this process, which a step's code has forked, like a program.

    :param error: the exception that it raised, None if it returned
    """
    try:
        write_all(2, _said_of(error) + _CAME_BACK)
    finally:
        os._exit(_exit_code(error))


def _said_of(error: BaseException | None) -> bytes:
    if error is None or isinstance(error, SystemExit):
        return b""
    return f"{author_traceback(error)}\n".encode("utf-8", "surrogateescape")


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    code = error.code if isinstance(error, SystemExit) else 1
    return code & 0xFF if isinstance(code, int) else int(code is not None)
