"""Two runs side by side: what differs between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from nomaflow.client.values import RunView, StepView
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.run_words import trigger_words
from nomaflow_console.views.sentences import amount, reason_sentence
from nomaflow_console.views.states import attempt_sign, run_sign

_MOST_ROWS = 200
_LONGEST = 1_000
_as_json = json.JSONEncoder(ensure_ascii=False).encode
"""A quarter of the time of :func:`json.dumps`, which makes an encoder for each value."""
_SIMPLE = frozenset({str, int, bool, type(None)})
"""Types of which two equal values have the same text as JSON, and two others have not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """One fact of both.

    :param group: the heading that it stands under
    """

    group: str
    name: str
    one: str
    other: str
    differs: bool

    @property
    def shown(self) -> tuple[str, str]:
        """The two texts for a page: of long ones the part around the first difference."""
        both = self.one, self.other
        start = max(0, _same(*both) - _LONGEST // 2) if max(map(len, both)) > _LONGEST else 0
        one, other = (_part(text, start) for text in both)
        return one, other


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedGroup:
    """The facts under one heading of a page: all, or of very many the first, those that differ before others.

    :param rows: in the order of the facts
    :param left: number of facts that are left out
    :param left_differ: number of those that differ
    """

    name: str
    rows: Sequence[ComparedRow]
    left: int
    left_differ: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedValues:
    """Values of both by name, of which there may be millions: a row is made of those that are shown.

    :param group: the heading that they stand under
    :param text: returns the text of one of the values
    """

    group: str
    one: Mapping[str, Any]
    other: Mapping[str, Any]
    text: Callable[[Mapping[str, Any], str], str]

    def __iter__(self) -> Iterator[tuple[str, bool]]:
        """Yield each name, and whether the two are not the same."""
        one, other = self.one, self.other
        for name in dict.fromkeys((*one, *other)):
            if name not in one or name not in other:
                yield name, True
            elif (kind := one[name].__class__) is other[name].__class__ and kind in _SIMPLE:
                yield name, one[name] != other[name]
            else:
                yield name, self.text(one, name) != self.text(other, name)

    def row(self, name: str, *, differs: bool) -> ComparedRow:
        """Return the row of a name."""
        one, other = self.text(self.one, name), self.text(self.other, name)
        return ComparedRow(group=self.group, name=name, one=one, other=other, differs=differs)


def grouped(values: Iterable[ComparedValues]) -> list[ComparedGroup]:
    """Return facts by their heading, without headings that have none."""
    groups = (_group(name, each) for name, each in groupby(values, key=attrgetter("group")))
    return [each for each in groups if each.rows]


def _group(group: str, values: Iterable[ComparedValues]) -> ComparedGroup:
    found: Mapping[bool, list[tuple[int, ComparedValues, str]]] = {True: [], False: []}
    number = {True: 0, False: 0}
    for each in values:
        for name, differs in each:
            if number[differs] < _MOST_ROWS:
                found[differs].append((sum(number.values()), each, name))
            number[differs] += 1
    differing = found[True]
    same = found[False][: _MOST_ROWS - len(differing)]
    kept = [*((place, each.row(name, differs=True)) for place, each, name in differing)]
    kept += ((place, each.row(name, differs=False)) for place, each, name in same)
    return ComparedGroup(
        name=group,
        rows=[row for _, row in sorted(kept, key=itemgetter(0))],
        left=sum(number.values()) - len(kept),
        left_differ=number[True] - len(differing),
    )


def differences(values: Iterable[ComparedValues]) -> Iterator[ComparedRow]:
    """Yield the rows in which the two differ."""
    return (each.row(name, differs=True) for each in values for name, differs in each if differs)


def _same(one: str, other: str) -> int:
    """Return the number of characters with which both texts begin."""
    places = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(places, min(len(one), len(other)))


def _part(text: str, start: int) -> str:
    end = start + _LONGEST
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"


def compare(one: RunView, other: RunView) -> list[ComparedValues]:
    """Return the facts of two runs; values that both lack are left out."""
    return [
        ComparedValues(group="Run", one=_facts(one), other=_facts(other), text=_fact),
        ComparedValues(group="Params", one=one.params, other=other.params, text=_text),
        *_steps(one, other),
    ]


def _fact(facts: Mapping[str, Any], name: str) -> str:
    return str(facts[name])


def _facts(run: RunView) -> dict[str, str]:
    return {
        "job": run.job_id,
        "state": run_sign(run).word,
        "why": reason_sentence(run).text if run.state != "SUCCEEDED" else "",
        "trigger": trigger_words(run),
        "preset": run.preset or "none",
        "host": run.host,
        "waited": took(between(run.queued_at, run.started_at) if run.started_at else None),
        "took": took(between(run.started_at, run.finished_at) if run.finished_at else None),
        "rows touched": amount(run.rows_affected),
        "log lines": amount(run.log_lines),
        "definition": run.definition_digest.removeprefix("sha256:")[:12],
    }


def _text(values: Mapping[str, Any], key: str) -> str:
    return _as_json(values[key]) if key in values else "not given"


def _steps(one: RunView, other: RunView) -> Iterator[ComparedValues]:
    firsts, others = ({step.name: step for step in run.steps} for run in (one, other))
    for name in dict.fromkeys((*firsts, *others)):
        both = firsts.get(name), others.get(name)
        for group, (left, right), text in (
            (f"Step {name}", map(_step, both), _fact),
            (f"Step {name}", (step.last.kwargs if step else {} for step in both), _text),
            (f"Step {name}, result", (step.last.extras if step else {} for step in both), _text),
        ):
            yield ComparedValues(group=group, one=left, other=right, text=text)


def _step(step: StepView | None) -> dict[str, str]:
    last = step.last if step is not None and step.attempts else None
    return {
        "state": attempt_sign(last).word if last is not None else "not reached",
        "tries": str(len(step.attempts)) if step is not None else "0",
        "took": took(between(last.started_at, last.finished_at) if last is not None and last.finished_at else None),
        "rows touched": amount(last.rows_affected if last is not None else None),
        "generation": str(last.generation or "") if last is not None else "",
    }
