"""Building a job's definition from its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

from nomaflow_project.cron import CronExpression, zone
from nomaflow_project.jobs.definitions import JobDefinition, Misfire, Overlap, PresetDefinition, StepDefinition
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.jobs.step_defaults import blame_defaults, unknown_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import CALL_JOB_STEP, PYTHON_STEP, StepType
from nomaflow_project.reading.environment import STEP_KEYS, references_in
from nomaflow_project.reading.problems import Place, Problem, did_you_mean
from nomaflow_project.reading.references import last_part, reference_error
from nomaflow_project.reading.validation import validate

_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_FIRES = 32
_FIELDS = 5
_OTHER_TYPE = "call a function that does it, or install a plugin with that type"


def build_job(
    tree: Mapping[str, Any], place: Place, *, host: str, step_types: Mapping[str, StepType]
) -> tuple[JobDefinition | None, list[Problem]]:
    """Return the definition of a table of ``[[jobs]]``, or None, and the problems of the table."""
    merged, defaulted = with_step_defaults(tree, step_types)
    trees = merged.get("steps")
    entries, of_steps = [], []
    for index, table in enumerate(trees if isinstance(trees, list) else ()):
        entry, found = _read_step(table, place / "steps" / index, step_types)
        entries.append(entry)
        of_steps += found
    if isinstance(trees, list):
        merged["steps"] = [_built_step(entry, step_types) for entry in entries]
    definition, problems = validate(JobDefinition, merged, place)
    problems = [blame_defaults(problem, place, defaulted) for problem in (*problems, *of_steps)]
    problems += unknown_defaults(tree, place, step_types)
    if definition is None or any(entry.step is None for entry in entries):
        return None, problems
    names = _step_names([entry.step for entry in entries if entry.step is not None])
    problems += _check_names(definition.steps, place)
    problems += _check_presets(definition, names, place)
    problems += _check_job(definition, place)
    problems += _check_secrets(definition, place)
    steps = tuple(
        replace(step, name=name, retry=_retry_of(definition, step, entry))
        for step, name, entry in zip(definition.steps, names, entries, strict=True)
    )
    presets = tuple(_of_steps(preset, names) for preset in definition.presets)
    return replace(definition, host=definition.host or host, steps=steps, presets=presets), problems


@dataclass(frozen=True, kw_only=True, slots=True)
class _StepEntry:
    """A step of a file.

    :param step: its own keys; None if they cannot be read
    :param fields: the keys that belong to a contributed type
    :param retry_keys: the keys of its ``retry``, which override the job's
    """

    step: StepDefinition | None
    fields: Mapping[str, Any]
    retry_keys: Collection[str]


def _read_step(table: object, place: Place, step_types: Mapping[str, StepType]) -> tuple[_StepEntry, list[Problem]]:
    tree = table if isinstance(table, dict) else {}
    own = {key: value for key, value in tree.items() if key in STEP_KEYS} if isinstance(table, dict) else table
    step, problems = validate(StepDefinition, own, place)
    fields = {key: value for key, value in tree.items() if key not in STEP_KEYS}
    if "params" in tree and (step is None or not step.calls_job):
        fields["params"] = tree["params"]
    retry = tree.get("retry")
    entry = _StepEntry(step=step, fields=fields, retry_keys=retry if isinstance(retry, dict) else ())
    if step is None:
        return entry, problems
    if step.type in step_types:
        problems += step_types[step.type].check({**fields, **step.op_kwargs}, place)
    elif step.type in (PYTHON_STEP, CALL_JOB_STEP):
        problems += [(place / key).error("unknown_key", f"unknown key {key!r}", fix=_fix_of_key(key)) for key in fields]
        problems += _check_builtin(step, place)
    else:
        known = [PYTHON_STEP, CALL_JOB_STEP, *step_types]
        problems.append(
            (place / "type").error(
                "unknown_step_type",
                f"unknown step type {step.type!r}, expected one of {', '.join(sorted(known))}",
                fix=did_you_mean(step.type, known, otherwise=_OTHER_TYPE),
            )
        )
    return entry, problems


def _built_step(entry: _StepEntry, step_types: Mapping[str, StepType]) -> StepDefinition:
    """Return a step as it is served, except for its name and its retries, which depend on its job."""
    step = entry.step or StepDefinition()
    if step.calls_job:
        return replace(step, callable="")
    step = replace(step, target_job_id="", params={})
    if step.type not in step_types:
        return step
    kind = step_types[step.type]
    return replace(
        step, callable=kind.callable, op_kwargs={**entry.fields, **step.op_kwargs}, overridable=kind.overridable
    )


def _retry_of(job: JobDefinition, step: StepDefinition, entry: _StepEntry) -> RetryPolicy | None:
    """Return the job's retries with a step's own keys laid over them; None if it has no table of its own."""
    own = step.retry
    return None if own is None else replace(job.retry, **{name: getattr(own, name) for name in entry.retry_keys})


def _step_names(steps: Sequence[StepDefinition]) -> list[str]:
    """Return the step names; an unnamed step gets the name of its callable or job, with ``-2``, ``-3`` if taken."""
    taken = {step.name for step in steps}
    names = []
    for step in steps:
        base = last_part(step.callable) or step.target_job_id or step.type
        candidates = [base, *(f"{base}-{number}" for number in range(2, len(steps) + 2))]
        name = step.name or next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        names.append(name)
    return names


def _fix_of_key(key: str) -> str:
    if key == "params":
        return "only call_job steps have params; give a callable op_kwargs, or the job params"
    return did_you_mean(key, STEP_KEYS)


def _check_builtin(step: StepDefinition, place: Place) -> Iterator[Problem]:
    if step.calls_job and not step.target_job_id:
        message = "a call_job step needs the key 'target_job_id'"
        yield (place / "target_job_id").error("missing_key", message, fix="name the job to run")
    elif step.calls_job and (step.op_kwargs or step.callable or step.resources or step.image):
        message = "a call_job step calls a job: its callable, op_kwargs, resources and image are not used"
        yield place.warning("unused_key", message, fix="pass values to the called job in the step's params")
    elif step.calls_job:
        return
    elif not step.callable:
        message = "a python step needs the key 'callable'"
        yield (place / "callable").error("missing_key", message, fix="give 'package.module:function'")
    elif (problem := reference_error(step.callable)) is not None:
        yield (place / "callable").error(
            "bad_callable",
            f"{step.callable[:80]!r} does not name a callable: {problem}",
            fix="give 'package.module:function', such as 'myapp.cleanup:purge_old_sessions'",
        )


def _check_names(steps: Sequence[StepDefinition], place: Place) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, step in enumerate(steps):
        at = place / "steps" / index / "name"
        if step.name and first.setdefault(step.name, index) != index:
            message = f"the name {step.name!r} is that of steps[{first[step.name]}] too"
            yield at.error("duplicate_step_name", message, fix="give each step a name of its own")
        yield from _odd_name(step.name, at)


def _check_presets(job: JobDefinition, step_names: Sequence[str], place: Place) -> Iterator[Problem]:
    for index, preset in enumerate(job.presets):
        at = place / "presets" / index
        yield from _odd_name(preset.name, at / "name")
        stands = job.preset(preset.name)
        if stands is not preset and preset.schedule:
            problem = f"another preset with a schedule is called {preset.name!r} too"
            yield (at / "name").error("duplicate_preset", problem, fix="rename one of them")
        elif stands is not None and stands is not preset:
            problem = f"presets[{job.presets.index(stands)}] is called {preset.name!r} too, and this one has no effect"
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
        problem = f"the name {name!r} has '/' in it, or blanks at its ends"
        yield at.warning("odd_name", problem, fix="rename it, or quote it wherever it is given")


def _check_job(job: JobDefinition, place: Place) -> Iterator[Problem]:
    if job.install_step is not None:
        message = "comes from the original and has no effect: nothing runs jobs in its order"
        yield (place / "install_step").warning("unused_key", message, fix="run them in order yourself")
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


def _of_steps(preset: PresetDefinition, names: Collection[str]) -> PresetDefinition:
    """Return a preset without its entries for steps that the job does not have."""
    return replace(
        preset,
        op_kwargs={name: values for name, values in preset.op_kwargs.items() if name in names},
        steps={name: on for name, on in {**preset.step_enabled, **preset.steps}.items() if name in names},
    )
