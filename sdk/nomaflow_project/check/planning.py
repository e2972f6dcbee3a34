"""Coming fires, for ``nomaflow schedule`` and ``nomaflow cron``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, groupby, islice, takewhile
from typing import Any

from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.cron.fire_counts import is_frequent
from nomaflow_project.jobs.definitions import JobDefinition, Schedule

MAX_FIRES = 10_000
_MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFire:
    """One coming fire.

    :param at: UTC
    :param local: the same instant on the wall clock of the schedule's zone
    :param at_once: number of fires at the same instant, this one included; above 1 it collides
    :param collides_with: the others, as ``job`` or ``job (preset)``; at most the first ten
    """

    at: datetime
    local: datetime
    job_id: str
    preset: str
    at_once: int = 1
    collides_with: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FrequentSchedule:
    """A schedule that fires too often to be listed fire by fire.

    :param first: the first fire, UTC
    """

    job_id: str
    preset: str
    schedule: str
    timezone: str
    first: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleTable:
    """The coming fires of some jobs, earliest first."""

    start: datetime
    end: datetime
    fires: tuple[PlannedFire, ...]
    frequent: tuple[FrequentSchedule, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the table as ``schedule -o json`` shows it."""
        return {
            "start": _text(self.start),
            "end": _text(self.end),
            "fires": [{**asdict(fire), "at": _text(fire.at), "local": fire.local.isoformat()} for fire in self.fires],
            "frequent": [{**asdict(each), "first": _text(each.first)} for each in self.frequent],
        }


def schedule_table(definitions: Iterable[JobDefinition], start: datetime, end: datetime) -> ScheduleTable:
    """Return the fires between two aware times; frequent schedules are summed up."""
    fires: list[PlannedFire] = []
    frequent: list[FrequentSchedule] = []
    for definition in definitions:
        for schedule in definition.schedules():
            listed = _plan(definition.id, schedule, start, end)
            if isinstance(listed, FrequentSchedule):
                frequent.append(listed)
            else:
                fires += listed
    marked = _mark_collisions(sorted(fires, key=lambda fire: (fire.at, fire.job_id, fire.preset)))
    return ScheduleTable(start=start, end=end, fires=tuple(marked), frequent=tuple(frequent))


def _plan(job_id: str, schedule: Schedule, start: datetime, end: datetime) -> list[PlannedFire] | FrequentSchedule:
    tz = zone(schedule.timezone)
    expression = CronExpression.parse(schedule.expression)
    within = takewhile(lambda at: at <= end, expression.iter_after(start, tz))
    first = next(within, None)
    if first is None:
        return []
    if is_frequent(expression):
        return FrequentSchedule(
            job_id=job_id,
            preset=schedule.preset,
            schedule=schedule.expression,
            timezone=schedule.timezone,
            first=first,
        )
    return [
        PlannedFire(at=at, local=at.astimezone(tz), job_id=job_id, preset=schedule.preset)
        for at in chain((first,), within)
    ]


def cron_fires(expression: str, tz: str, start: datetime, count: int) -> list[str]:
    """Return the next fires after ``start`` as ISO texts in UTC; fewer if the calendar ends first.

    :raises CronError: if the expression or the zone is not valid
    :raises ValueError: if ``count`` is not from 1 to 10,000
    """
    if not 1 <= count <= MAX_FIRES:
        raise ValueError(f"n must be from 1 to {MAX_FIRES}, got {count}")
    fires = CronExpression.parse(expression).iter_after(start, zone(tz))
    return [_text(fire) for fire in islice(fires, count)]


def cron_batch(lines: Iterable[str], *, now: Callable[[], datetime]) -> Iterator[str]:
    """Answer each JSON line ``{"expr", "tz", "from", "n"}`` with one: ``{"fires": […]}`` or ``{"error": "…"}``.

    Defaults: ``tz`` is UTC, ``from`` is now and ``n`` is 1. A time without an offset is UTC. Empty lines are ignored.

    :param now: the clock
    """
    for line in lines:
        if line.strip():
            yield json.dumps(_answer(line, now))


def _answer(line: str, now: Callable[[], datetime]) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        if not isinstance(asked, dict):
            return {"error": f"expected a JSON object, got {type(asked).__name__}"}
        texts = {name: asked.get(name) for name in ("expr", "tz", "from")}
        for name, value in texts.items():
            if not isinstance(value, str) and (value is not None or name == "expr"):
                return {"error": f"{name!r} must be a text, got {value!r}"}
        expression, tz, start = (value or "" for value in texts.values())
        count = asked.get("n", 1)
        if not isinstance(count, int) or isinstance(count, bool):
            return {"error": f"'n' must be a whole number, got {count!r}"}
        return {"fires": cron_fires(expression, tz or "UTC", _instant(start) if start else now(), count)}
    except RecursionError:
        return {"error": "the line is nested too deeply"}
    except json.JSONDecodeError as error:
        return {"error": f"the line is not JSON: {error}"}
    except (CronError, ValueError) as error:
        return {"error": str(error)}


def _instant(text: str) -> datetime:
    """Return the time of an ISO text; one without an offset is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _mark_collisions(fires: list[PlannedFire]) -> Iterator[PlannedFire]:
    for _, group in groupby(fires, key=lambda fire: fire.at):
        together = list(group)
        names = [f"{fire.job_id} ({fire.preset})" if fire.preset else fire.job_id for fire in together]
        for index, fire in enumerate(together):
            others = (names[:index] + names[index + 1 :]) if len(names) <= _MAX_NAMED else names[:_MAX_NAMED]
            yield replace(fire, at_once=len(together), collides_with=tuple(others))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
