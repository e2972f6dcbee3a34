"""Leftovers of a step: work that still runs when the step returns."""

from __future__ import annotations

import signal
import threading
import time
from asyncio import sleep  # the original, before any plugin patches it
from typing import TYPE_CHECKING

from nomaflow_host.reaper.proc import descendants, kill_trees, processes
from nomaflow_host.worker.children import all_children, library_processes, orphans, started_by_nobody
from nomaflow_host.worker.tracking import is_library_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from typing import Any

    from nomaflow_host.reaper.proc import ProcessIdentity
    from nomaflow_host.worker.scope import AttemptScope

_SETTLE_SECONDS = 0.01


def describe_leftovers(scope: AttemptScope, *, alone: bool) -> str:
    """Return a description of a step's work that still runs; empty if there is none.

    :param alone: True if no other step runs in this process, so that every child process belongs to this step
    """
    counts = {
        "task": len(left_tasks(scope)),
        "thread": sum(thread.is_alive() for thread in list(scope.threads)),
        "piece of work in an executor": len(scope.working),
        "process": len(left_processes(scope, alone=alone)) or len(scope.starting),
    }
    return " and ".join(_counted(count, noun) for noun, count in counts.items() if count)


async def left_after_a_moment(left: Callable[[], str]) -> str:
    """Give ending threads and tasks a moment to finish, then return what is left; empty if nothing is.

    :param left: describes what is left now
    """
    until = time.monotonic() + _SETTLE_SECONDS
    while (now := left()) and time.monotonic() < until:  # noqa: ASYNC110  # nothing announces that a thread or process ends
        await sleep(_SETTLE_SECONDS / 10)
    return now


def left_processes(scope: AttemptScope, *, alone: bool) -> set[ProcessIdentity]:
    """Return the living processes that it started; if there are none, those that may have become orphans.

    Nothing tells whose an orphan is: it counts for each step that has started processes, and for no other.

    :param alone: see `describe_leftovers`
    """
    if own := set(_own_processes(scope)):
        return own
    if alone:
        return all_children()
    return orphans(scope.began) if scope.starts_processes else set()


def has_processes(scope: AttemptScope) -> bool:
    """Return True if any process that it started lives, which is known sooner than which do."""
    return any(_own_processes(scope))


def signal_left(scope: AttemptScope, signum: int, *, alone: bool) -> None:
    """Send SIGTERM or SIGKILL to its processes, with those that its threads wait for in C code, and to all below them.

    After SIGKILL it can start no others, as a pool would that replaces its dead.

    :param alone: see `describe_leftovers`
    """
    if signum == signal.SIGKILL:
        scope.may_start = False
    idents = set(left_threads(scope))
    roots = left_processes(scope, alone=alone)
    for thread in threading.enumerate():
        if thread.ident in idents and thread.native_id is not None:
            found = {info.identity for info in started_by_nobody(thread.native_id)}
            # A thread of the executor may have older ones, from a neighbour's work in it.
            roots |= {each for each in found if each.start_ticks >= scope.began}
    if signum == signal.SIGKILL:
        kill_trees(roots)
    else:
        for each in [*roots, *(info.identity for info in descendants([root.pid for root in roots], processes()))]:
            each.signal(signum)


def left_tasks(scope: AttemptScope) -> list[asyncio.Task[Any]]:
    """Return its unfinished tasks."""
    return [task for task in list(scope.tasks) if not task.done()]


def left_threads(scope: AttemptScope) -> list[int]:
    """Return the idents of threads that run its code."""
    idents = [thread.ident for thread in list(scope.threads) if thread.is_alive()]
    return [ident for ident in (*idents, *list(scope.working.values())) if ident]


def has_library_threads() -> bool:
    """Return True if a library's thread still runs in this process, other than an executor's idle one."""
    return any(
        is_library_thread(thread) and not thread.name.startswith(("ThreadPoolExecutor", "asyncio_"))
        for thread in threading.enumerate()
    )


def _own_processes(scope: AttemptScope) -> Iterator[ProcessIdentity]:
    return (each for each in scope.started if each.alive and each.pid not in library_processes())


def _counted(count: int, noun: str) -> str:
    plural = {"process": "processes", "piece of work in an executor": "pieces of work in executors"}
    return f"{count} {noun if count == 1 else plural.get(noun, noun + 's')}"
