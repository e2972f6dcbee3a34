"""The values in the supervisor's interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow_api.v1.letter_words import FinishedState
    from nomaflow_project.reading.problems import Problem


class Refused(Exception):
    """Raised when an order is refused.

    :ivar reason_code: ``host_draining``, ``host_full``, ``host_has_no_code`` or ``host_has_no_reaper``
    :ivar reason: one sentence
    """

    def __init__(self, reason_code: str, reason: str) -> None:
        """Take the reason code and a sentence about it."""
        super().__init__(reason)
        self.reason_code = reason_code
        self.reason = reason


class LoadOutcome(Struct, frozen=True, kw_only=True):
    """The outcome of a load.

    :param generation: the serving one, 0 for none
    :param digest: its manifest's digest, ``sha256:…``; empty for none
    :param at_us: time, microseconds since the epoch
    :param reasons: sentences: why it was refused, or what was overridden
    :param problems: the reasons of a refusal, or problems of the new manifest
    :param jobs: number of jobs in the files of the serving generation
    :param removed: ids of jobs that their files no longer hold
    :param stopped: schedules of other jobs that no longer fire, by name
    :param added: ids of jobs that are new
    :param manifest: the one that serves now
    :param output_tail: the last 4 KiB that the imports have printed
    """

    accepted: bool
    generation: int
    digest: str
    reasons: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    manifest: Mapping[str, Any] | None = None
    output_tail: str = ""
    at_us: int = 0
    jobs: int = 0
    removed: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def callables(self) -> int:
        """The number of callables that the serving generation offers."""
        return len((self.manifest or {}).get("callables") or ())

    @property
    def message(self) -> str:
        """The reasons of a refusal with the last output, or what serves now."""
        said = "; ".join(self.reasons)
        if self.output_tail and not self.accepted:
            said = f"{said}\nlast output:\n{self.output_tail}"
        if said:
            return said
        broken = sum(each.is_error for each in self.problems)
        return f"generation {self.generation} serves" + (f", with {broken} problems" if broken else "")


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One worker.

    :param attempt_keys: attempts that it runs, at most 100
    :param rss_bytes: its resident size, in steps of 4 MiB; 0 if it was not measured
    :param started_at_us: microseconds since the epoch
    """

    pid: int
    exclusive: bool
    generation: int
    running: int
    attempt_keys: tuple[str, ...] = ()
    rss_bytes: int = 0
    started_at_us: int = 0


class StopRequest(Struct, frozen=True, kw_only=True):
    """The reason for a stop, and the state that it leads to."""

    state: FinishedState
    reason_code: str
    reason: str
