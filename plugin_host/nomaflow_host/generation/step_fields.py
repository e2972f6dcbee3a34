"""Checks steps of contributed types against the models of their types, before the first run.

The kernel cannot do this: it has the models only as JSON Schemas. pydantic is imported only if a type has a model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.values import ValueCodecError, decode_tree
from nomaflow_host.injection.references import described
from nomaflow_project.jobs.step_defaults import blame_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import StepType as StepFields
from nomaflow_project.reading.environment import STEP_KEYS
from nomaflow_project.reading.problems import Place, Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import BaseModel

    from nomaflow.calls import StepType

__all__ = ["fields_of", "step_misfits"]


def fields_of(each: StepType) -> StepFields:
    """Return a step type in the form that the reader of jobs needs."""
    return StepFields(
        name=each.name,
        callable=each.callable,
        schema=each.schema,
        doc=each.doc,
        overridable=each.overridable,
        secret=each.secret,
        checked=each.model is not None,
    )


def step_misfits(job_files: Iterable[Mapping[str, Any]], step_types: Iterable[StepType]) -> Iterator[Problem]:
    """Yield a problem for each field that the model of its step's type refuses.

    :param job_files: ``job_files`` of the manifest
    """
    types = {each.name: each for each in step_types}
    if all(each.model is None for each in types.values()):
        return
    fields = {name: fields_of(each) for name, each in types.items()}
    for file in job_files:
        tree = file.get("tree")
        tables = tree.get("jobs") if isinstance(tree, dict) else None
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            if isinstance(table, dict):
                job_id = table.get("id")
                place = Place(str(file.get("path", "")), f"jobs[{index}]", job_id if isinstance(job_id, str) else "")
                yield from _of_job(table, place, types, fields)


def _of_job(
    table: Mapping[str, Any], place: Place, types: Mapping[str, StepType], fields: Mapping[str, StepFields]
) -> Iterator[Problem]:
    merged, defaulted = with_step_defaults(table, fields)
    steps = merged.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        kind = types.get(str(step.get("type"))) if isinstance(step, dict) else None
        if kind is None or kind.model is None:
            continue
        severity = Severity.ERROR if step.get("enabled", True) else Severity.WARNING
        for problem in _of_step(step, kind, kind.model, place / "steps" / index):
            yield replace(blame_defaults(problem, place, defaulted), severity=severity)


def _of_step(step: Mapping[str, Any], kind: StepType, model: type[BaseModel], place: Place) -> Iterator[Problem]:
    from nomaflow_project.reading.validation import misfits  # imports pydantic, as the type's model did

    own = {key: value for key, value in step.items() if key not in STEP_KEYS}
    op_kwargs = step.get("op_kwargs")
    try:
        values = decode_tree({**own, **(op_kwargs if isinstance(op_kwargs, dict) else {})})
    except ValueCodecError:
        return  # the kernel's own check reports it
    try:
        yield from misfits(model, values, place, hidden=kind.secret)
    except Exception as error:  # noqa: BLE001 - a model's validators may raise anything
        yield place.error("hook_failed", f"the model of step type {kind.name!r} raised {described(error)}")
