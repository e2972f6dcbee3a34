"""The reaper's records of its child processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nomaflow_host.reaper.trees import Tree

if TYPE_CHECKING:
    from nomaflow_host.channel.frames import FrameSocket
    from nomaflow_host.reaper.limits import CgroupTree

__all__ = ["Exit", "Template", "Worker"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exit:
    """The end of a process, from wait4.

    :param code: its exit code, None if a signal ended it
    :param signal: that signal, None if it exited
    """

    code: int | None
    signal: int | None
    peak_rss_bytes: int
    cpu_seconds: float

    @classmethod
    def from_wait(cls, status: int, usage: Any) -> Exit:
        """Read the result of `os.wait4`."""
        signalled = os.WIFSIGNALED(status)
        return cls(
            code=None if signalled else os.waitstatus_to_exitcode(status),
            signal=os.WTERMSIG(status) if signalled else None,
            peak_rss_bytes=usage.ru_maxrss * 1024,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
        )


@dataclass(kw_only=True, slots=True)
class Worker:
    """A worker, from the request to start it until the report of its exit.

    :param template: the template that forks it, None for a fresh interpreter
    :param cause: the reason code of the limit that it broke
    """

    number: int
    template: int | None
    pid: int = 0
    start_time: int = 0
    killed: bool = False
    cause: str | None = None
    exit: Exit | None = None
    cgroup: CgroupTree | None = None

    @property
    def tree(self) -> Tree:
        """Its process tree."""
        return Tree(pid=self.pid, start_time=self.start_time)


@dataclass(kw_only=True, slots=True)
class Template:
    """A template, with the workers that it was asked for and has not started yet."""

    number: int
    pid: int
    start_time: int
    link: FrameSocket
    forking: set[int] = field(default_factory=set)
    killed: bool = False
    exit: Exit | None = None

    @property
    def tree(self) -> Tree:
        """Its process tree."""
        return Tree(pid=self.pid, start_time=self.start_time)
