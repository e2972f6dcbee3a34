"""Two runs side by side: what differs between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nomaflow.client.values import RunView, StepView
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.sentences import amount, reason_sentence, who
from nomaflow_console.views.states import attempt_sign, run_sign


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
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not given"


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
