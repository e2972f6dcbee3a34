"""Calls that block, each in a thread, with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from nomaflow_alerts.channels.channel import NotSent

_MOST_STUCK = 5


class Threads:
    """Runs calls in threads of their own: one that never comes back holds up no other channel.

    :param name: of the threads
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stuck = 0

    async def run(self, call: Callable[[], None], *, seconds: float) -> None:
        """Return when a call has returned.

        :raises NotSent: if the call raises it, or takes too long
        """
        if self._stuck >= _MOST_STUCK:
            raise NotSent(f"{self._stuck} earlier calls still hang")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[BaseException | None] = loop.create_future()

        def work() -> None:
            error: BaseException | None = None
            try:
                call()
            except BaseException as raised:  # noqa: BLE001  # handed over
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends, and nobody waits
                loop.call_soon_threadsafe(self._ended, done, error)

        self._stuck += 1
        threading.Thread(target=work, name=self._name, daemon=True).start()
        try:
            async with asyncio.timeout(seconds):  # not wait_for, which may swallow that the task is cancelled
                error = await done
        except TimeoutError:
            raise NotSent(f"no answer within {seconds:g} s") from None
        if error is not None:
            raise error if isinstance(error, NotSent) else NotSent(f"{type(error).__name__}: {error}")

    def _ended(self, done: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
        self._stuck -= 1
        if not done.done():
            done.set_result(error)
