"""The reaper's records of its child processes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow_host.channel.frames import FrameSocket
    from nomaflow_host.reaper.proc import ProcessIdentity
    from nomaflow_host.reaper.tree_limits import CgroupTree


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
class Child:
    """A child, from the request to start it until the report of its exit.

    :param process: None until it has started
    """

    number: int
    process: ProcessIdentity | None = None
    killed: bool = False
    exit: Exit | None = None

    @property
    def pid(self) -> int:
        """Its pid, 0 until it has started."""
        return 0 if self.process is None else self.process.pid

    @property
    def running(self) -> ProcessIdentity | None:
        """Its process, None before its start and after its exit."""
        return self.process if self.exit is None else None

    def exit_json(self) -> dict[str, Any]:
        """Return the report of its exit."""
        assert self.exit is not None
        return {"pid": self.pid, "killed": self.killed, **asdict(self.exit)}


@dataclass(kw_only=True, slots=True)
class Worker(Child):
    """A worker.

    :param template: the template that forks it, None for a fresh interpreter
    :param cause: the reason code of the limit that it broke
    """

    template: int | None
    cause: str | None = None
    cgroup: CgroupTree | None = None


@dataclass(kw_only=True, slots=True)
class Template(Child):
    """A template, with the workers that it was asked for and has not started yet."""

    link: FrameSocket
    forking: set[int] = field(default_factory=set)
