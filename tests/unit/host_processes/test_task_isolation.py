"""Tasks of other steps are hidden from a step, also in a thread of its own, while the worker's loop goes on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nomaflow_host.worker.process import _Worker
from nomaflow_host.worker.scope import CURRENT, AttemptScope
from nomaflow_host.worker.task_isolation import hide_other_tasks


class _Growing:
    """A task, or a run: whoever looks at it finds that the loop has begun another one meanwhile."""

    def __init__(self, begin: Any) -> None:
        self._begin = begin

    def __hash__(self) -> int:
        self._begin()
        return id(self)

    @property
    def scope(self) -> object:
        self._begin()
        return self


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``asyncio.all_tasks`` as it was after the test."""
    for module in (asyncio, asyncio.tasks):
        monkeypatch.setattr(module, "all_tasks", asyncio.all_tasks)


@pytest.mark.usefixtures("restored")
async def test_other_steps_may_start_tasks_while_a_thread_asks_for_its_own() -> None:
    """As the end of ``asyncio.run`` in a thread does: it failed with 'Set changed size during iteration'."""
    tasks: set[object] = set()
    tasks.add(_Growing(lambda: tasks.add(object())))
    mine, other = (SimpleNamespace(tasks=each, closed=False) for each in (set(), tasks))
    hide_other_tasks(lambda: cast("list[AttemptScope]", [mine, other]))
    token = CURRENT.set(cast(AttemptScope, mine))
    try:
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        CURRENT.reset(token)


async def test_a_step_may_begin_while_a_thread_looks_at_all_of_them() -> None:
    """The steps of a worker are those that ran when it began to look."""
    worker = _Worker(cast("Any", SimpleNamespace(loop=asyncio.get_running_loop())))
    runs = cast(dict[int, Any], worker._runs)
    runs[1] = _Growing(lambda: runs.setdefault(2, None))
    assert len(worker.scopes()) == 1
