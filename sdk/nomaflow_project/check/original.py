"""Job file settings whose meaning differs from the original's, and the line that restores the old meaning."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomaflow_project.reading.files import JobFile, tables_in
from nomaflow_project.reading.problems import Place
from nomaflow_project.reading.records import Record

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_STEP_SECONDS = 3600
_RETENTION = {"days": 30, "keep_last_per_job": 100}
_RANGE = re.compile(r"(\w+)(?:-(\w+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedMeaning(Record):
    """One setting of a file whose meaning here differs from the original's.

    :param job_id: empty if it is about all jobs of the project
    :param topic: ``zone``, ``weekdays``, ``days``, ``missed_fires``, ``step_timeout``, ``job_timeout``, ``call_job`` or
        ``retention``
    :param there: the meaning in the original
    :param here: the meaning here
    :param line: the line that restores the old meaning; empty if there is none
    """

    job_id: str
    file: str
    path: str
    topic: str
    there: str
    here: str
    line: str = ""


def changed_meanings(files: Sequence[JobFile]) -> tuple[ChangedMeaning, ...]:
    """Return the changed meanings in the original's job files, in order of the files."""
    found: list[ChangedMeaning] = []
    jobs = [(at, job) for file in files for at, job in file.jobs() if isinstance(job, dict)]
    steps = [step for _, job in jobs for step in tables_in(job.get("steps"))]
    called = {job_id for step in steps if isinstance(job_id := step.get("target_job_id"), str)}
    for at, job in jobs:
        found += _of_job(job, at, called)
    if jobs:
        found += _of_retention(files)
    return tuple(found)


def _changed(at: Place, topic: str, there: str, here: str, line: str = "") -> ChangedMeaning:
    return ChangedMeaning(job_id=at.job_id, file=at.file, path=at.path, topic=topic, there=there, here=here, line=line)


def _of_job(job: Mapping[str, Any], at: Place, called: set[str]) -> Iterator[ChangedMeaning]:
    schedules = [(at, job)] + [
        (at / "presets" / index, preset) for index, preset in enumerate(tables_in(job.get("presets"))) if preset
    ]
    fires = [(place, table) for place, table in schedules if isinstance(table.get("schedule"), str)]
    if any(not job.get("timezone") and not table.get("timezone") for _, table in fires):
        zone = _machine_zone()
        line = f'timezone = "{zone}"' if zone else 'timezone = "…"  # the zone of the machine that ran the original'
        there = "schedules are in the zone of the machine"
        yield _changed(at / "timezone", "zone", there, "they are in UTC", line)
    for place, table in fires:
        yield from _of_schedule(place / "schedule", table["schedule"])
    if fires and "misfire" not in job:
        here = "the latest one of the last hour is run when the kernel is back"
        there = "fires of a downtime are not run"
        yield _changed(at / "misfire", "missed_fires", there, here, 'misfire = "skip"')
    defaults = job.get("step_defaults")
    given = isinstance(defaults, Mapping) and "timeout_seconds" in defaults
    unlimited = [index for index, step in enumerate(tables_in(job.get("steps"))) if "timeout_seconds" not in step]
    if unlimited and not given:
        steps = ", ".join(f"steps[{index}]" for index in unlimited)
        line = f"step_defaults = {{ timeout_seconds = {_STEP_SECONDS} }}"
        there = f"{steps}: {_STEP_SECONDS} s for each attempt"
        yield _changed(at / "steps", "step_timeout", there, "no limit", line)
    if "timeout_seconds" in job:
        here = f"the run is stopped after {job['timeout_seconds']} s"
        yield _changed(at / "timeout_seconds", "job_timeout", "never enforced", here)
    if at.job_id in called and "overlap" not in job:
        there = "a call_job step runs it even if another run of it is active"
        here = "the called run is skipped then, and its step fails"
        yield _changed(at / "overlap", "call_job", there, here, 'overlap = "allow"')


def _of_schedule(at: Place, schedule: str) -> Iterator[ChangedMeaning]:
    fields = schedule.split()
    if len(fields) != 5:
        return
    days = translated_weekdays(fields[4])
    if days is not None:
        line = f'schedule = "{" ".join([*fields[:4], days])}"'
        there = f"{fields[4]} counts from Monday = 0: {days}"
        yield _changed(at, "weekdays", there, "it counts from Sunday = 0", line)
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        there = f"fires where both the day of the month ({fields[2]}) and of the week match"
        yield _changed(at, "days", there, "it fires where either matches, as in crontab")


def translated_weekdays(field: str) -> str | None:
    """Return the original's day-of-week field (Monday is 0) in names; None if it means the same here."""
    if not re.search(r"\d", field):
        return None
    days: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        match = _RANGE.fullmatch(span)
        first, last = (0, 6) if span == "*" else (-1, -1)
        if match is not None:
            first = _day(match[1])
            last = _day(match[2]) if match[2] else (6 if step else first)
        if not 0 <= first <= last <= 6 or (step and not (step.isdecimal() and int(step))):
            return None  # the original refuses it, too
        days.update(range(first, last + 1, int(step or 1)))
    return "*" if len(days) == 7 else ",".join(_named(sorted(days)))


def _day(text: str) -> int:
    if text.isdecimal():
        return int(text)
    return _DAYS.index(text) if text in _DAYS else -1


def _named(days: list[int]) -> Iterator[str]:
    """Yield the names of days; three or more in a row become a range."""
    while days:
        run = 1
        while run < len(days) and days[run] == days[0] + run:
            run += 1
        if run > 2:
            yield f"{_DAYS[days[0]]}-{_DAYS[days[run - 1]]}"
        else:
            yield from (_DAYS[day] for day in days[:run])
        days = days[run:]


def _of_retention(files: Sequence[JobFile]) -> Iterator[ChangedMeaning]:
    said: dict[str, Any] = {}
    for file in files:
        meta = (file.tree or {}).get("meta")
        table = meta.get("retention") if isinstance(meta, Mapping) else None
        if isinstance(table, Mapping):
            said = dict(table)
            break
    missing = {name: value for name, value in _RETENTION.items() if name not in said}
    if missing and said.get("enabled", True):
        here = {"days": "90 days", "keep_last_per_job": "no bound on their number"}
        there = {"days": "30 days", "keep_last_per_job": "the last 100 of each job"}
        path = next((file.path for file in files if file.tree is not None), "")
        yield _changed(
            Place(path, "meta.retention"),
            "retention",
            f"finished runs are kept: {', '.join(there[name] for name in missing)}",
            ", ".join(here[name] for name in missing),
            "[meta.retention]\n" + "\n".join(f"{name} = {value}" for name, value in missing.items()),
        )


def _machine_zone() -> str:
    """Return the name of this machine's zone; empty if it is UTC or unknown, and so changes nothing."""
    linked = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    name = os.environ.get("TZ", "").lstrip(":") or linked
    return "" if name.rpartition("/")[2] in ("", "UTC", "UCT", "Universal", "Zulu", "localtime") else name
