"""The two signals that a host sends to a worker whose event loop may be blocked."""

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

    from nomaflow_host.channel.ring.page import RingPage

INTERRUPT = signal.SIGRTMIN + 5
"""Raise `StepInterrupted` in the step's code."""
DUMP = signal.SIGRTMIN + 6
"""Write every thread's stack, and note whose code is on the event loop."""

_OF_THE_LADDER = frozenset((signal.SIGTERM, INTERRUPT))


class StepInterrupted(asyncio.CancelledError):
    """Raised in a step's code, wherever it is, once its grace is over."""


def install_signals(*, page: RingPage, dump_fd: int, interrupt: Callable[[], None]) -> Callable[[], None]:
    """Set the handlers of this process: the two above, and the defaults for the signals of a terminal or a host.

    :param page: the ring that receives the slot found on the blocked loop
    :param dump_fd: descriptor for stacks, asked for or of a fault, written by a handler in C that needs no interpreter
        lock
    :param interrupt: called in the main thread if the running code is not a step's
    :return: a function that restores handlers that a step has changed
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
            # The stop ladder's handlers are set even if Python sees no change: C code may have changed them unnoticed.
            if signum in _OF_THE_LADDER or signal.getsignal(signum) != handler:
                signal.signal(signum, handler)
        signal.setitimer(signal.ITIMER_REAL, 0)

    restore()
    signal.signal(DUMP, on_dump)
    faulthandler.enable(file=dump_fd, all_threads=True)
    faulthandler.register(DUMP, file=dump_fd, all_threads=True, chain=True)
    return restore


def interrupt_thread(idents: Iterable[int]) -> None:
    """Raise `StepInterrupted` in other threads, at their next bytecode."""
    for ident in idents:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(StepInterrupted))
