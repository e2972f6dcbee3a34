"""Building a job's definition from its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, RetryPolicy, StepDefinition
from nomaflow_project.jobs.step_defaults import blame_defaults, unknown_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import CALL_JOB_STEP, PYTHON_STEP, StepType
from nomaflow_project.reading.environment import STEP_KEYS
from nomaflow_project.reading.problems import Place, Problem, did_you_mean
from nomaflow_project.reading.references import last_part, reference_error
from nomaflow_project.reading.validation import validate

__all__ = ["build_job"]


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
    problems += _duplicate_names(definition.steps, place)
    for index, step in enumerate(definition.steps):
        problems += _odd_name(step.name, place / "steps" / index / "name")
    problems += _check_presets(definition.presets, names, place)
    problems += _check_job(definition, place)
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
                fix=did_you_mean(step.type, known, noun="type") + "; a plugin contributes others",
            )
        )
    return entry, problems


def _built_step(entry: _StepEntry, step_types: Mapping[str, StepType]) -> StepDefinition:
    """Return a step as it is served, but for its name and its retries, which depend on its job."""
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


def _check_builtin(entry: StepDefinition, place: Place) -> list[Problem]:
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


def _duplicate_names(steps: Sequence[StepDefinition], place: Place) -> list[Problem]:
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


def _check_presets(presets: Sequence[PresetDefinition], step_names: Sequence[str], place: Place) -> Iterator[Problem]:
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


def _kept_presets(presets: Sequence[PresetDefinition]) -> dict[str, PresetDefinition]:
    """Return the preset for each name, chosen as in `JobDefinition.preset`."""
    kept: dict[str, PresetDefinition] = {}
    for preset in presets:
        if preset.name not in kept or (preset.schedule and not kept[preset.name].schedule):
            kept[preset.name] = preset
    return kept


def _odd_name(name: str, at: Place) -> Iterator[Problem]:
    """Yield a warning for a name of a step or preset that is easily mistaken for another."""
    if "/" in name or name != name.strip():
        problem = f"the name {name!r} has '/' in it, or blanks at its ends"
        yield at.warning("odd_name", problem, fix="rename it, or quote it wherever it is given")


def _check_job(entry: JobDefinition, place: Place) -> list[Problem]:
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


def _of_steps(preset: PresetDefinition, names: Collection[str]) -> PresetDefinition:
    """Return a preset without its entries for steps that the job does not have."""
    return replace(
        preset,
        op_kwargs={name: values for name, values in preset.op_kwargs.items() if name in names},
        steps={name: on for name, on in {**preset.step_enabled, **preset.steps}.items() if name in names},
    )
