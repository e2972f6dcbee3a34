"""``step_defaults``: each key goes to the steps whose type takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nomaflow_project.jobs.step_types import CALL_JOB_STEP, PYTHON_STEP, StepType
from nomaflow_project.reading.environment import STEP_KEYS
from nomaflow_project.reading.problems import Place, Problem, did_you_mean

_END_OF_KEY = re.compile(r"[.\[]")
_ONLY_OF = {"callable": PYTHON_STEP, "params": CALL_JOB_STEP, "target_job_id": CALL_JOB_STEP}


def with_step_defaults(
    tree: Mapping[str, Any], step_types: Mapping[str, StepType]
) -> tuple[dict[str, Any], dict[int, set[str]]]:
    """Return a job's table with its step_defaults merged into the steps, and the keys each step got from them.

    A step gets the keys that its type takes; a step of an unknown type gets all.
    """
    merged, defaults, steps = dict(tree), tree.get("step_defaults"), tree.get("steps")
    if not isinstance(defaults, Mapping) or not isinstance(steps, list):
        return merged, {}
    merged["steps"], given = [], {}
    for index, step in enumerate(steps):
        if not isinstance(step, Mapping):
            merged["steps"].append(step)
            continue
        taken = _taken(defaults, str(step.get("type", defaults.get("type", PYTHON_STEP))), step_types)
        merged["steps"].append(_merge(taken, step))
        given[index] = set(taken.keys() - step.keys())
    return merged, given


def unknown_defaults(tree: Mapping[str, Any], place: Place, step_types: Mapping[str, StepType]) -> list[Problem]:
    """Return a problem for each key of step_defaults that no step of the job takes."""
    defaults, steps = tree.get("step_defaults"), tree.get("steps")
    if not isinstance(defaults, Mapping) or not isinstance(steps, list):
        return []
    fallback = str(defaults.get("type", PYTHON_STEP))
    types = {str(step.get("type", fallback)) for step in steps if isinstance(step, Mapping)}
    known = {*STEP_KEYS, *(field for name in types if name in step_types for field in step_types[name].fields)}
    return [
        (place / "step_defaults" / key).error(
            "unknown_key", f"no step of the job takes the key {key!r}", fix=did_you_mean(key, known)
        )
        for key in defaults
        if key not in STEP_KEYS and not any(_takes(name, key, step_types) for name in types)
    ]


def blame_defaults(problem: Problem, place: Place, given: Mapping[int, set[str]]) -> Problem:
    """Return the problem, moved to ``step_defaults`` if the faulty key came from there.

    :param place: the job's place
    :param given: as `with_step_defaults` returns it
    """
    for index, names in given.items():
        prefix = (place / "steps" / index).path + "."
        rest = problem.path[len(prefix) :]
        if problem.path.startswith(prefix) and _END_OF_KEY.split(rest, maxsplit=1)[0] in names:
            return replace(problem, path=f"{place.path}.step_defaults.{rest}")
    return problem


def _taken(defaults: Mapping[str, Any], kind: str, step_types: Mapping[str, StepType]) -> dict[str, Any]:
    """Return the defaults that a step of a type takes."""
    taken = {key: value for key, value in defaults.items() if _takes(kind, key, step_types)}
    contributed, op_kwargs = step_types.get(kind), taken.get("op_kwargs")
    if contributed is not None and isinstance(op_kwargs, Mapping):
        taken["op_kwargs"] = {key: value for key, value in op_kwargs.items() if contributed.takes(key)}
    return taken


def _takes(kind: str, key: str, step_types: Mapping[str, StepType]) -> bool:
    if kind in step_types:
        return key not in _ONLY_OF if key in STEP_KEYS else step_types[kind].takes(key)
    if kind not in (PYTHON_STEP, CALL_JOB_STEP):
        return True  # its keys are unknown
    if key in ("op_kwargs", "resources", "image"):
        return kind == PYTHON_STEP
    return key in STEP_KEYS and _ONLY_OF.get(key, kind) == kind


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        base = merged.get(name)
        both = isinstance(base, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(base, value) if both and not _is_tagged(value) else value  # type: ignore[arg-type]  # both
    return merged


def _is_tagged(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")
