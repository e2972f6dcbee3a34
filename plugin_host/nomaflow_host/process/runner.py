"""Connects the session to the supervisor: neither knows the other."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nomaflow_api.v1.letters import DispatchOrder
from nomaflow_host.session.facts import HostStatus
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_host.supervisor.values import LoadOutcome, Refused

if TYPE_CHECKING:
    from nomaflow_host.observing.tracing import AttemptTracer
    from nomaflow_host.supervisor.serving_generation import ServingGeneration

_log = logging.getLogger(__name__)


class SupervisedRunner:
    """Gives the session what the rest of the host can do. No method blocks; the asynchronous ones may take long.

    :param for_attempt: the key of the one attempt that is accepted; empty for any
    :param watch: sees each order before the supervisor does; None if nothing is traced
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        for_attempt: str = "",
        watch: AttemptTracer | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._watch = watch
        self._for_attempt = for_attempt
        self._drain_deadline_at_us = 0
        self._loading = True
        self.cancel = supervisor.cancel
        """Stops an attempt by the ladder; an unknown key does nothing."""
        self.kill = supervisor.kill
        """Kills an attempt's worker at once, for a reason code and a reason; an unknown key does nothing."""
        self.settled = supervisor.loader.settled
        """Waits, for that many seconds at most, until no load is under way or due; returns whether that is so."""
        self.another = supervisor.loader.another
        """Waits until a generation other than the given one serves, and returns it."""
        self.look_at_disk = supervisor.loader.look_at_disk
        """Looks at the disk, for the next status; waits for a second at most."""
        self.idle_seconds = supervisor.attempts.idle_seconds
        """Returns how long this host has run nothing, in seconds; 0 while it runs something."""
        self.inspect = supervisor.inspect
        """Returns what an attempt does now; None if this host does not run it."""
        self.check = supervisor.check
        """Has a sealed list of CheckedStep checked; returns one of ValueProblem, or None if that is not known."""

    def accept(self, order: DispatchOrder) -> None:
        """Start an attempt.

        :raises Refused: if there is no room, the host is stopping, or it was started for another attempt
        """
        if self._for_attempt not in ("", order.attempt_key):
            raise Refused("host_full", f"this host was started only for attempt {self._for_attempt!r}")
        if self._watch is not None:
            order = self._watch.accepting(order)
        try:
            self._supervisor.accept(order)
        except Refused:
            if self._watch is not None:
                self._watch.refused(order.attempt_key)
            raise

    @property
    def running(self) -> int:
        """The number of attempts that it holds: part of the status, without a look at the disk and at each worker."""
        return len(self._supervisor.attempts)

    @property
    def newest_load(self) -> LoadOutcome | None:
        """The outcome of the newest load, likewise; a refused one stands until another succeeds."""
        return self._supervisor.loader.newest

    @property
    def serving(self) -> ServingGeneration | None:
        """The generation that new attempts go to."""
        return self._supervisor.loader.serving

    def status(self) -> HostStatus:
        """Return the host's current status."""
        generation = self.serving
        return HostStatus(
            running=self.running,
            workers=tuple(self._supervisor.pool.statuses()),
            generation=generation.number if generation else 0,
            manifest_digest=generation.digest if generation else "",
            loaded_at_us=generation.loaded_at_us if generation else 0,
            newer_files=self._supervisor.loader.newer_files(),
            draining=self._drain_deadline_at_us > 0,
            drain_deadline_at_us=self._drain_deadline_at_us,
            isolation_mechanism=self._supervisor.mechanism,
            load=self.newest_load,
            loading=self._loading,
        )

    async def reload(self, *, force: bool) -> LoadOutcome:
        """Load the project's code again beside the serving one. An unreadable project is refused like bad code.

        Whoever calls this after the first load does so for a person.
        """
        try:
            outcome = await self._supervisor.load(force=force)
        except Refused as error:  # nothing was loaded, and nothing is wrong with the code
            self._loading = False
            level = logging.INFO if error.reason_code == "host_draining" else logging.WARNING
            _log.log(level, "nothing was loaded: %s", error.reason)
            status = self.status()
            return LoadOutcome(
                accepted=False, generation=status.generation, digest=status.manifest_digest, reasons=(error.reason,)
            )
        if outcome.accepted and self.serving is not None and not self._loading:
            self.serving.explicit = True
        self._loading = False
        self._log_load(outcome)
        return outcome

    def _log_load(self, outcome: LoadOutcome) -> None:
        if outcome.accepted:
            _log.info("generation %d serves", outcome.generation)
            return
        serves = "the last good code stays in use" if outcome.generation else "there is no code to run"
        for said in [replace(each, path="").sentence for each in outcome.problems] or [outcome.message]:
            _log.warning("the load was refused; %s: %s", serves, said)

    async def drain(self, deadline_s: float) -> None:
        """Accept nothing new and return when nothing runs any more."""
        self._drain_deadline_at_us = time.time_ns() // 1000 + int(deadline_s * 1_000_000)
        await self._supervisor.drain(deadline_s)
