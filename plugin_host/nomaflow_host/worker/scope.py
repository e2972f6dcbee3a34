"""The attempt that a piece of running code belongs to, found by a ContextVar that threads and executors carry."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nomaflow_api.log_levels import PRINTED_LEVELS
from nomaflow_api.v1.log_lines import CONTINUED
from nomaflow_host.reaper.proc import ticks_now
from nomaflow_host.worker.partial_lines import UnfinishedLine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from nomaflow_api.v1.letters import AttemptOrder
    from nomaflow_host.reaper.proc import ProcessIdentity
    from nomaflow_host.worker.emitter import Emitter

CURRENT: ContextVar[AttemptScope | None] = ContextVar("nomaflow_attempt", default=None)
STARTER = "_nomaflow_starter"
"""The attribute of a library's thread that names the attempt that has started it."""
_MANY = 64


class StartedProcesses:
    """Processes that were started, of which those that have ended are forgotten now and then.

    Threads may add to it at the same time. It has no lock, since a forked process would inherit a locked one.
    """

    def __init__(self) -> None:
        self._each: set[ProcessIdentity] = set()
        self._many = _MANY

    def add(self, process: ProcessIdentity) -> None:
        """Record a process."""
        self._each.add(process)
        if len(self._each) > self._many:
            self._each.difference_update([each for each in self if not each.alive])
            self._many = max(_MANY, 2 * len(self._each))

    def __iter__(self) -> Iterator[ProcessIdentity]:
        """Iterate over the recorded ones, of which some may have ended."""
        return iter(self._each.copy())


class AttemptScope:
    """One attempt while its code runs: the owner of lines, and of everything that its code starts.

    :param slot: its number in the ring
    :param level: the lowest level of its log
    """

    def __init__(self, *, order: AttemptOrder, slot: int, level: int, emitter: Emitter) -> None:
        self.run_id = order.run_id
        self.step = order.step
        self.attempt = order.attempt
        self.slot = slot
        self.level = level
        self.closed = False
        self.began = ticks_now() - 1
        self.tasks: set[asyncio.Task[Any]] = set()
        self.threads: set[threading.Thread] = set()
        self.working: dict[object, int] = {}
        """Its pieces of work in executors, by an object for each, with the ident of the thread once it runs."""
        self.executor: Executor | None = None
        """What it has set as the default executor of its event loop; None for the worker's."""
        self.started = StartedProcesses()
        """The processes that Python code has started for it."""
        self.starts_processes = False
        """True once its code has started any process, so that an orphan may be its own."""
        self.may_start = True
        """False once its processes are killed, or none is left: from then on it can start no others."""
        self.starting: set[int] = set()
        """The idents of threads that start a process for it right now."""
        self.unawaited: list[str] = []
        """The names of coroutines that it created and nobody awaited."""
        self._unfinished: dict[tuple[str, int], UnfinishedLine] = {}
        self._lock = threading.RLock()
        self._emitter = emitter
        self._prefix = b"%03d" % slot

    def emit(self, level: int, at_us: int, logger: str, message: str, flags: int = 0) -> None:
        """Write one line of its log."""
        self._emitter.line(self._prefix, level, at_us, logger, message, flags)

    def printed(self, stream: str, text: str) -> None:
        """Write printed text to its log: whole lines at once, the rest at its line feed.

        ``print`` writes a text and its line feed one after the other, and another thread may print in between: so each
        thread has its own unfinished line.
        """
        source = (stream, threading.get_ident())
        with self._lock:
            unfinished = self._unfinished.setdefault(source, UnfinishedLine())
            lines, piece = unfinished.add(text, self._emitter.masker.now)
            if not unfinished:
                del self._unfinished[source]
        level, at_us = PRINTED_LEVELS[stream], time.time_ns() // 1000
        for line in lines:
            self.emit(level, at_us, stream, line)
        if piece:
            self.emit(level, at_us, stream, piece, CONTINUED)

    def flush_printed(self) -> None:
        """Write printed text that has no line feed at its end."""
        with self._lock:
            rests = [(stream, line.end()) for (stream, _), line in self._unfinished.items()]
            self._unfinished.clear()
        for stream, rest in rests:
            self.emit(PRINTED_LEVELS[stream], time.time_ns() // 1000, stream, rest)


def current_scope() -> AttemptScope | None:
    """Return the attempt that the running code belongs to, or None outside any or after its attempt has finished."""
    scope = CURRENT.get()
    return None if scope is None or scope.closed else scope


def starting_scope() -> AttemptScope | None:
    """Return the attempt that a process or thread started now belongs to, even if it has finished.

    That is the attempt of the running code, or in a library's own thread the one that has started that thread.
    """
    return CURRENT.get() or getattr(threading.current_thread(), STARTER, None)
