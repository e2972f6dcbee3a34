"""An engine as a launcher needs it: it lists the instances that it has, starts one, ends one, and witnesses ends.

The engine keeps with each instance what the launcher must find again: the kernel's history, the host, the
shape and the attempt, if it was started for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from nomaflow_launchers.planning import Launched, Order

JOB_LABEL = "launcher.job"
"""The label of an instance that holds the engine's id of it."""


class EngineError(Exception):
    """Raised when the engine refuses, or does not answer; the text says which act failed, and how.

    :param retry_after: seconds for which the engine asks to be left alone
    """

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Engine(Protocol):
    """The instances of one launcher on an engine."""

    async def listed(self, store_id: str) -> Sequence[Launched]:
        """Return the instances of that history that wait for a machine or run.

        :raises EngineError: if the engine does not give the whole list
        """
        ...

    async def start(self, order: Order) -> str:
        """Start an instance, which the engine never starts twice, and return the engine's id of it.

        :raises EngineError: if the engine refuses, or its answer is not known; the next list tells
        """
        ...

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        """End an instance. One that has ended is no error.

        :param only_waiting: leave it alone if it has got a machine meanwhile
        :raises EngineError: if the engine refuses
        """
        ...

    async def witness(self, engine_id: str, labels: Mapping[str, str]) -> str:
        """Return how it is known that nothing of an instance runs any more, in words; empty if it is not known.

        :param labels: those that the instance has told the kernel
        :raises EngineError: if the engine does not answer
        """
        ...

    def log_of(self, engine_id: str) -> str:
        """Return where the output of an instance is, in words or as a path."""
        ...

    async def aclose(self) -> None:
        """Let go of the engine. Instances go on."""
        ...
