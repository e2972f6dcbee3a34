"""Stacks of this process's tasks and threads, in few and short lines: part of its state dump."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePath
from types import FrameType
from typing import Any

_TASKS = 2000
_SHOWN = 50
_DEPTH = 12


def process_stacks() -> dict[str, Any]:
    """Return the stacks of the running loop's tasks and of all threads, outermost frame first.

    Tasks at the same place are one entry with their number. Bounded, however many there are: 2,000 tasks are looked at,
    the 50 most frequent places shown.
    """
    tasks = asyncio.all_tasks()
    # The places in a task's coroutine, and in what it waits for.
    stacks = ((_name(task), tuple(map(_place, islice(task_frames(task), _DEPTH)))) for task in islice(tasks, _TASKS))
    places = Counter(stacks)
    shown = [
        {"task": name, "count": count, "stack": list(stack)} for (name, stack), count in places.most_common(_SHOWN)
    ]
    return {"tasks": len(tasks), "stacks": shown, "threads": _threads()}


def _name(task: asyncio.Task[Any]) -> str:
    name = task.get_name()
    return "" if name.startswith("Task-") else name


def task_frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of a task's coroutine, outermost first: each awaits the next."""
    waiting: Any = task.get_coro()
    while True:
        frame = next((found for name in _FRAMES if (found := getattr(waiting, name, None)) is not None), None)
        if frame is None:
            return
        yield frame
        waiting = next((found for name in _NEXT if (found := getattr(waiting, name, None)) is not None), None)


_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_NEXT = ("cr_await", "gi_yieldfrom", "ag_await")


def _threads() -> list[dict[str, Any]]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001  # the documented way, for debuggers
    return [
        {
            "thread": names.get(ident, str(ident)),
            "stack": [_place(each) for each, _ in islice(traceback.walk_stack(frame), _DEPTH)][::-1],
        }
        for ident, frame in islice(frames.items(), _SHOWN)
    ]


def _place(frame: FrameType) -> str:
    file = PurePath(frame.f_code.co_filename)
    line = f":{frame.f_lineno}" if frame.f_lineno else ""  # compiled code may have none
    return f"{file.parent.name}/{file.name}{line} {frame.f_code.co_qualname}"
