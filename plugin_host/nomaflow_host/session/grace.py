"""The grace: how long a host that has lost its kernel keeps attempts that may run again elsewhere."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nomaflow_api.time_spans import time_span
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.kernel_clock import KernelClock
from nomaflow_telemetry.process_log import attempt_fields

if TYPE_CHECKING:
    from nomaflow_host.process.runner import SupervisedRunner

_log = logging.getLogger(__name__)

_LONGEST_NAP = 5.0


class GraceGuard:
    """Without a session, kills attempts with ``retry_on_lost`` when the kernel has been silent for their grace.

    The kernel then gives them to another host. Attempts without ``retry_on_lost`` keep running, since no other host
    gets them.
    """

    def __init__(self, *, clock: KernelClock, outbox: Outbox, runner: SupervisedRunner) -> None:
        self._clock = clock
        self._outbox = outbox
        self._runner = runner
        self._killed: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled, or until no attempt is left that could be killed."""
        while (nap := self.check()) is not None:  # noqa: ASYNC110 - it waits for time itself
            await asyncio.sleep(min(nap, _LONGEST_NAP))

    def check(self) -> float | None:
        """Kill attempts that are due; return the seconds until the next may be, or None if there is none."""
        silence = self._clock.silence
        waits: list[float] = []
        held = {each.attempt_key: each for each in self._outbox.unfinished() if each.retry_on_lost}
        self._killed &= held.keys()
        for key, holding in held.items():
            grace = holding.grace_ms / 1000 or self._clock.grace_s
            if key in self._killed:
                continue
            if silence < grace:
                waits.append(grace - silence)
                continue
            self._killed.add(key)
            reason = (
                f"the kernel has been silent for {time_span(silence)}; retry_on_lost lets another host run the step"
            )
            _log.warning("killing an attempt: %s", reason, extra=attempt_fields(key))
            self._runner.kill(key, "host_lost", reason)
        return min(waits, default=None)
