"""Hides the tasks of other steps from a step.

Code that shuts down often cancels ``asyncio.all_tasks()``; in a shared worker these would include its neighbours'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nomaflow_host.worker.scope import AttemptScope


class OwnTask(asyncio.Task[None]):
    """A task of the worker's own: no code of a step can find or cancel it."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Do nothing."""
        return False


def hide_other_tasks(scopes: Callable[[], Iterable[AttemptScope]]) -> None:
    """Make ``asyncio.all_tasks`` leave out, for a step, the tasks of others and the worker's own.

    :param scopes: returns the scopes of the running attempts
    """
    plain = asyncio.all_tasks

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        """Return the unfinished tasks of *loop*."""
        found, mine = plain(loop), current_scope()
        if mine is None:
            return found
        # Copies: this may be a thread of a step, and the loop starts tasks meanwhile.
        others = {task for scope in scopes() if scope is not mine for task in list(scope.tasks)}
        return {task for task in found - others if not isinstance(task, OwnTask)}

    asyncio.all_tasks = all_tasks
    asyncio.tasks.all_tasks = all_tasks
