"""The keys of ``[jobs.retry]``: which failures of a step are retried, how often, and after what delay."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from nomaflow_project.jobs.text_forms import ExceptionNames
from nomaflow_project.reading.keys import Entry, key, seconds


class Backoff(enum.StrEnum):
    """The growth of the delay between attempts."""

    FIXED = "fixed"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy(Entry):
    """Retries of failed steps. A step's own table overrides the job's key by key."""

    attempts: int = key(1, "All tries of a step, the first one included.", ge=1, le=1000)
    backoff: Backoff = key(Backoff.FIXED, "How the delay grows: the same each time, or doubled after each failure.")
    base_seconds: float = seconds(60.0, "Delay after the first failure.", zero=True)
    max_seconds: float = seconds(3600.0, "The longest delay.", zero=True)
    jitter: float = key(0.1, "Each delay is lengthened at random by up to this fraction of it.", ge=0, le=1)
    retry_on: ExceptionNames = key(
        tuple,
        "Exceptions to retry on, by class name, bare or qualified, base classes and members of an exception group "
        "included. Empty: any failure, timeouts and dead workers too, which no name covers.",
    )
    no_retry_on: ExceptionNames = key(tuple, "Exceptions never retried; wins over `retry_on`.")

    def delay_seconds(self, failed_attempts: int, random: float) -> float:
        """Return the seconds to wait after a number of failed attempts (1 or more).

        :param random: a number from 0 to 1 that sets the jitter
        """
        delay = self.base_seconds
        if self.backoff is Backoff.EXPONENTIAL:
            delay *= 2.0 ** min(failed_attempts - 1, 60)
        # Capped below the maximum, so that runs that failed together stay spread out at the cap too.
        delay = min(delay, self.max_seconds / (1 + self.jitter)) * (1 + self.jitter * random)
        return min(delay, self.max_seconds)  # the division may have rounded up

    def retries(self, exception_types: Sequence[str]) -> bool:
        """Return whether a failure with these exception types is retried.

        :param exception_types: qualified names of the exception's classes, most derived first; empty for a failure
            without an exception, such as a dead worker, which only an empty ``retry_on`` covers
        """
        names = {*exception_types, *(name.rpartition(".")[2] for name in exception_types)}
        if names.intersection(self.no_retry_on):
            return False
        return not self.retry_on or bool(names.intersection(self.retry_on))
