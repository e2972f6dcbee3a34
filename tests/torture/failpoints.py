"""Failpoints of a process under torture: named moments at which it dies, freezes or gets a failure, once.

This runs inside the victim. The harness arms a failpoint by writing a file; the victim looks for it at each moment,
consumes it when its turn has come, notes that in another file, and does what it says.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Armed", "Failpoints", "Firing", "FiringLog", "arm", "disarm"]

_ARMED = "armed"
_FIRED = "fired"


@dataclass(frozen=True, kw_only=True, slots=True)
class Armed:
    """The action of a failpoint, and its moment.

    :param number: names it in the record of what fired
    :param point: such as ``commit.result.after``
    :param skip: how many times the point is passed before
    :param action: ``kill``, ``freeze``, or a failure that the caller of `Failpoints.hit` performs
    """

    number: int
    point: str
    skip: int
    action: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Firing:
    """The record of a fired failpoint: which, in what process, when (monotonic ns)."""

    number: int
    action: str
    pid: int
    at_ns: int


def arm(directory: Path, armed: Armed) -> None:
    """Write the file that arms a failpoint; one that was armed before is replaced."""
    fresh = directory / "armed.new"
    fresh.write_text(json.dumps(asdict(armed)))
    fresh.replace(directory / _ARMED)


def disarm(directory: Path) -> None:
    """Take back what is armed and has not fired."""
    (directory / _ARMED).unlink(missing_ok=True)


class Failpoints:
    """The failpoints of this process.

    :param directory: where the harness arms them
    """

    def __init__(self, *, directory: Path) -> None:
        self._armed = directory / _ARMED
        self._fired = directory / _FIRED
        self._passed: dict[int, int] = {}

    def waiting(self, point: str) -> bool:
        """Return whether that point is armed now."""
        armed = self._read()
        return armed is not None and armed.point == point

    def hit(self, *points: str) -> str:
        """Be at one moment of several names: die or freeze if it is armed, or return the failure to perform."""
        armed = self._read()
        if armed is None or armed.point not in points:
            return ""
        passed = self._passed[armed.number] = self._passed.get(armed.number, 0) + 1
        if passed <= armed.skip:
            return ""
        self._armed.unlink(missing_ok=True)
        self._note(armed)
        if armed.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif armed.action == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        return armed.action

    def _read(self) -> Armed | None:
        try:
            return Armed(**json.loads(self._armed.read_text()))
        except FileNotFoundError:
            return None

    def _note(self, armed: Armed) -> None:
        firing = Firing(number=armed.number, action=armed.action, pid=os.getpid(), at_ns=time.monotonic_ns())
        fd = os.open(self._fired, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, json.dumps(asdict(firing)).encode() + b"\n")
        finally:
            os.close(fd)


class FiringLog:
    """Reads what has fired, each firing once; used by the harness."""

    def __init__(self, *, directory: Path) -> None:
        self._file = directory / _FIRED
        self._read = 0

    def news(self) -> list[Firing]:
        """Return what fired since the last look."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().splitlines()
        fresh, self._read = lines[self._read :], len(lines)
        return [Firing(**json.loads(line)) for line in fresh]
