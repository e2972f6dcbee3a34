"""One part, kernel or host, as a child process: started, restarted after a crash, stopped in stages."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from nomaflow_api.event_loop import happens_within
from nomaflow_cli.formatting import exit_words
from nomaflow_cli.up import tether

_TETHER = Path(tether.__file__)
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_HEALTHY_AFTER = 60.0
_TAIL_BYTES = 4096
_HOPELESS: Mapping[int, str] = {
    2: "its command line is wrong",
    os.EX_TEMPFAIL: "another one is running, or has its address",
    os.EX_PROTOCOL: "kernel and host have no protocol in common",
    os.EX_CONFIG: "its configuration cannot be used",
}
"""Exit codes that a new start does not change, and their meaning. Settings may be mended meanwhile: a part that has
served is started again."""
_UNWRITTEN = 120
"""Python's own exit code for output that could not be written."""


def part_command(name: str, project: Path, *options: str) -> tuple[str, ...]:
    """Return the command of a project's ``kernel`` or ``host``."""
    return (sys.executable, "-P", "-m", f"nomaflow_{name}", "--project", str(project), *options)


def become_part(name: str, project: Path, *options: str) -> NoReturn:
    """Replace this process with a part of a project."""
    command = part_command(name, project, *options)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


class PartState(enum.StrEnum):
    """The changes of a part."""

    STARTED = "started"
    CRASHED = "crashed"
    STOPPED = "stopped"
    KILLED = "killed"


@dataclass(frozen=True, kw_only=True, slots=True)
class PartNotice:
    """A change of a part.

    :param exit: description of its end; empty for a start
    :param again_in: seconds until it is restarted; None if it is not
    """

    name: str
    state: PartState
    pid: int
    exit: str = ""
    again_in: float | None = None


class PartFailed(Exception):
    """Raised when a part ends and a restart would not help.

    :param tail: the last lines of its log
    """

    def __init__(self, name: str, *, exit_words: str, log: Path, tail: Sequence[str]) -> None:
        super().__init__(f"the {name} did not stay up: {exit_words}")
        self.name = name
        self.log = log
        self.tail = tuple(tail)


class Part:
    """A child process that is kept running.

    :param name: ``kernel`` or ``host``
    :param log: the file that its output is appended to, so that it never waits for us to read
    :param notify: called with each change
    :param needed: False if the others go on without it: it is started again although it ended before it was ever ready
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        log: Path,
        notify: Callable[[PartNotice], None],
        needed: bool = True,
    ) -> None:
        self.name = name
        self.log = log
        self.proven = False
        self._command = tuple(command)
        self._notify = notify
        self._needed = needed
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0
        self._stopping = asyncio.Event()
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int:
        """The process id; 0 if it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def keep_running(self) -> None:
        """Start it, and restart it whenever it ends, until ``stop``.

        The wait before a restart doubles, and begins anew once the process ran for a minute.

        :raises PartFailed: when it is needed and ended before it was ever ready, or with an exit code that makes a
            restart useless
        """
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                code = await self._once()
                # A part that has served waits for its settings to be mended: an edit does not end what runs.
                words, hopeless = self._ending(code), code in _HOPELESS and not (self.proven and code == os.EX_CONFIG)
            except OSError as error:
                words, hopeless = f"it cannot be started: {error.strerror or error}", False
            if self._stopping.is_set():
                return
            if hopeless or (self._needed and not self.proven):
                raise PartFailed(self.name, exit_words=words, log=self.log, tail=self.tail())
            if time.monotonic() - started > _HEALTHY_AFTER:
                delay = _FIRST_DELAY
            self._say(PartState.CRASHED, exit_text=words, again_in=delay)
            await happens_within(self._stopping, delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _once(self) -> int:
        """Run it once and return its exit code; 0 if it was stopped before it ran.

        :raises OSError: if it cannot be started
        """
        async with self._starting:
            if self._stopping.is_set():
                return 0
            with self._open_log() as output, tether.signals_held():
                self._log_start = output.tell()
                self._process = process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    str(_TETHER),
                    str(os.getpid()),
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._say(PartState.STARTED)
        return await process.wait()

    def _open_log(self) -> BinaryIO:
        try:
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self.log.open("ab")
        except OSError as error:
            raise OSError(error.errno, f"its log cannot be written: {error.strerror}") from None

    def _say(self, state: PartState, *, exit_text: str = "", again_in: float | None = None) -> None:
        pid = self._process.pid if self._process is not None else 0
        self._notify(PartNotice(name=self.name, state=state, pid=pid, exit=exit_text, again_in=again_in))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if it is not running."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                # Python before 3.13: asyncio's send_signal may lose the exit code of a process that ends (gh-87744).
                os.kill(self.pid, number)

    async def stop(self, *, deadline: float, hurry: asyncio.Event, kill: asyncio.Event) -> None:
        """Ask it to end, and kill it if it does not. May be called twice.

        :param deadline: seconds that it has after the first request, and again after the second
        :param hurry: set when somebody asks again: the request is repeated
        :param kill: set when even that takes too long: it is killed
        """
        self._stopping.set()
        async with self._starting:  # a part that is being started must be stopped too
            process = self._process
        if process is None or process.returncode is not None:
            return
        ended = asyncio.create_task(process.wait())
        for sooner in (hurry, kill):
            self.signal(signal.SIGTERM)
            asked = asyncio.create_task(sooner.wait())
            await asyncio.wait({ended, asked}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if ended.done() or not sooner.is_set():
                break
        killed = not ended.done()
        if killed:
            self.signal(signal.SIGKILL)
        code = await ended
        self._say(PartState.KILLED if killed else PartState.STOPPED, exit_text=self._ending(code))

    def _ending(self, code: int) -> str:
        """Return what an exit code means. A part that fails says why, unless it cannot write its log."""
        meaning = _HOPELESS.get(code)
        if not meaning and (code == _UNWRITTEN or (code > 0 and not self.tail())):
            meaning = "its log does not say why: is the disk full?"
        return f"{exit_words(code)}, {meaning}" if meaning else exit_words(code)

    def tail(self) -> list[str]:
        """Return the last lines of its output since its start."""
        try:
            with self.log.open("rb") as output:
                size = output.seek(0, os.SEEK_END)
                began = self._log_start if self._log_start <= size else 0  # logrotate has cut it off
                output.seek(max(began, size - _TAIL_BYTES))
                return output.read().decode("utf-8", "replace").splitlines()[-12:]
        except OSError:
            return []
