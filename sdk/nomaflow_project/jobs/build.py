"""Building a job's definition from its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nomaflow_project.jobs.definitions import (
    CALL_JOB_STEP,
    PYTHON_STEP,
    AlertPolicy,
    JobDefinition,
    PresetDefinition,
    RetryPolicy,
    StepDefinition,
)
from nomaflow_project.jobs.step_defaults import blame_defaults, unknown_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import StepType
from nomaflow_project.models.job_file import AlertsEntry, JobEntry, PresetEntry, RetryEntry, StepEntry
from nomaflow_project.reading.problems import Place, Problem, did_you_mean
from nomaflow_project.reading.references import last_part, reference_error
from nomaflow_project.reading.validation import validate

__all__ = ["build_job"]


def build_job(
    tree: Mapping[str, Any], place: Place, *, host: str, step_types: Mapping[str, StepType]
) -> tuple[JobDefinition | None, list[Problem]]:
    """Return the definition of a table of ``[[jobs]]``, or None, and the problems of the table."""
    merged, defaulted = with_step_defaults(tree, step_types)
    unknown = unknown_defaults(tree, place, step_types)
    entry, problems = validate(JobEntry, merged, place)
    if entry is None:
        problems += _step_problems(merged.get("steps"), place, step_types)
        return None, [*(blame_defaults(problem, place, defaulted) for problem in problems), *unknown]
    problems = [*(blame_defaults(problem, place, defaulted) for problem in problems), *unknown]
    names = _step_names(entry.steps)
    steps = []
    for index, (step, name) in enumerate(zip(entry.steps, names, strict=True)):
        at = place / "steps" / index
        built, found = _build_step(step, name, at, entry.retry, step_types)
        problems += [blame_defaults(problem, place, defaulted) for problem in found]
        steps.append(built)
    problems += _duplicate_names(entry.steps, place)
    for index, step in enumerate(entry.steps):
        problems += _odd_name(step.name or "", place / "steps" / index / "name")
    problems += _check_presets(entry.presets, names, place)
    problems += _check_job(entry, place)
    return _definition(entry, steps, host), problems


def _step_problems(steps: object, place: Place, step_types: Mapping[str, StepType]) -> list[Problem]:
    """Return the problems of the readable steps of an unreadable job, so that all problems are reported at once."""
    problems: list[Problem] = []
    for index, tree in enumerate(steps if isinstance(steps, list) else ()):
        at = place / "steps" / index
        step, _ = validate(StepEntry, tree, at)
        if step is not None:
            problems += _build_step(step, "", at, RetryEntry(), step_types)[1]
    return problems


def _step_names(steps: Sequence[StepEntry]) -> list[str]:
    """Return the step names; an unnamed step gets the name of its callable or job, with ``-2``, ``-3`` if taken."""
    taken = {step.name for step in steps if step.name}
    names = []
    for step in steps:
        name = step.name
        if not name:
            base = last_part(step.callable) or step.target_job_id or step.type
            candidates = [base, *(f"{base}-{number}" for number in range(2, len(steps) + 2))]
            name = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(name)
        names.append(name)
    return names


def _build_step(
    entry: StepEntry, name: str, place: Place, job_retry: RetryEntry, step_types: Mapping[str, StepType]
) -> tuple[StepDefinition, list[Problem]]:
    own = dict(entry.__pydantic_extra__ or {})
    calls_job = entry.type == CALL_JOB_STEP
    if entry.params is not None and not calls_job:
        own["params"] = entry.params
    problems: list[Problem] = []
    reference, op_kwargs = entry.callable, dict(entry.op_kwargs)
    overridable: tuple[str, ...] | None = None
    if entry.type in step_types:
        contributed = step_types[entry.type]
        reference, op_kwargs = contributed.callable, {**own, **op_kwargs}
        overridable = contributed.overridable
        problems += contributed.check(op_kwargs, place)
    elif entry.type in (PYTHON_STEP, CALL_JOB_STEP):
        problems += [(place / key).error("unknown_key", f"unknown key {key!r}", fix=_fix_of_key(key)) for key in own]
        problems += _check_builtin(entry, place)
    else:
        known = [PYTHON_STEP, CALL_JOB_STEP, *step_types]
        problems.append(
            (place / "type").error(
                "unknown_step_type",
                f"unknown step type {entry.type!r}, expected one of {', '.join(sorted(known))}",
                fix=did_you_mean(entry.type, known, noun="type") + "; a plugin contributes others",
            )
        )
    step = StepDefinition(
        name=name,
        type=entry.type,
        enabled=entry.enabled,
        callable="" if calls_job else reference,
        op_kwargs=op_kwargs,
        target_job_id=entry.target_job_id if calls_job else "",
        params=(entry.params or {}) if calls_job else {},
        overridable=overridable,
        timeout_seconds=entry.timeout_seconds,
        retry=None if entry.retry is None else _retry(job_retry, entry.retry),
        isolation=entry.isolation,
        cancel_grace_seconds=entry.cancel_grace_seconds,
    )
    return step, problems


def _fix_of_key(key: str) -> str:
    if key == "params":
        return "only call_job steps have params; give a callable op_kwargs, or the job params"
    return did_you_mean(key, StepEntry.model_fields)


def _check_builtin(entry: StepEntry, place: Place) -> list[Problem]:
    if entry.type == CALL_JOB_STEP:
        if not entry.target_job_id:
            return [
                (place / "target_job_id").error(
                    "missing_key", "a call_job step needs the key 'target_job_id'", fix="name the job to run"
                )
            ]
        if entry.op_kwargs or entry.callable:
            return [
                place.warning(
                    "unused_key",
                    "a call_job step calls a job: its callable and op_kwargs are not used",
                    fix="give the job that it calls values by the step's params",
                )
            ]
        return []
    if not entry.callable:
        return [
            (place / "callable").error(
                "missing_key", "a python step needs the key 'callable'", fix="give 'package.module:function'"
            )
        ]
    problem = reference_error(entry.callable)
    if problem is None:
        return []
    return [
        (place / "callable").error(
            "bad_callable",
            f"{entry.callable[:80]!r} does not name a callable: {problem}",
            fix="give 'package.module:function', such as 'myapp.cleanup:purge_old_sessions'",
        )
    ]


def _duplicate_names(steps: Sequence[StepEntry], place: Place) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for index, step in enumerate(steps):
        if step.name and first.setdefault(step.name, index) != index:
            problems.append(
                (place / "steps" / index / "name").error(
                    "duplicate_step_name",
                    f"the name {step.name!r} is that of steps[{first[step.name]}] too",
                    fix="give each step a name of its own",
                )
            )
    return problems


def _check_presets(presets: Sequence[PresetEntry], step_names: Sequence[str], place: Place) -> Iterator[Problem]:
    kept = _kept_presets(presets)
    for index, preset in enumerate(presets):
        at = place / "presets" / index
        yield from _odd_name(preset.name, at / "name")
        stands = kept[preset.name]
        if stands is not preset and preset.schedule:
            problem = f"another preset with a schedule is called {preset.name!r} too"
            yield (at / "name").error("duplicate_preset", problem, fix="rename one of them")
        elif stands is not preset:
            problem = f"presets[{presets.index(stands)}] is called {preset.name!r} too, and this one has no effect"
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


def _kept_presets(presets: Sequence[PresetEntry]) -> dict[str, PresetEntry]:
    """Return the preset for each name, chosen as in `JobDefinition.preset`."""
    kept: dict[str, PresetEntry] = {}
    for preset in presets:
        if preset.name not in kept or (preset.schedule and not kept[preset.name].schedule):
            kept[preset.name] = preset
    return kept


def _odd_name(name: str, at: Place) -> Iterator[Problem]:
    """Yield a warning for a name of a step or preset that is easily mistaken for another."""
    if "/" in name or name != name.strip():
        problem = f"the name {name!r} has '/' in it, or blanks at its ends"
        yield at.warning("odd_name", problem, fix="rename it, or quote it wherever it is given")


def _check_job(entry: JobEntry, place: Place) -> list[Problem]:
    problems = []
    if entry.install_step is not None:
        told = "is of the original and has no effect: nothing runs jobs in its order"
        problems.append((place / "install_step").warning("unused_key", told, fix="run them in order yourself"))
    if entry.retry.attempts > 1 and entry.retry.base_seconds > entry.retry.max_seconds:
        problems.append(
            (place / "retry" / "max_seconds").warning(
                "delay_capped",
                f"no delay is longer than {entry.retry.max_seconds:g} s, though base_seconds is "
                f"{entry.retry.base_seconds:g}",
                fix="raise max_seconds",
            )
        )
    if not entry.enabled:
        problems += [
            (place / "presets" / index / "enabled").warning(
                "preset_still_fires",
                f"the job is disabled and its preset {preset.name!r} still fires by its own schedule",
                fix="set enabled = false in the preset too, if that is not meant",
            )
            for index, preset in enumerate(entry.presets)
            if preset.schedule and preset.enabled
        ]
    return problems


def _retry(job: RetryEntry, own: RetryEntry | None = None) -> RetryPolicy:
    """Return the retry policy of a job, or of a step whose own keys override the job's."""
    values = job.model_dump() | ({} if own is None else own.model_dump(include=own.model_fields_set))
    return RetryPolicy.from_json(values)


def _alerts(entry: AlertsEntry | None) -> AlertPolicy | None:
    if entry is None:
        return None
    return AlertPolicy(
        on_failure=entry.on_failure,
        on_long_run_minutes=entry.on_long_run_minutes,
        recipients=tuple(entry.recipients),
    )


def _preset(entry: PresetEntry, steps: Collection[str]) -> PresetDefinition:
    """Return a preset without its entries for steps that the job does not have."""
    return PresetDefinition(
        name=entry.name,
        description=entry.description,
        schedule=entry.schedule,
        timezone=entry.timezone,
        enabled=entry.enabled,
        params=entry.params,
        op_kwargs={name: values for name, values in entry.op_kwargs.items() if name in steps},
        steps={name: on for name, on in {**entry.step_enabled, **entry.steps}.items() if name in steps},
        log_level=entry.log_level or "",
    )


_SAME = (
    "id",
    "description",
    "schedule",
    "enabled",
    "params",
    "log_level",
    "timeout_seconds",
    "overlap",
    "max_queued",
    "misfire",
    "misfire_window_seconds",
    "retry_on_lost",
    "lost_after_seconds",
    "isolation",
    "cancel_grace_seconds",
    "max_parallel",
    "priority",
    "queue_timeout_seconds",
    "max_log_bytes",
)


def _definition(entry: JobEntry, steps: Sequence[StepDefinition], host: str) -> JobDefinition:
    names = {step.name for step in steps}
    return JobDefinition(
        **{name: getattr(entry, name) for name in _SAME},
        host=entry.host or host,
        timezone=entry.timezone or "UTC",
        tags=tuple(entry.tags),
        retry=_retry(entry.retry),
        alerts=_alerts(entry.alerts),
        presets=tuple(_preset(preset, names) for preset in entry.presets),
        steps=tuple(steps),
    )
