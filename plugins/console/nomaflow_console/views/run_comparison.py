"""Two runs side by side: what differs between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from nomaflow.client.values import RunView, StepView
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.sentences import amount, reason_sentence, who
from nomaflow_console.views.states import attempt_sign, run_sign

_MOST_ROWS = 200
_LONGEST = 1_000
_as_json = json.JSONEncoder(ensure_ascii=False).encode
"""A quarter of the time of :func:`json.dumps`, which makes an encoder for each value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """One fact of both.

    :param group: the heading that it stands under
    """

    group: str
    name: str
    one: str
    other: str

    @property
    def differs(self) -> bool:
        """True if the two are not the same."""
        return self.one != self.other

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


def grouped(rows: Sequence[ComparedRow]) -> list[ComparedGroup]:
    """Return facts by their heading."""
    return [_group(name, list(each)) for name, each in groupby(rows, key=attrgetter("group"))]


def _group(name: str, rows: Sequence[ComparedRow]) -> ComparedGroup:
    kept = set(sorted(range(len(rows)), key=lambda place: (not rows[place].differs, place))[:_MOST_ROWS])
    left = [row.differs for place, row in enumerate(rows) if place not in kept]
    shown = [row for place, row in enumerate(rows) if place in kept]
    return ComparedGroup(name=name, rows=shown, left=len(left), left_differ=sum(left))


def _same(one: str, other: str) -> int:
    """Return the number of characters with which both texts begin."""
    places = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(places, min(len(one), len(other)))


def _part(text: str, start: int) -> str:
    end = start + _LONGEST
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"


def compare(one: RunView, other: RunView) -> list[ComparedRow]:
    """Return the facts of two runs; values that both lack are left out."""
    return [
        *(
            ComparedRow(group="Run", name=name, one=first, other=_facts(other)[name])
            for name, first in _facts(one).items()
        ),
        *_values("Params", one.params, other.params),
        *_steps(one, other),
    ]


def _facts(run: RunView) -> dict[str, str]:
    return {
        "job": run.job_id,
        "state": run_sign(run).word,
        "why": reason_sentence(run).text if run.state != "SUCCEEDED" else "",
        "trigger": f"{run.trigger.kind} {who(run.trigger.by)}".strip(),
        "preset": run.preset or "none",
        "host": run.host,
        "waited": took(between(run.queued_at, run.started_at) if run.started_at else None),
        "took": took(between(run.started_at, run.finished_at) if run.finished_at else None),
        "rows touched": amount(run.rows_affected),
        "log lines": amount(run.log_lines),
        "definition": run.definition_digest.removeprefix("sha256:")[:12],
    }


def _values(group: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[ComparedRow]:
    for key in dict.fromkeys((*one, *other)):
        yield ComparedRow(group=group, name=key, one=_text(one, key), other=_text(other, key))


def _text(values: Mapping[str, Any], key: str) -> str:
    return _as_json(values[key]) if key in values else "not given"


def _steps(one: RunView, other: RunView) -> Iterator[ComparedRow]:
    firsts, others = ({step.name: step for step in run.steps} for run in (one, other))
    for name in dict.fromkeys((*firsts, *others)):
        left, right = _step(firsts.get(name)), _step(others.get(name))
        for fact in left:
            yield ComparedRow(group=f"Step {name}", name=fact, one=left[fact], other=right[fact])
        kwargs = [
            getattr(step.last, "kwargs", {}) or {} if step else {} for step in (firsts.get(name), others.get(name))
        ]
        yield from _values(f"Step {name}", *kwargs)
        extras = [step.last.extras if step else {} for step in (firsts.get(name), others.get(name))]
        yield from _values(f"Step {name}, result", *extras)


def _step(step: StepView | None) -> dict[str, str]:
    last = step.last if step is not None and step.attempts else None
    return {
        "state": attempt_sign(last).word if last is not None else "not reached",
        "tries": str(len(step.attempts)) if step is not None else "0",
        "took": took(between(last.started_at, last.finished_at) if last is not None and last.finished_at else None),
        "rows touched": amount(last.rows_affected if last is not None else None),
        "generation": str(last.generation or "") if last is not None else "",
    }
