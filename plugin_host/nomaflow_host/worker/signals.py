"""The two signals by which a host reaches into a worker whose event loop may be blocked."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import signal
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from nomaflow_host.channel.ring import RingPage

__all__ = ["DUMP", "INTERRUPT", "StepInterrupted", "install_signals", "interrupt_thread"]

INTERRUPT = signal.SIGRTMIN + 5
"""Raise `StepInterrupted` in the step's code."""
DUMP = signal.SIGRTMIN + 6
"""Write every thread's stack, and note whose code is on the event loop."""

_OF_THE_LADDER = frozenset((signal.SIGTERM, INTERRUPT))


class StepInterrupted(asyncio.CancelledError):
    """Raised in a step's code, wherever it is, once it has outlived its grace."""


def install_signals(*, page: RingPage, dump_fd: int, interrupt: Callable[[], None]) -> Callable[[], None]:
    """Set the handlers of this process: the two above, and the defaults for what a terminal or a host sends.

    :param page: gets the slot found on the blocked loop
    :param dump_fd: where stacks are written, by a handler in C that needs no interpreter lock
    :param interrupt: called in the main thread where the running code is not a step's
    :return: what puts the handlers back that a step has changed
    """

    def on_dump(_signum: int, _frame: FrameType | None) -> None:
        scope = current_scope()
        page.blocker = None if scope is None else scope.slot

    def on_interrupt(_signum: int, _frame: FrameType | None) -> None:
        interrupt()
        if current_scope() is not None:
            raise StepInterrupted("the step did not stop within its grace")

    handlers: dict[int, Any] = {
        **dict.fromkeys((signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM), signal.SIG_DFL),
        signal.SIGINT: signal.SIG_IGN,
        INTERRUPT: on_interrupt,
    }

    def restore() -> None:
        for signum, handler in handlers.items():
            # What the stop ladder relies on is set whatever Python knows of: C code may have changed it unseen.
            if signum in _OF_THE_LADDER or signal.getsignal(signum) != handler:
                signal.signal(signum, handler)
        signal.setitimer(signal.ITIMER_REAL, 0)

    restore()
    signal.signal(DUMP, on_dump)
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(DUMP, file=dump_fd, all_threads=True, chain=True)
    return restore


def interrupt_thread(idents: Iterable[int]) -> None:
    """Raise `StepInterrupted` in other threads, at their next bytecode."""
    for ident in idents:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(StepInterrupted))
