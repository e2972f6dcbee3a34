"""Problems of a definition whose keys have good values: names twice, secrets in plain text, odd combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

from nomaflow_project.cron import CronExpression, zone
from nomaflow_project.jobs.definitions import JobDefinition, Misfire, Overlap, StepDefinition
from nomaflow_project.reading.environment import references_in
from nomaflow_project.reading.problems import Place, Problem, did_you_mean

_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_FIRES = 32
_FIELDS = 5


def definition_problems(job: JobDefinition, step_names: Sequence[str], place: Place) -> Iterator[Problem]:
    """Yield the problems of a definition.

    :param step_names: the names of its steps, of which each has one here
    :param place: that of its table
    """
    yield from _check_names(job.steps, place)
    yield from _check_presets(job, step_names, place)
    yield from _check_job(job, place)
    yield from _check_secrets(job, place)


def _check_names(steps: Sequence[StepDefinition], place: Place) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, step in enumerate(steps):
        at = place / "steps" / index / "name"
        if step.name and first.setdefault(step.name, index) != index:
            message = f"steps[{first[step.name]}] has the name {step.name!r}, too"
            yield at.error("duplicate_step_name", message, fix="give each step a name of its own")
        yield from _odd_name(step.name, at)


def _check_presets(job: JobDefinition, step_names: Sequence[str], place: Place) -> Iterator[Problem]:
    for index, preset in enumerate(job.presets):
        at = place / "presets" / index
        yield from _odd_name(preset.name, at / "name")
        stands = job.preset(preset.name)
        if stands is not preset and preset.schedule:
            problem = f"another preset with a schedule has the name {preset.name!r}, too"
            yield (at / "name").error("duplicate_preset", problem, fix="rename one of them")
        elif stands is not None and stands is not preset:
            first = f"presets[{job.presets.index(stands)}]"
            problem = f"{first} has the name {preset.name!r}, too, and this one has no effect"
            yield (at / "name").warning("duplicate_preset", problem, fix="rename one of them")
        tables: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("op_kwargs", preset.op_kwargs),
            ("steps", preset.steps),
            ("step_enabled", preset.step_enabled),
        )
        for table, entries in tables:
            for name in entries:
                if name not in step_names:
                    problem = f"the job has no step {name!r}, so this has no effect"
                    fix = did_you_mean(name, step_names, noun="step")
                    yield (at / table / name).warning("unknown_step", problem, fix=fix)


def _odd_name(name: str, at: Place) -> Iterator[Problem]:
    """Yield a warning for a name of a step or preset that is easily mistaken for another."""
    if "/" in name or name != name.strip():
        problem = f"the name {name!r} " + ("contains '/'" if "/" in name else "begins or ends with a blank")
        yield at.warning("odd_name", problem, fix="rename it, or quote it wherever it is given")


def _check_job(job: JobDefinition, place: Place) -> Iterator[Problem]:
    if job.install_step is not None:
        message = "the key comes from the original and has no effect: nothing runs jobs in its order"
        fix = "remove it; the call_job steps of another job run jobs in order"
        yield (place / "install_step").warning("unused_key", message, fix=fix)
    retry = job.retry
    if retry.attempts > 1 and retry.base_seconds > retry.max_seconds:
        message = f"no delay is longer than {retry.max_seconds:g} s, though base_seconds is {retry.base_seconds:g}"
        yield (place / "retry" / "max_seconds").warning("delay_capped", message, fix="raise max_seconds")
    if job.misfire is Misfire.ALL and job.overlap is Overlap.SKIP and _several_are_late(job):
        message = 'misfire = "all" starts late fires at once, and overlap = "skip" skips all of them but the first'
        yield (place / "overlap").warning("late_fires_skipped", message, fix='give overlap = "queue", or "allow"')
    if job.schedule and job.enabled and job.steps and not any(step.enabled for step in job.steps):
        message = "every step is disabled, so what its schedule starts does nothing"
        fix = "to take the job off its schedule, write enabled = false above its first [[jobs.steps]]"
        yield (place / "steps" / 0 / "enabled").warning("no_step_enabled", message, fix=fix)
    yield from _every_second(job.schedule, place / "schedule")
    for index, preset in enumerate(job.presets):
        yield from _every_second(preset.schedule, place / "presets" / index / "schedule")
        if preset.schedule and preset.enabled and not job.enabled:
            message = f"the job is disabled and its preset {preset.name!r} still fires by its own schedule"
            fix = "set enabled = false in the preset too, if that is not meant"
            yield (place / "presets" / index / "enabled").warning("preset_still_fires", message, fix=fix)


def _every_second(schedule: str, at: Place) -> Iterator[Problem]:
    """Yield a warning for a sixth field of ``*`` alone: in other crons, the seconds are the first of six fields."""
    first, *rest = schedule.split() or [""]
    if len(rest) == _FIELDS and rest[-1] == "*" != first:
        message = f"{schedule!r} fires each second of a minute that matches: the seconds are the last of six fields"
        seconds_last = " ".join((*rest, first))
        fix = f"write {seconds_last!r} if {first!r} is to be the seconds, or '*/1' in the last field if each second is"
        yield at.warning("fires_each_second", message, fix=fix)


def _several_are_late(job: JobDefinition) -> bool:
    """Return True if a schedule has two fires within the misfire window; only the next few are looked at."""
    window = timedelta(seconds=job.misfire_window_seconds)
    for schedule in job.schedules():
        expression = CronExpression.parse(schedule.expression)
        fires = islice(expression.iter_after(_SOME_DAY, zone(schedule.timezone)), _FIRES)
        if any(later - fire < window for fire, later in pairwise(fires)):
            return True
    return False


def _check_secrets(job: JobDefinition, place: Place) -> Iterator[Problem]:
    """Yield an error for each literal value of a secret param: the definition is shown and stored as it is."""
    for at, values in job.values(place):
        for name in job.secret_params:
            value = values.get(name, "")
            if value != "" and not (isinstance(value, str) and references_in(value)):
                fix = "write ${NAME}, ${file:PATH} or an encrypted value, or leave it out and give it at the trigger"
                yield (at / name).error(
                    "literal_secret", f"the secret param {name!r} has a literal value here", fix=fix
                )
