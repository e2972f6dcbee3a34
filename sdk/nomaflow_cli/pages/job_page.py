"""The page of ``nomaflow job``: one job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import JobView, RunView
from nomaflow_cli.pages.cells import grid, pause_text, problem_lines
from nomaflow_cli.pages.tables import runs_table
from nomaflow_cli.wording import age, moment, printable

__all__ = ["job_page"]


def job_page(job: JobView, recent: Sequence[RunView]) -> RenderableType:
    """Return everything about a job: its definition, its problems, its next fires and its last runs."""
    parts: list[RenderableType] = [Text.assemble((printable(job.job_id), "bold"), f"  {printable(job.description)}")]
    parts.append(Padding(_facts(job), (1, 0, 1, 2)))
    parts.extend(problem_lines(problem) for problem in job.problems)
    if recent:
        parts.append(runs_table(recent))
    else:
        parts.append(Text(f"no runs yet; start one with: nomaflow run {printable(job.job_id)} --follow", style="dim"))
    return Group(*parts)


def _facts(job: JobView) -> Table:
    shape = grid()
    for name, value in _rows(job):
        shape.add_row(name, printable(value))
    for name, value in _step_rows(job):
        shape.add_row(name, Text(printable(value)))
    return shape


def _rows(job: JobView) -> Iterator[tuple[str, str]]:
    yield "host", job.host or "none"
    yield "schedule", f"{job.schedule} {job.timezone}".strip() if job.schedule else "none"
    fires = [
        f"{moment(fire.at)} ({age(fire.at)})" + (f" {fire.preset}" if fire.preset else "") for fire in job.next_fires
    ]
    if fires:
        yield "next", ", ".join(fires[:3])
    if job.tags:
        yield "tags", ", ".join(job.tags)
    if job.preset_names:
        yield "presets", ", ".join(job.preset_names)
    yield "enabled", "yes" if job.enabled else "no (enabled = false)"
    if job.removed:
        yield "removed", "its host's files no longer contain it"
    if job.kept:
        yield "definition", "the last good one; correct the problems below and reload"
    if job.held:
        yield "cannot run", f"{job.held}; its fires become MISSED"
    if job.pause is not None:
        yield "pause", pause_text(job.pause)
    if job.why_not_running:
        yield "not running", job.why_not_running


def _step_rows(job: JobView) -> Iterator[tuple[str, str]]:
    steps = (job.definition or {}).get("steps")
    if not isinstance(steps, list):
        yield "steps", ", ".join(job.step_names)
        return
    for number, step in enumerate(steps):
        if isinstance(step, dict):
            kwargs = f"  {json.dumps(step['op_kwargs'], ensure_ascii=False)}" if step.get("op_kwargs") else ""
            target = step.get("callable") or step.get("target_job_id") or ""
            yield "" if number else "steps", f"{step.get('name', '')}  {target}{kwargs}"
