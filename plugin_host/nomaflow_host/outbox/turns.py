"""Scheduling of reports: the attempts with something to report now, and those that wait a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nomaflow_api.v1.letters import AttemptReport
from nomaflow_api.v1.sealing import seal
from nomaflow_host.outbox.lane import Lane

MAX_BATCH_BYTES = 1 << 20
MAX_BATCH_ATTEMPTS = 64
"""Further events go into the next batch, so that kernel, host and workers all have something to do at any time."""

_SHARE_BYTES = 64 << 10
_PROGRESS_SECONDS = 0.25
_EVENT_OVERHEAD = 6
_REPORT_OVERHEAD = 48
_FIRST_STALL_SECONDS = 0.05
_MAX_STALL_SECONDS = 5.0
_MOST_STALLS = 7
"""After so many in a row the longest stall is reached; a number that grew for an hour would overflow."""
_LINGER_SECONDS = 0.002


@dataclass(kw_only=True, slots=True)
class Filling:
    """A batch while it is being filled.

    :param limit: its maximum of encoded bytes, unless a single event is larger
    """

    limit: int
    size: int = 0
    _whole: list[AttemptReport] = field(default_factory=list)
    _reports: dict[str, tuple[int, list[bytes]]] = field(default_factory=dict)

    def take(self, report: AttemptReport) -> None:
        """Add a whole report."""
        self._whole.append(report)
        self.size += sum(map(len, report.events)) + len(report.attempt_key) + _REPORT_OVERHEAD

    @property
    def full(self) -> bool:
        """True if no further attempt fits."""
        return self.size >= self.limit or len(self._whole) + len(self._reports) >= MAX_BATCH_ATTEMPTS

    def takes(self, size: int) -> bool:
        """Return True if an event of *size* bytes still fits, or would be the only one."""
        return self.size == 0 or self.size + size + _EVENT_OVERHEAD + _REPORT_OVERHEAD <= self.limit

    def add(self, lane: Lane, seq: int, data: bytes) -> None:
        """Add the next event of an attempt."""
        key = lane.order.attempt_key
        if key not in self._reports:
            self._reports[key] = (seq, [])
            self.size += len(key) + _REPORT_OVERHEAD
        self._reports[key][1].append(data)
        self.size += len(data) + _EVENT_OVERHEAD
        lane.sent = seq

    def reports(self) -> list[AttemptReport]:
        """Return the whole reports, and the added events, grouped."""
        return self._whole + [
            AttemptReport(attempt_key=key, first_seq=first, events=tuple(events))
            for key, (first, events) in self._reports.items()
        ]


class Turns:
    """Queues attempts that have something to report, and sets others aside until they are due.

    An attempt waits if only its progress is unsent and the last one is younger than a quarter of a second, if the
    kernel answered without taking anything, or for a moment if it has only just started. While a batch is unanswered,
    its attempts are in neither place; the code that acknowledges it schedules them again.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: dict[str, Lane] = {}
        self._waiting: dict[str, Lane] = {}
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._full = asyncio.Event()

    def schedule(self, lane: Lane) -> None:
        """Queue an attempt if it has something to report."""
        key = lane.order.attempt_key
        if key in self._ready or lane.under_way or not (lane.unsent or lane.progress is not None):
            return
        if lane.lingers and lane.last_seq > 1:
            lane.lingers, lane.parked_until = False, float("-inf")
        if _due_at(lane) <= self._clock():
            self._waiting.pop(key, None)
            self._ready[key] = lane
            self.nudge()
            if len(self._ready) >= MAX_BATCH_ATTEMPTS:
                self._full.set()
        elif key not in self._waiting:
            self._waiting[key] = lane
            if _due_at(lane) < self._timer_at:
                self.nudge()

    def remove(self, attempt_key: str) -> None:
        """Remove an attempt."""
        self._ready.pop(attempt_key, None)
        self._waiting.pop(attempt_key, None)

    def linger(self, lane: Lane) -> None:
        """Set aside an attempt that has only just started, for a moment.

        A short step then has its start and its end in one report, and the kernel makes one commit instead of two.
        """
        lane.lingers = True
        lane.parked_until = self._clock() + _LINGER_SECONDS
        self.schedule(lane)

    def stalled(self, lane: Lane) -> None:
        """Set aside an attempt for a moment, because the kernel answered without taking anything.

        Asking again at once would be a tight loop.
        """
        lane.stalls = min(lane.stalls + 1, _MOST_STALLS)
        lane.parked_until = self._clock() + min(_FIRST_STALL_SECONDS * 2**lane.stalls, _MAX_STALL_SECONDS)
        self.remove(lane.order.attempt_key)
        self.schedule(lane)

    def nudge(self) -> None:
        """Make `wait` check again."""
        self._changed.set()

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until an attempt is due, or *ready* returns True."""
        while True:
            self._changed.clear()
            self._look_at_waiting()
            if self._ready or ready():
                return
            self._set_timer()
            await self._changed.wait()

    def _set_timer(self) -> None:
        """Make `wait` check again when the next waiting attempt is due. One timer serves all later ones."""
        due_at = min(map(_due_at, self._waiting.values()), default=float("inf"))
        if due_at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        pause = max(0.0, due_at - self._clock()) + 0.001
        self._timer, self._timer_at = asyncio.get_running_loop().call_later(pause, self._time_is_up), due_at

    def _time_is_up(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.nudge()

    async def wait_until_full(self) -> None:
        """Wait until there is enough for a full batch."""
        while len(self._ready) < MAX_BATCH_ATTEMPTS:
            self._full.clear()
            await self._full.wait()

    def take_progress(self, lane: Lane) -> None:
        """Turn the newest progress, if there is one, into an event."""
        if lane.progress is not None:
            lane.append(seal(lane.progress))
            lane.progress = None
            lane.progress_sent_at = self._clock()

    def fill(self, filling: Filling) -> None:
        """Fill a batch from the attempts in turn, 64 KiB of each a round."""
        self._look_at_waiting()
        in_turn = list(self._ready.values())[:MAX_BATCH_ATTEMPTS]
        while in_turn and not filling.full:
            served: list[Lane] = []
            for lane in in_turn:
                if self._clock() >= lane.progress_sent_at + _PROGRESS_SECONDS:
                    self.take_progress(lane)
                if _take_share(filling, lane):
                    served.append(lane)
                if lane.under_way or not lane.unsent:
                    self._ready.pop(lane.order.attempt_key, None)
                if filling.size >= filling.limit:
                    return
            in_turn = [lane for lane in served if lane.unsent]

    def _look_at_waiting(self) -> None:
        now = self._clock()
        for key, lane in [item for item in self._waiting.items() if _due_at(item[1]) <= now]:
            del self._waiting[key]
            self.schedule(lane)


def _take_share(filling: Filling, lane: Lane) -> bool:
    share = 0
    for seq, block in lane.pending():
        size = block.size(seq)
        if not filling.takes(size) or (share and share + size > _SHARE_BYTES):
            break
        filling.add(lane, seq, lane.read(seq, block))
        share += size
    return share > 0


def _due_at(lane: Lane) -> float:
    if lane.unsent:
        return lane.parked_until
    return max(lane.parked_until, lane.progress_sent_at + _PROGRESS_SECONDS)
