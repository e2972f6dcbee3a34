"""The tries of a run that its page lists: of a step with very many the first and the last ones, and how many others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_console.views.timeline import FIRST_TRIES, LAST_TRIES

__all__ = ["TryRow", "tries"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TryRow:
    """One try of a step, or the number of tries that are left out in its place.

    :param attempt: None in place of those that are left out
    """

    step: StepView
    attempt: AttemptView | None = None
    left_out: int = 0


def tries(run: RunView, *, everything: bool = False, named: tuple[str, int] = ("", 0)) -> Iterator[TryRow]:
    """Yield the tries of a run.

    :param everything: True for all of them, however many they are
    :param named: the step and the number of a try that is never left out
    """
    for step in run.steps:
        attempts = [attempt for attempt in step.attempts if attempt.state != "SKIPPED"]
        yield from _of_step(step, attempts, everything=everything, named=named)


def _of_step(
    step: StepView, attempts: Sequence[AttemptView], *, everything: bool, named: tuple[str, int]
) -> Iterator[TryRow]:
    few = everything or len(attempts) <= FIRST_TRIES + LAST_TRIES + 1
    left_out = 0
    for place, attempt in enumerate(attempts):
        at_an_end = place < FIRST_TRIES or place >= len(attempts) - LAST_TRIES
        if not (few or at_an_end or (step.name, attempt.attempt) == named):
            left_out += 1
            continue
        if left_out:
            yield TryRow(step=step, left_out=left_out)
        left_out = 0
        yield TryRow(step=step, attempt=attempt)
