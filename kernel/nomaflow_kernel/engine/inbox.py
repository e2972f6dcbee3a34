"""The engine's inbox: turns that wait, taken all at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from msgspec import Struct

from nomaflow_api.event_loop import happens_within
from nomaflow_kernel.engine.state import Batch
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.lookups import ApplyResult


class Turn(Struct, frozen=True, kw_only=True):
    """One caller's turn in a batch.

    :param decide: changes the state and the batch; its return value becomes the caller's answer after the commit
    :param settle: corrects the answer with the store's result
    :param future: the caller's future; None if nobody waits
    :param repeatable: whether it may decide ahead of a commit, and again if that commit fails
    :param audit: returns the rows of the call for the commit of an answer, if they are due; None if there is no call
    :param size: bytes that it adds to the commit, where that may be many
    """

    decide: Callable[[Batch], Any]
    settle: Callable[[ApplyResult, Any], None] | None
    future: asyncio.Future[Any] | None
    repeatable: bool = True
    audit: Callable[[Any], Sequence[AuditRecord]] | None = None
    size: int = 0

    def answer(self, result: ApplyResult, answer: Any) -> None:
        """Give the caller its answer, now that the commit is durable."""
        if self.settle is not None:
            self.settle(result, answer)
        if self.future is not None and not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Tell the caller that the commit failed and nothing was done."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class Inbox:
    """The queue in front of the engine's loop."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def closed(self) -> bool:
        """True if the engine is stopping."""
        return self._closed.is_set()

    def put(self, turn: Turn) -> bool:
        """Add a turn; return False if the engine is stopping."""
        if self.closed:
            return False
        self._turns.append(turn)
        self._wake.set()
        return True

    def withdraw(self, turn: Turn) -> None:
        """Forget a turn that nobody waits for, unless it was taken."""
        self._turns = [each for each in self._turns if each is not turn]

    def wake(self) -> None:
        """Have the loop check timers and dirty hosts, even without a turn."""
        self._wake.set()

    def close(self) -> None:
        """Refuse further turns and let the loop end."""
        self._closed.set()
        self._wake.set()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def take(self, room: float = math.inf) -> list[Turn]:
        """Take the waiting turns, in order, until there is no room for their bytes; then the loop looks again."""
        turns = self._take(len(self._turns), room)
        if self._turns:
            self._wake.set()
        return turns

    def take_repeatable(self, room: float) -> list[Turn]:
        """Take the turns that may decide ahead of a commit, up to the first one that may not, as far as there is room.

        The others wait for the end of that commit.
        """
        count = next((index for index, turn in enumerate(self._turns) if not turn.repeatable), len(self._turns))
        return self._take(count, room)

    def _take(self, count: int, room: float) -> list[Turn]:
        """Take so many turns at most; the last of them may need more than the room that is left."""
        used = accumulate((turn.size for turn in self._turns[:count]), initial=0)
        count = min(count, sum(size < room for size in used))
        turns, self._turns = self._turns[:count], self._turns[count:]
        return turns

    def put_back(self, turns: Sequence[Turn]) -> None:
        """Put turns back, in front of all others."""
        self._turns[:0] = turns
        self._wake.set()

    def take_asked(self) -> list[Turn]:
        """Take the waiting turns whose callers wait for an answer; the others stay."""
        asked = [turn for turn in self._turns if turn.future is not None]
        self._turns = [turn for turn in self._turns if turn.future is None]
        return asked

    async def wait(self, seconds: float | None) -> bool:
        """Wait for work, for ``seconds`` at most; return False if the engine is stopping."""
        if seconds is None:
            await self._wake.wait()
        elif not self._wake.is_set() and seconds > 0:
            self._set_alarm(seconds)
            await self._wake.wait()
        self._wake.clear()
        return not self.closed

    def _set_alarm(self, seconds: float) -> None:
        """Wake the loop after ``seconds`` at the latest. An alarm that is set for an earlier time stays."""
        loop = asyncio.get_running_loop()
        if self._alarm is not None:
            if self._alarm.when() <= loop.time() + seconds:
                return
            self._alarm.cancel()
        self._alarm = loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the engine is stopping."""
        await happens_within(self._closed, seconds)
