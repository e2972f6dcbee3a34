"""The tries of a run that its page lists: of a step with very many the first and the last ones, and how many others."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from msgspec.structs import replace

from nomaflow.client.values import AttemptView, RunView, StepView
from nomaflow_console.views.json_tree import JsonTrees, in_one_line

_NOTHING = Markup("")
_FIRST_TRIES, _LAST_TRIES = 3, 20
"""Of a step with more tries than both together, those between are one row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TryRow:
    """One try of a step, or the number of tries that are left out in its place.

    :param step: without its tries
    :param attempt: without its extras and values; None in place of those that are left out
    :param extras: the tree of its extras, as is *values* of its values; empty for none
    :param extras_line: the beginning of its extras in one line
    """

    step: StepView
    attempt: AttemptView | None = None
    left_out: int = 0
    extras: Markup = _NOTHING
    extras_line: str = ""
    values: Markup = _NOTHING


def tries(
    run: RunView, trees: JsonTrees, *, everything: bool = False, named: tuple[str, int] = ("", 0)
) -> Iterator[TryRow]:
    """Yield the tries of a run.

    :param trees: the trees of the page
    :param everything: True for all of them, however many they are
    :param named: the step and the number of a try that is never left out
    """
    for step in run.steps:
        attempts = [attempt for attempt in step.attempts if attempt.state != "SKIPPED"]
        always = {attempt.attempt for attempt in attempts if everything or (step.name, attempt.attempt) == named}
        alone = replace(step, attempts=())
        for attempt, left_out in few_tries(attempts, always=always):
            yield TryRow(step=alone, left_out=left_out) if left_out else _row(alone, attempt, trees)


def _row(step: StepView, attempt: AttemptView, trees: JsonTrees) -> TryRow:
    return TryRow(
        step=step,
        attempt=_short(attempt),
        extras=trees.tree(attempt.extras) if attempt.extras else _NOTHING,
        extras_line=in_one_line(attempt.extras) if attempt.extras else "",
        values=trees.tree(attempt.kwargs) if attempt.kwargs else _NOTHING,
    )


def without_values(run: RunView) -> RunView:
    """Return a run without what it and its tries were given, and what these have returned: that may be megabytes."""
    steps = [replace(step, attempts=tuple(map(_short, step.attempts))) for step in run.steps]
    return replace(run, steps=tuple(steps), params={}, definition={}, request=None)


def _short(attempt: AttemptView) -> AttemptView:
    return replace(attempt, extras={}, kwargs={})


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
