"""Leftovers of a step: work that still runs when the step returns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nomaflow_host.worker.tracking import adopted_daemon, has_children, is_child_running, is_library_thread, is_running

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from nomaflow_host.worker.scope import AttemptScope


def describe_leftovers(scope: AttemptScope, *, alone: bool) -> str:
    """Return a description of a step's work that still runs; empty if there is none.

    :param alone: True if no other step runs in this process, so that every child process belongs to this step
    """
    counts = {
        "task": len(left_tasks(scope)),
        "thread": sum(thread.is_alive() for thread in list(scope.threads)),
        "piece of work in an executor": len(scope.working),
        "process": sum(map(is_running, scope.processes)) + sum(map(is_child_running, scope.forked)),
    }
    if not counts["process"] and (has_children() if alone else adopted_daemon(scope.began)):
        counts["process"] = 1
    return " and ".join(_counted(count, noun) for noun, count in counts.items() if count)


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


def _counted(count: int, noun: str) -> str:
    plural = {"process": "processes", "piece of work in an executor": "pieces of work in executors"}
    return f"{count} {noun if count == 1 else plural.get(noun, noun + 's')}"
