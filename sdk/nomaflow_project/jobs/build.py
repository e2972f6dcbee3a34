"""Building a job's definition from its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nomaflow_project.jobs.definition_checks import definition_problems
from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, StepDefinition
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.jobs.step_defaults import blame_defaults, unknown_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import CALL_JOB_STEP, PYTHON_STEP, StepType
from nomaflow_project.reading.callable_references import last_part, reference_error
from nomaflow_project.reading.environment import STEP_KEYS
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, once
from nomaflow_project.reading.validation import validate

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
    problems = once([blame_defaults(problem, place, defaulted) for problem in (*problems, *of_steps)])
    problems += unknown_defaults(tree, place, step_types)
    if definition is None or any(entry.step is None for entry in entries):
        return None, problems
    names = _step_names([entry.step for entry in entries if entry.step is not None])
    problems += definition_problems(definition, names, place)
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


def _of_steps(preset: PresetDefinition, names: Collection[str]) -> PresetDefinition:
    """Return a preset without its entries for steps that the job does not have."""
    return replace(
        preset,
        op_kwargs={name: values for name, values in preset.op_kwargs.items() if name in names},
        steps={name: on for name, on in {**preset.step_enabled, **preset.steps}.items() if name in names},
    )
