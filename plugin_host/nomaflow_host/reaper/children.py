"""The reaper's records of its child processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from nomaflow_host.channel.frames import FrameSocket
    from nomaflow_host.reaper.proc import ProcessIdentity
    from nomaflow_host.reaper.tree_limits import CgroupTree


class Exit(NamedTuple):
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


class Child:
    """A child, from the request to start it until the report of its exit.

    :param process: None until it has started
    :ivar outlived_by: pids of processes that may have been below it when it ended: its exit is reported after theirs
    """

    def __init__(self, *, number: int, process: ProcessIdentity | None = None) -> None:
        self.number = number
        self.process = process
        self.killed = False
        self.exit: Exit | None = None
        self.outlived_by: set[int] = set()

    @property
    def pid(self) -> int:
        """Its pid, 0 until it has started."""
        return 0 if self.process is None else self.process.pid

    @property
    def over(self) -> bool:
        """True once it has ended, and all that may have been below it."""
        return self.exit is not None and not self.outlived_by

    @property
    def running(self) -> ProcessIdentity | None:
        """Its process, None before its start and after its exit."""
        return self.process if self.exit is None else None

    def exit_json(self) -> dict[str, Any]:
        """Return the report of its exit."""
        assert self.exit is not None
        return {"pid": self.pid, "killed": self.killed, **self.exit._asdict()}


class Worker(Child):
    """A worker.

    :param template: the template that forks it, None for a fresh interpreter
    :ivar doomed: True if it is to be killed as soon as its process is known
    :ivar cause: the reason code of the limit that it broke
    """

    def __init__(self, *, number: int, template: int | None) -> None:
        super().__init__(number=number)
        self.template = template
        self.doomed = False
        self.cause: str | None = None
        self.cgroup: CgroupTree | None = None


class Template(Child):
    """A template, with the workers that it was asked for and has not started yet."""

    def __init__(self, *, number: int, process: ProcessIdentity, link: FrameSocket) -> None:
        super().__init__(number=number, process=process)
        self.link = link
        self.forking: set[int] = set()
