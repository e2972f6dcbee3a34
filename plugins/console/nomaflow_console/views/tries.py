"""The tries of a run that its page lists: of a step with very many the first and the last ones, and how many others."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from nomaflow.client.values import AttemptView, RunView, StepView

_FIRST_TRIES, _LAST_TRIES = 3, 20
"""Of a step with more tries than both together, those between are one row."""


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
        always = {attempt.attempt for attempt in attempts if everything or (step.name, attempt.attempt) == named}
        for attempt, left_out in few_tries(attempts, always=always):
            yield TryRow(step=step, attempt=None if left_out else attempt, left_out=left_out)


def few_tries(attempts: Sequence[AttemptView], *, always: Container[int] = ()) -> Iterator[tuple[AttemptView, int]]:
    """Yield tries; of very many the first and the last ones, and in place of others the last, with their number.

    :param always: numbers of tries that are not left out
    """
    very_many = len(attempts) > _FIRST_TRIES + _LAST_TRIES + 1
    left_out: list[AttemptView] = []
    for place, attempt in enumerate(attempts):
        between = _FIRST_TRIES <= place < len(attempts) - _LAST_TRIES
        if very_many and between and attempt.attempt not in always:
            left_out.append(attempt)
            continue
        if left_out:
            yield left_out[-1], len(left_out)
            left_out = []
        yield attempt, 0
