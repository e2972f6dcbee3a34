"""Word of new lines in a log: one follower for each run that is watched, however many people watch it.

A follower does not hand lines on: a step may log 100,000 of them in a second. It says that there are new ones, at most
four times a second, and each viewer then reads what its window shows. Where more lines come than anybody can read, it
says so once a second: to draw them would take the step's own processor time.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from nomaflow.client import KernelClient

_PAUSE_SECONDS = 0.25
_FLOOD_LINES, _FLOOD_PAUSE_SECONDS = 1_000, 1.0
"""New lines since the last word that are a flood, and the pause then."""


class LogFeed:
    """The followers of logs.

    :param kernel: the client that reads
    """

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel
        self._followers: dict[str, _Follower] = {}

    async def changes(self, run_id: str, after_seq: int) -> AsyncGenerator[None, None]:
        """Yield at once, and then whenever there may be new lines, until the run is over and all are stored.

        :param after_seq: the last line that is known
        """
        follower = self._followers.get(run_id)
        if follower is None:
            follower = self._followers[run_id] = _Follower(self._kernel, run_id, after_seq)
        follower.viewers += 1
        try:
            async for _ in follower.changes():
                yield
        finally:
            follower.viewers -= 1
            if not follower.viewers and self._followers.get(run_id) is follower:
                del self._followers[run_id]
                await follower.stop()


class _Follower:
    def __init__(self, kernel: KernelClient, run_id: str, after_seq: int) -> None:
        self._kernel = kernel
        self._run_id = run_id
        self._after = after_seq
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow())
        self._task.add_done_callback(lambda _: self._tell())
        self.viewers = 0

    async def changes(self) -> AsyncIterator[None]:
        """Yield at once and after each piece of news; the last time after the end."""
        while True:
            ended, news = self._task.done(), self._news
            yield
            if ended:
                await self._task  # raises what ended it, if it was no end
                return
            await news.wait()

    async def _follow(self) -> None:
        while await self._wait_for_lines():
            new = 1
            while new:
                self._tell()
                await asyncio.sleep(_FLOOD_PAUSE_SECONDS if new >= _FLOOD_LINES else _PAUSE_SECONDS)
                # Sequences have no gaps, so their number says which is the last one. The run alone would come with
                # the results of its steps, which may be megabytes.
                found = await self._kernel.list_runs_page(run_ids=[self._run_id])
                new = max(0, sum(run.log_lines for run in found.runs) - self._after)
                self._after += new

    async def _wait_for_lines(self) -> bool:
        """Wait for a line after the last known one; return False if the run is over and has none."""
        async with aclosing(self._kernel.read_log_blocks(self._run_id, follow=True, after_seq=self._after)) as blocks:
            async for block in blocks:
                self._after = block[-1].seq
                return True
        return False

    def _tell(self) -> None:
        """Wake who waits for this piece of news; the next one has an event of its own."""
        self._news.set()
        self._news = asyncio.Event()

    async def stop(self) -> None:
        """End the follower."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
