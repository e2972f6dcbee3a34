"""The status line for the service manager: this host's code and its session."""

from __future__ import annotations

from nomaflow_api.time_spans import time_span
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_telemetry.service_manager import ServiceManager

_LADDER_SECONDS = 60.0


class ServiceState:
    """Combines the knowledge of several parts of the host.

    A host is ready once it dials and its code was loaded or refused: an unreachable kernel is not a failure of the
    host.

    :param manager: receives the status
    """

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._code = "loading code"
        self._session = ""

    def loaded(self, outcome: LoadOutcome) -> None:
        """Record the outcome of a load, whatever its cause."""
        if outcome.accepted:
            self._code = f"generation {outcome.generation}"
        else:
            serving = f"generation {outcome.generation}" if outcome.generation else "no code"
            self._code = f"{serving}, a load was refused: {outcome.message}"
        self._manager.state(self._words())

    def session(self, words: str) -> None:
        """Record that a session began or was lost."""
        self._session = words
        self._manager.state(self._words())

    def ready(self) -> None:
        """Report that the start, or a reload, is over."""
        self._session = self._session or "dialing the kernel"
        self._manager.ready(self._words())

    def reloading(self) -> None:
        """Report that a reload begins."""
        self._manager.reloading()

    def stopping(self, *, drain_s: float, running: int) -> str:
        """Report that the host drains, and how long that may take, even if that is longer than the unit's own limit.

        :return: the same in words
        """
        steps = "1 step" if running == 1 else f"{running} steps"
        words = f"stopping: {steps} may finish within {time_span(drain_s)}" if running else "stopping"
        self._manager.stopping(words, within_seconds=drain_s + _LADDER_SECONDS)
        return words

    def _words(self) -> str:
        return f"{self._session}; {self._code}" if self._session else self._code
