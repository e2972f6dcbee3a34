"""Stacks of an attempt's tasks and threads: what its code is doing now."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any

import nomaflow_host
from nomaflow_host.worker.leftovers import left_tasks, left_threads
from nomaflow_telemetry.stacks import task_frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from types import FrameType

    from nomaflow_host.worker.scope import AttemptScope

_MOST = 100
_FRAMES = 60
_NAME = 200
_PLACE = 300
_HOST = os.path.dirname(nomaflow_host.__file__) + os.sep


def attempt_stacks(
    scope: AttemptScope,
    *,
    task: asyncio.Task[Any] | None,
    thread: threading.Thread | None,
    alone: bool,
    root: str,
    mask: Callable[[str], str],
) -> list[dict[str, Any]]:
    """Return the stacks of an attempt's tasks and threads, then those of the worker's other threads if it is alone.

    Other attempts in this worker are not shown: the person who asks may not be allowed to see them.

    :param task: what calls it, if it is asynchronous; otherwise *thread*
    :param root: the project's folder, which the files are relative to
    """
    threads = {*left_threads(scope), None if thread is None else thread.ident}
    tasks = {each for each in (task, *left_tasks(scope)) if each is not None and not each.done()}
    found = [
        _told(each.get_name(), task_frames(each), root=root, mask=mask, of_attempt=True)
        for each in islice(tasks, _MOST)
    ]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = sys._current_frames()  # noqa: SLF001  # the documented way, for debuggers
    stacks.pop(threading.get_ident(), None)  # it answers this question
    for ident, frame in sorted(stacks.items(), key=lambda item: item[0] not in threads):
        if ident in threads or alone:
            outermost_first = [each for each, _ in traceback.walk_stack(frame)][::-1]
            name = names.get(ident, f"thread {ident}")
            found.append(_told(name, outermost_first, root=root, mask=mask, of_attempt=ident in threads))
    return found[:_MOST]


_LIBRARIES = sorted(filter(os.path.isabs, sys.path), key=len, reverse=True)


def _told(
    name: str, frames: Iterable[FrameType], *, root: str, mask: Callable[[str], str], of_attempt: bool
) -> dict[str, Any]:
    authors = dropwhile(_calls_the_step, frames) if of_attempt else frames
    places = [_place(frame, root) for frame in authors][-_FRAMES:]
    return {"name": mask(name)[:_NAME], "frames": [mask(each) for each in places], "of_attempt": of_attempt}


def _calls_the_step(frame: FrameType) -> bool:
    """Return whether a frame belongs to the code that calls a step: the worker, or the standard library's thread."""
    file = frame.f_code.co_filename
    return file == threading.__file__ or file.startswith(_HOST)


def _place(frame: FrameType, root: str) -> str:
    code = frame.f_code
    return f"{_shortened(code.co_filename, root)}:{frame.f_lineno or 0} {code.co_qualname}"[:_PLACE]


def _shortened(file: str, root: str) -> str:
    """Return a file relative to the project, or to the folder that libraries are installed in."""
    for folder in (root, *_LIBRARIES):
        if folder and file.startswith(folder + os.sep):
            return file[len(folder) + 1 :]
    return file
