"""Stacks that faulthandler has written about the threads of a worker."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from nomaflow_host.worker.outcome import OURS

if TYPE_CHECKING:
    from nomaflow_host.supervisor.held_attempt import HeldAttempt

_THREAD = re.compile(r"(?m)^(?:Current thread|Thread) (0x[0-9a-f]+).*\n")
_FRAME = re.compile(r'File "(.*)", line (\d+) in (.*)')
_FAULT = re.compile(r"(?m)^Fatal Python error: .*$")
_CURRENT = re.compile(r"(?m)^Current thread ")
_LOOP = "/asyncio/events.py"
_MAX_FRAMES = 40


class DumpedFrame(Struct, frozen=True):
    """A line of code that a thread is at."""

    file: str
    line: str
    function: str


class DumpedThread(Struct, frozen=True):
    """A thread and its frames, innermost first."""

    ident: str
    frames: tuple[DumpedFrame, ...]

    def runs(self, attempt: HeldAttempt) -> bool:
        """Return True if the callable of an attempt is among the frames."""
        file, name = attempt.location.rpartition(":")[0], attempt.order.callable.rpartition(":")[2].rpartition(".")[2]
        return any(each.file == file and each.function == name for each in self.frames)

    @property
    def text(self) -> str:
        """The frames of the author's code that runs now, as faulthandler writes them; all frames if there are none."""
        inner = itertools.dropwhile(_is_ours, self.frames)  # such as the function that records what a step starts
        shown = list(itertools.takewhile(lambda each: not _is_ours(each), inner)) or self.frames
        return "\n".join(f'  File "{each.file}", line {each.line} in {each.function}' for each in shown[:_MAX_FRAMES])


def threads_of(dump: str) -> list[DumpedThread]:
    """Return the threads of a dump; the main thread is the last."""
    parts = _THREAD.split(dump)[1:]
    return [
        DumpedThread(ident, tuple(DumpedFrame(*each) for each in _FRAME.findall(text)))
        for ident, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def fault_of(dump: str) -> str:
    """Return the fault that has ended a process, with the stack of the thread that it happened in; empty for none."""
    if (fault := _FAULT.search(dump)) is None:
        return ""
    current = _CURRENT.search(dump, fault.end())
    threads = threads_of(dump[current.start() :]) if current else []
    return f"{fault[0]} (most recent call first)\n{threads[0].text}" if threads else fault[0]


def _is_ours(frame: DumpedFrame) -> bool:
    return frame.file.startswith(OURS) or frame.file.endswith(_LOOP)
