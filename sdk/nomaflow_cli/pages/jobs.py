"""Pages about jobs: the list, one job, and the schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec.structs import replace
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from nomaflow.client.values import (
    CatalogueView,
    FirePageView,
    FrequentScheduleView,
    JobStatsView,
    JobView,
    ListedFireView,
    RefusedLoadView,
    RunView,
)
from nomaflow_api.time_spans import time_span
from nomaflow_cli.formatting import age, amount, clock_time, count, moment
from nomaflow_cli.pages.cells import Column, Rows, facts, pause_text, problem_lines, refused_text, run_state
from nomaflow_cli.pages.runs import runs_table
from nomaflow_cli.wrapping import Hanging
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow_project.check.planning import FrequentSchedule, PlannedFire, ScheduleTable
    from nomaflow_project.reading.problems import Problem


def jobs_page(catalogue: CatalogueView, refused: Mapping[str, RefusedLoadView]) -> RenderableType:
    """Return the jobs as a table, with their problems below it.

    :param refused: by host, the newest refused load: the jobs shown are those of the load before
    """
    columns: list[Column[JobView]] = [
        Column("job", lambda job: Text(printable(job.job_id), "" if job.valid and job.enabled else "dim"), folds=True),
        Column("host", _host, from_width=90),
        Column("schedule", _schedule, from_width=70),
        Column("next", lambda job: Text(_next(job), no_wrap=True)),
        Column("last run", _last_run, from_width=56),
        Column("now", _now, loose=True),
    ]
    found = [problem for job in catalogue.jobs for problem in job.problems] + list(catalogue.problems)
    problems = dict.fromkeys(found)  # a file's problem is listed with each of its jobs
    stale = [_stale_jobs(host, load) for host, load in refused.items()]
    below = [each for problem in problems for each in (Hanging(problem_lines(problem)), Text(""))]
    return Group(*stale, Rows(columns, catalogue.jobs), *below)


def _stale_jobs(host: str, refused: RefusedLoadView) -> RenderableType:
    text = Text(f"✘ {printable(host)}: {refused_text(refused)}", style="red")
    return Padding(text.append("\n  its last good jobs and code stay in use", style="dim"), (0, 0, 1, 0))


def _host(job: JobView) -> Text:
    of = f" (of {printable(job.owner)})" if job.owner not in ("", job.host) else ""
    return Text.assemble(printable(job.host), (of, "dim"))


def _schedule(job: JobView) -> Text:
    if not job.schedule:
        return Text("–", style="dim")
    zone = "" if job.timezone in ("", "UTC") else f" {printable(job.timezone)}"
    return Text.assemble(printable(job.schedule), (zone, "dim"))


def _next(job: JobView) -> str:
    if not job.next_fires:
        return "–"
    fire = job.next_fires[0]
    return age(fire.at) + (f" ({printable(fire.preset)})" if fire.preset else "")


def _last_run(job: JobView) -> Text:
    run = job.last_run
    if run is None:
        return Text("–", style="dim")
    return run_state(run) + Text(f"  {age(run.finished_at or run.started_at or run.queued_at)}", style="dim")


def _now(job: JobView) -> Text:
    if job.removed:
        return Text("removed from its host's files", style="dim")
    if not job.valid:
        return Text("✘ disabled by a problem, see below", style="red")
    if job.held:
        return Text("✘ cannot run, see below", style="red")
    if job.kept:
        rest = _now(replace(job, kept=False))
        return Text.assemble(("✘ last good definition, see below", "red"), "; " if rest.plain else "", rest)
    if job.pause is not None:
        return Text(pause_text(job.pause), style="yellow")
    return Text("disabled" if not job.enabled else printable(job.why_not_running), style="dim")


def job_page(job: JobView, recent: Sequence[RunView], stats: JobStatsView | None = None) -> RenderableType:
    """Return everything about a job: its definition, its problems, its next fires and its last runs.

    :param stats: what is usual for its runs
    """
    title = Text.assemble((printable(job.job_id), "bold"), f"  {printable(job.description)}")
    parts: list[RenderableType] = [title, Padding(_facts(job, stats), (1, 0, 1, 2))]
    parts.extend(Hanging(problem_lines(problem)) for problem in job.problems)
    if recent:
        parts.append(runs_table(recent))
    else:
        start = f"nomaflow run {printable(job.job_id)} --follow"
        parts.append(Hanging(Text(f"no runs yet; start one with: {start}", style="dim")))
    return Group(*parts)


def _facts(job: JobView, stats: JobStatsView | None) -> RenderableType:
    return facts(
        ("host", job.host or "none"),
        ("owner", f"host {job.owner}" if job.owner not in ("", job.host) else ""),
        ("schedule", f"{job.schedule} {job.timezone}".strip() if job.schedule else "none"),
        (
            "next",
            ", ".join(f"{moment(each.at)} ({age(each.at)}) {each.preset}".rstrip() for each in job.next_fires[:3]),
        ),
        ("tags", ", ".join(job.tags)),
        ("presets", ", ".join(job.preset_names)),
        ("enabled", "yes" if job.enabled else "no (enabled = false)"),
        ("removed", "its host's files no longer contain it" if job.removed else ""),
        ("definition", "the last good one; correct the problems below and reload" if job.kept else ""),
        ("cannot run", f"{job.held}; its fires become MISSED" if job.held else ""),
        ("pause", pause_text(job.pause) if job.pause is not None else ""),
        ("not running", job.why_not_running),
        ("usually", "" if stats is None else _usual(stats)),
        *_step_rows(job),
    )


def _usual(stats: JobStatsView) -> str:
    """Return what is usual for a job's newest runs: ``41.0 s, at most 52.0 s · 1,200 rows · 19 of 20 succeed``."""
    parts = []
    if stats.median_seconds is not None and stats.p95_seconds is not None:
        parts.append(f"{time_span(stats.median_seconds)}, 95 of 100 at most {time_span(stats.p95_seconds)}")
    if stats.median_rows is not None:
        parts.append(count(stats.median_rows, "row"))
    if stats.success_ratio is not None:
        parts.append(f"{stats.success_ratio:.0%} succeed")
    return " · ".join(parts)


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


def schedule_page(found: ScheduleTable, broken: Sequence[str], unread: Sequence[Problem]) -> RenderableType:
    """Return the fires day by day, with a mark on simultaneous ones, then the schedules too frequent to list.

    :param broken: the jobs whose definitions have errors, so that their fires are not known
    :param unread: the errors of whole files, whose jobs are not known
    """
    parts: list[RenderableType] = []
    if found.fires:
        days = groupby(found.fires, key=lambda fire: fire.at.astimezone().strftime("%a %d %b"))
        rows = [("" if number else day, fire) for day, fires in days for number, fire in enumerate(fires)]
        columns: list[Column[tuple[str, PlannedFire]]] = [
            Column("day", lambda row: row[0]),
            Column("local time", lambda row: row[1].at.astimezone().strftime("%H:%M:%S")),
            Column("job", lambda row: _job_and_preset(row[1]), folds=True),
            Column("at once with", lambda row: Text(_at_once(row[1]), style="yellow"), loose=True),
        ]
        parts.append(Rows(columns, rows))
    if found.frequent:
        often: list[Column[FrequentSchedule]] = [
            Column("often", _job_and_preset, folds=True),
            Column("schedule", lambda each: Text(printable(f"{each.schedule} {each.timezone}"))),
            Column("first", lambda each: age(each.first)),
        ]
        parts.append(Rows(often, found.frequent))
        if found.fires:
            parts.append(Text("jobs that fire more than 48 times a day are not counted in 'at once with'", style="dim"))
    if not (parts or unread):
        parts.append(Text("nothing is scheduled"))
    parts += [Text(f"✘ {printable(f'{each.place}: {each.message}')}: nomaflow check", style="red") for each in unread]
    parts += [Text(f"✘ {printable(job_id)} has errors: nomaflow check", style="red") for job_id in broken]
    return Group(*parts)


def fires_page(found: FirePageView) -> RenderableType:
    """Return the fires that a kernel has told, day by day, then the schedules too frequent to list."""
    parts: list[RenderableType] = []
    if found.fires:
        days = groupby(found.fires, key=lambda fire: fire.at.astimezone().strftime("%a %d %b") if fire.at else "")
        rows = [("" if number else day, fire) for day, fires in days for number, fire in enumerate(fires)]
        columns: list[Column[tuple[str, ListedFireView]]] = [
            Column("day", lambda row: row[0]),
            Column("local time", lambda row: clock_time(row[1].at)),
            Column("job", lambda row: _job_and_preset(row[1]), folds=True),
            Column("usually", lambda row: _usually(row[1].expected_seconds), right=True, from_width=60),
            Column("notes", lambda row: Text(_notes(row[1]), style="yellow"), loose=True),
        ]
        parts.append(Rows(columns, rows))
    if found.frequent:
        often: list[Column[FrequentScheduleView]] = [
            Column("often", _job_and_preset, folds=True),
            Column("schedule", lambda each: Text(printable(f"{each.schedule} {each.timezone}"))),
            Column("fires", lambda each: amount(each.fires), right=True),
            Column("next", lambda each: age(each.next)),
            Column("usually", lambda each: _usually(each.expected_seconds), right=True, from_width=90),
            Column("notes", lambda each: Text(_notes(each), style="yellow"), loose=True),
        ]
        parts.append(Rows(often, found.frequent))
    return Group(*parts) if parts else "nothing is scheduled"


def _usually(seconds: float | None) -> str:
    return "" if seconds is None else time_span(seconds)


def _notes(each: ListedFireView | FrequentScheduleView) -> str:
    notes = ["paused"] if each.paused else []
    fire = each if isinstance(each, ListedFireView) else None
    if fire is not None and fire.daylight_saving == "gap":
        notes.append("the clock skips its time this night")
    elif fire is not None and fire.daylight_saving == "repeated":
        notes.append("the clock shows its time twice this night")
    if each.collides_with:
        notes.append(f"while {', '.join(each.collides_with)} {'runs' if len(each.collides_with) == 1 else 'run'}")
    if fire is not None and fire.at_once > 1:
        notes.append(f"{fire.at_once} at once")
    return printable(" · ".join(notes))


def _job_and_preset(each: PlannedFire | FrequentSchedule | ListedFireView | FrequentScheduleView) -> Text:
    return Text(printable(f"{each.job_id} ({each.preset})" if each.preset else each.job_id))


def _at_once(fire: PlannedFire) -> str:
    more = fire.at_once - 1 - len(fire.collides_with)
    return printable(", ".join(fire.collides_with)) + (f" and {more} more" if more > 0 else "")
