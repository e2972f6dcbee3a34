"""The clock of a host's session: the time since the kernel's last answer, and the lease that ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nomaflow_api.boot_clock import boot_seconds
from nomaflow_api.time_spans import time_span
from nomaflow_host.session.failures import SessionDropped

_LONGEST_NAP = 5.0


class KernelClock:
    """Remembers the send time of the last message that the kernel has answered.

    It uses send times, not arrival times: the time from which the kernel counts cannot be earlier.
    """

    def __init__(self, *, clock: Callable[[], float] = boot_seconds) -> None:
        self._clock = clock
        self._sent: dict[int, float] = {}
        self.answered: float | None = None
        self.lease_s = 20.0
        self.grace_s = 600.0

    def sent(self, sent_at_us: int) -> None:
        """Record that a heartbeat is sent."""
        self._sent[sent_at_us] = self._clock()

    def heard(self, sent_at_us: int) -> None:
        """Record an answer; answers to heartbeats of an earlier session are ignored."""
        at = self._sent.get(sent_at_us)
        if at is not None:
            self.welcomed(at)
            self._sent = {key: value for key, value in self._sent.items() if value > at}

    def welcomed(self, sent_at: float) -> None:
        """Record that a message sent at that time has been answered."""
        self.answered = max(sent_at, self.answered or 0.0)

    def forget_session(self) -> None:
        """Forget unanswered heartbeats, at the end of a session."""
        self._sent.clear()

    @property
    def silence(self) -> float:
        """Seconds since the last answered message was sent; 0 before the first."""
        return 0.0 if self.answered is None else self._clock() - self.answered

    async def watch_lease(self) -> None:
        """Wait until the kernel has been silent for the lease.

        :raises SessionDropped: when it has
        """
        while (left := self.lease_s - self.silence) > 0:  # noqa: ASYNC110 - it waits for time itself
            await asyncio.sleep(min(left, _LONGEST_NAP))
        raise SessionDropped(f"no answer to a heartbeat for {time_span(self.silence)}")
