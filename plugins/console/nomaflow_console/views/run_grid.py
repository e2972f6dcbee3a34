"""The last runs of a job as a grid: a column for each run, a row for each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from nomaflow.client.values import RunView
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.sentences import line
from nomaflow_console.views.states import StateSign, attempt_sign, run_sign

_NOT_REACHED = StateSign(sign="·", word="not reached", css="off")


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCell:
    """One step of one run.

    :param tries: the number of attempts; 0 if the run has not reached the step
    """

    look: StateSign
    href: str
    title: str
    tries: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class GridColumn:
    """One run.

    :param share: its time, of the longest one's
    """

    run: RunView
    look: StateSign
    href: str
    title: str
    share: float
    cells: Sequence[GridCell]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGrid:
    """The grid; the oldest run is at the left."""

    steps: Sequence[str]
    columns: Sequence[GridColumn]


def run_grid(runs: Sequence[RunView], step_names: Sequence[str], now: datetime) -> RunGrid:
    """Return the grid of runs.

    :param runs: with their steps, newest first
    :param step_names: those of the job now; steps that it had before follow them
    """
    shown = [run for run in runs if run.steps and run.state != "MISSED"]
    steps = list(dict.fromkeys((*step_names, *(step.name for run in shown for step in run.steps))))
    spans = [max(between(run.started_at, run.finished_at, now=now) or 0.0, 0.0) for run in shown]
    longest = max(spans, default=0.0)
    columns = [
        _column(run, steps, span / longest if longest else 0.0, span) for run, span in zip(shown, spans, strict=True)
    ]
    return RunGrid(steps=steps, columns=columns[::-1])


def _column(run: RunView, steps: Sequence[str], share: float, seconds: float) -> GridColumn:
    known = {step.name: step for step in run.steps}
    look = run_sign(run)
    cells = []
    for name in steps:
        step = known.get(name)
        tries = len(step.attempts) if step is not None else 0
        seen = attempt_sign(step.last) if step is not None and tries else _NOT_REACHED
        parts = [f"{name}: {seen.word}"]
        if step is not None and step.last.started_at is not None and step.last.finished_at is not None:
            parts.append(took(between(step.last.started_at, step.last.finished_at)))
        if tries > 1:
            parts.append(f"try {tries}")
        if step is not None and step.last.error:
            parts.append(line(step.last.error))
        href = f"/runs/{run.run_id}?step={quote(name, safe='')}" if step is not None else f"/runs/{run.run_id}"
        cells.append(GridCell(look=seen, href=href, title=" · ".join(parts), tries=tries))
    title = f"{look.word} · {took(seconds)}" if run.started_at is not None else look.word
    return GridColumn(run=run, look=look, href=f"/runs/{run.run_id}", title=title, share=share, cells=tuple(cells))
