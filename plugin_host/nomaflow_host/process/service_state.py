"""What the service manager is told of this host: its code and its session, in one line of words."""

from __future__ import annotations

from nomaflow_host.session import ReloadOutcome
from nomaflow_telemetry.service_manager import ServiceManager

__all__ = ["ServiceState"]

_LADDER_SECONDS = 60.0


class ServiceState:
    """Puts together what several parts of the host know.

    A host is ready once its code was loaded, or refused, and it dials: a kernel that is away is no failure of the host.

    :param manager: is told
    """

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._code = "loading code"
        self._session = ""

    def loaded(self, outcome: ReloadOutcome) -> None:
        """Take note of what became of a load, whoever asked for it."""
        if outcome.accepted:
            self._code = f"generation {outcome.generation}"
        else:
            serving = f"generation {outcome.generation}" if outcome.generation else "no code"
            self._code = f"{serving}, a load was refused: {outcome.message}"
        self._manager.state(self._words())

    def session(self, words: str) -> None:
        """Take note of a session that began or was lost."""
        self._session = words
        self._manager.state(self._words())

    def ready(self) -> None:
        """Say that the start, or a reload, is over."""
        self._session = self._session or "dialing the kernel"
        self._manager.ready(self._words())

    def reloading(self) -> None:
        """Say that a reload begins."""
        self._manager.reloading()

    def stopping(self, *, drain_s: float, running: int) -> None:
        """Say that the host drains, and how long that may take: longer than a unit's own limit, where so configured."""
        words = f"stopping: {running} steps may finish within {drain_s:g} s" if running else "stopping"
        self._manager.stopping(words, within_seconds=drain_s + _LADDER_SECONDS)

    def _words(self) -> str:
        return f"{self._session}; {self._code}" if self._session else self._code
