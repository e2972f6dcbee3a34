"""The engine behind ``--follow``: events, log lines and Ctrl-C, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from nomaflow.client import ClientError
from nomaflow.client.values import EventView, RunView
from nomaflow_api.event_loop import happens_within
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.output import tell
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow_cli.live.screens import Screen

_QUESTION = "the run is still running: [d]etach and leave it running, [c]ancel it, or [Enter] to keep watching? "
_TICK = 0.125
_REFRESH = 0.5


async def follow_run(*, kernel: KernelClient, run_id: str, screen: Screen) -> ExitCode:
    """Show a run until it is over, or until the person leaves it.

    :returns: the exit code of the run's state, or INTERRUPTED if it continues without us
    :raises ClientError: when the kernel refuses, or stays away for too long
    """
    follower = _Follower(kernel=kernel, run_id=run_id, screen=screen)
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupts.put_nowait, None)
    loop.add_signal_handler(signal.SIGTERM, _end, screen)
    screen.open()
    work = asyncio.create_task(follower.follow())
    try:
        while True:
            interrupted = asyncio.create_task(interrupts.get())
            await asyncio.wait({work, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            interrupted.cancel()
            if work.done():
                return work.result()
            if not await follower.interrupted(interrupts):
                return ExitCode.INTERRUPTED
    finally:
        work.cancel()
        await asyncio.wait({work})
        loop.remove_signal_handler(signal.SIGINT)
        screen.close()


def _end(screen: Screen) -> None:
    """Give the terminal back, and end as SIGTERM ends a process."""
    screen.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


class _Follower:
    """One run shown on one screen."""

    def __init__(self, *, kernel: KernelClient, run_id: str, screen: Screen) -> None:
        self._kernel = kernel
        self._run_id = run_id
        self._screen = screen
        self._changed = asyncio.Event()
        self._shown = asyncio.Event()
        self._shown.set()

    async def follow(self) -> ExitCode:
        """Show everything until the run is over and all its lines are shown."""
        self._screen.update(await self._kernel.get_run(self._run_id))
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(each) for each in (self._refresh(), self._tick())]
                await asyncio.wait([group.create_task(each) for each in (self._events(), self._lines())])
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        run = await self._kernel.get_run(self._run_id)
        await self._shown.wait()
        self._screen.update(run)
        self._screen.finish(run)
        return ExitCode.of_run(run.state)

    async def _events(self) -> None:
        async for item in self._kernel.watch_run(self._run_id):
            if isinstance(item, EventView):
                self._screen.event(item)
                self._changed.set()
            else:
                await self._show(item)

    async def _lines(self) -> None:
        begun: set[tuple[str, int]] = set()
        async for block in self._kernel.read_log_blocks(self._run_id, follow=True):
            speaking = {(line.step, line.attempt) for line in block}
            if not speaking <= begun:  # their lines may come before the events of their begin
                begun |= speaking
                await self._show(await self._kernel.get_run(self._run_id))
            await self._shown.wait()
            self._screen.log(block)

    async def _refresh(self) -> None:
        """Fetch the run after events, and twice a second for progress, which makes no events."""
        while True:
            await happens_within(self._changed, _REFRESH)
            self._changed.clear()
            with contextlib.suppress(ClientError):  # the watch itself meets what lasts
                await self._show(await self._kernel.get_run(self._run_id))

    async def _show(self, run: RunView) -> None:
        await self._shown.wait()
        self._screen.update(run)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            if self._shown.is_set():
                self._screen.tick()

    async def interrupted(self, interrupts: asyncio.Queue[None]) -> bool:
        """Ask what to do after Ctrl-C; return False if the person leaves the run alone."""
        self._shown.clear()
        self._screen.close()
        answer = await _answer(interrupts)
        if answer == "d":
            tell(f"detached; the run continues: nomaflow logs {self._run_id} --follow")
            return False
        if answer == "c":
            try:
                await self._kernel.cancel(self._run_id, why="Ctrl-C")
            except ClientError as error:  # it may start and watch runs, and not cancel them
                tell(printable(f"! {error.advice}"))
            self._changed.set()
        self._screen.open()
        self._shown.set()
        return True


async def _answer(interrupts: asyncio.Queue[None]) -> str:
    """Ask on the terminal and return the first letter of the answer.

    A second Ctrl-C detaches, and so does the end of the input, and the first Ctrl-C if nobody can answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "d"
    tell(f"\n{_QUESTION}", end="")
    typed, again = asyncio.create_task(_line()), asyncio.create_task(interrupts.get())
    await asyncio.wait({typed, again}, return_when=asyncio.FIRST_COMPLETED)
    line = "" if again.done() else await typed
    if again.done():
        tell("")
    for task in (typed, again):
        task.cancel()
    await asyncio.gather(typed, again, return_exceptions=True)
    return line.strip().lower()[:1] if line else "d"


async def _line() -> str:
    """Return the next line of standard input, without a thread that would outlive the question."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()
