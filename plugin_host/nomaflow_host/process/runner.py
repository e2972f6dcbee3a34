"""Connects the session to the supervisor: neither knows the other except through `Runner`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from nomaflow_host.attempt.checks import CheckedStep, CheckOutcome
from nomaflow_host.attempt.messages import AttemptOrder, CancelOrder
from nomaflow_host.generation import manifest_bytes
from nomaflow_host.session.ports import HostStatus, Manifest, OrderRefused, ReloadOutcome, WorkerLine
from nomaflow_host.supervisor import LoadOutcome, Refused, Supervisor
from nomaflow_project.reading.problems import Problem

__all__ = ["OrderWatch", "SupervisedRunner"]

_log = logging.getLogger(__name__)


class OrderWatch(Protocol):
    """Sees orders on their way to the supervisor."""

    def accepting(self, order: AttemptOrder) -> AttemptOrder:
        """Return the order in the form for the supervisor."""

    def refused(self, attempt_key: str) -> None:
        """Record that the supervisor refused it."""


class SupervisedRunner:
    """A :class:`~nomaflow_host.session.ports.Runner` on top of a supervisor.

    :param drain_seconds: used if a drain gives no deadline
    :param on_load: called with the outcome of each load
    :param watch: sees each order before the supervisor does; None for no watch
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        drain_seconds: float,
        on_load: Callable[[ReloadOutcome], None] = lambda _: None,
        watch: OrderWatch | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._on_load = on_load
        self._watch = watch
        self._drain_seconds = drain_seconds
        self._draining = False
        self._loading = True
        self._manifest: Manifest | None = None
        self._known_load: LoadOutcome | None = None
        self._load: ReloadOutcome | None = None

    def accept(self, order: AttemptOrder) -> None:
        """Start an attempt.

        :raises OrderRefused: if there is no room, or the host is stopping
        """
        if self._watch is not None:
            order = self._watch.accepting(order)
        try:
            self._supervisor.accept(order)
        except Refused as refused:
            if self._watch is not None:
                self._watch.refused(order.attempt_key)
            raise OrderRefused(refused.reason) from None

    def cancel(self, order: CancelOrder) -> None:
        """Stop an attempt."""
        self._supervisor.cancel(order)

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        """Stop an attempt at once."""
        self._supervisor.kill(attempt_key, reason_code, reason)

    def status(self) -> HostStatus:
        """Return the host's current status."""
        generation = self._supervisor.generation
        workers = tuple(
            WorkerLine(pid=each.pid, exclusive=each.exclusive, generation=each.generation, running=each.running)
            for each in self._supervisor.workers()
        )
        return HostStatus(
            running=self._supervisor.running,
            workers=workers,
            generation=generation.number if generation else 0,
            manifest_digest=generation.digest if generation else "",
            loaded_at_us=generation.loaded_at_us if generation else 0,
            code_newer=self._supervisor.code_newer(),
            draining=self._draining,
            isolation_mechanism=self._supervisor.mechanism,
            load=self._newest_load(),
            loading=self._loading,
        )

    def manifest(self) -> Manifest | None:
        """Return the manifest of the serving generation."""
        generation, tree = self._supervisor.generation, self._supervisor.manifest
        if generation is None or tree is None:
            return None
        if self._manifest is None or self._manifest.digest != generation.digest:
            self._manifest = Manifest(digest=generation.digest, body=manifest_bytes(tree))
        return self._manifest

    async def reload(self, *, force: bool) -> ReloadOutcome:
        """Load the project's code again beside the serving one. An unreadable project is refused like bad code."""
        try:
            outcome = _outcome(await self._supervisor.load(force=force))
        except Refused as error:  # nothing was loaded: the host is stopping
            status = self.status()
            outcome = ReloadOutcome(
                accepted=False, generation=status.generation, digest=status.manifest_digest, message=str(error)
            )
        self._loading = False
        self._log_load(outcome)
        self._on_load(outcome)
        return outcome

    async def settled(self, seconds: float) -> bool:
        """Wait until no load is under way or due for changes on disk; return False if that takes longer."""
        return await self._supervisor.settled(seconds)

    async def check(self, steps: Sequence[CheckedStep], seconds: float) -> CheckOutcome:
        """Return the given values that the serving code would refuse, without calling it."""
        return await self._supervisor.check(steps, seconds)

    def _log_load(self, outcome: ReloadOutcome) -> None:
        if outcome.accepted:
            _log.info("generation %d serves", outcome.generation)
            return
        serves = "the last good code stays in use" if outcome.generation else "there is no code to run"
        for problem in map(Problem.from_json, outcome.problems):
            at = f"{problem.place}: " if problem.place else ""
            fix = f" ({problem.fix})" if problem.fix else ""
            _log.warning("the load was refused; %s: %s%s%s", serves, at, problem.message, fix)
        if not outcome.problems:
            _log.warning("the load was refused; %s: %s", serves, outcome.message)

    def _newest_load(self) -> ReloadOutcome | None:
        newest = self._supervisor.newest_load
        if newest is not self._known_load:
            self._known_load, self._load = newest, None if newest is None else _outcome(newest)
        return self._load

    async def drain(self, deadline_s: float) -> None:
        """Accept nothing new and return when nothing runs any more."""
        self._draining = True
        await self._supervisor.drain(deadline_s or self._drain_seconds)


def _outcome(outcome: LoadOutcome) -> ReloadOutcome:
    return ReloadOutcome(
        accepted=outcome.accepted,
        generation=outcome.generation,
        digest=outcome.digest,
        message=_message(outcome),
        problems=tuple(map(dict, outcome.problems)),
        at_us=outcome.at_us,
        jobs=outcome.jobs,
        callables=len((outcome.manifest or {}).get("callables") or ()),
        removed=outcome.removed,
        stopped=outcome.stopped,
        added=outcome.added,
    )


def _message(outcome: LoadOutcome) -> str:
    said = "; ".join(outcome.reasons)
    if outcome.output_tail and not outcome.accepted:
        said = f"{said}\nlast output:\n{outcome.output_tail}"
    if said:
        return said
    broken = sum(1 for each in outcome.problems if each.get("severity") == "error")
    return f"generation {outcome.generation} serves" + (f", with {broken} problems" if broken else "")
