"""Checks values against callables and step types without calling anything.

The kernel cannot do this: it has annotations only as text, and models only as JSON Schemas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nomaflow_api.v1.letters import CheckedStep, ValueProblem
from nomaflow_api.v1.lossless_json import ValueCodecError, decode_tree
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.attempt.masking import MASK
from nomaflow_host.generation.contexts import values_of
from nomaflow_host.injection.call_plan import CallPlan
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import described
from nomaflow_project.jobs.step_defaults import blame_defaults, with_step_defaults
from nomaflow_project.jobs.step_types import StepType as StepFields
from nomaflow_project.reading.callable_references import last_part
from nomaflow_project.reading.environment import STEP_KEYS, references_in
from nomaflow_project.reading.files import JobFile, tables_in
from nomaflow_project.reading.names import runs_on
from nomaflow_project.reading.problems import Place, Problem, Severity

if TYPE_CHECKING:
    from nomaflow.calls import StepType


def unfit_values(plan: CallPlan, step: CheckedStep, *, as_given: Collection[str]) -> Iterator[ValueProblem]:
    """Yield a problem for each given value that would fail an attempt at the step. The values are literal.

    :param as_given: names of injections; their values are not coerced
    """
    try:
        values = values_of(step.kwargs_json, "arguments")
    except PreparationFailed as error:
        yield ValueProblem(step=step.step, key="", message=error.message)
        return
    shown = {**values, **dict.fromkeys(step.secret_keys, MASK)}
    for key in step.given_keys:
        if key not in values:
            continue
        strict = key in step.strict_keys
        try:
            plan.check(key, values[key], strict=strict, given=values, injected=as_given, shown=shown)
        except PreparationFailed as error:
            yield ValueProblem(step=step.step, key=fitting(key), message=error.message)


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


class JobChecker(Struct, frozen=True, kw_only=True):
    """Checks the values of job files before the first run.

    Values that refer to the environment are left out, since each attempt resolves them.

    :param plans: reference to `CallPlan`, or to the reason why it has none
    :param types: the contributed step types, by name
    :param as_given: names of injections; their values are not coerced
    """

    plans: Mapping[str, object]
    types: Mapping[str, StepType]
    as_given: Collection[str] = ()

    def problems(self, job_files: Iterable[Mapping[str, Any]], *, host: str) -> Iterator[Problem]:
        """Yield a problem for each value that its callable, or the model of its step's type, would refuse.

        :param job_files: ``job_files`` of the manifest
        :param host: the host that reads them; jobs that another host runs call that host's functions
        """
        for file in map(JobFile.from_json, job_files):
            for place, table in file.jobs():
                job = _table(table)
                for number, step in enumerate(tables_in(job.get("steps")) if runs_on(job, host) else ()):
                    for problem in self._of_call(job, step, place, number):
                        yield _of_step(problem, step)
                yield from self._of_types(job, place)

    def _of_call(self, job: Mapping[str, Any], step: Mapping[str, Any], place: Place, index: int) -> Iterator[Problem]:
        plan = self.plans.get(str(step.get("callable")))
        if step.get("type", "python") != "python" or not isinstance(plan, CallPlan):
            return
        own = _table(step.get("op_kwargs"))
        params = {key: value for key, value in _table(job.get("params")).items() if key not in own}
        name = str(step.get("name") or last_part(plan.reference))
        layers = [(place / "steps" / index / "op_kwargs", own), (place / "params", params)]
        for number, preset in enumerate(tables_in(job.get("presets"))):
            values = _table(_table(preset.get("op_kwargs")).get(name))
            layers.append((place / "presets" / number / "op_kwargs" / name, values))
        for at, layer in layers:
            for key, value in layer.items():
                if key not in plan.named or key in self.as_given or references_in(value):
                    continue
                try:
                    plan.fit(key, decode_tree(value, path=key))
                except ValueCodecError:
                    continue  # the kernel's own check reports it
                except PreparationFailed as error:
                    yield (at / key).error(error.reason_code, error.message, fix="correct the value, or the annotation")

    def _of_types(self, job: Mapping[str, Any], place: Place) -> Iterator[Problem]:
        if all(each.model is None for each in self.types.values()):
            return
        merged, defaulted = with_step_defaults(job, {name: fields_of(each) for name, each in self.types.items()})
        for index, step in enumerate(tables_in(merged.get("steps"))):
            kind = self.types.get(str(step.get("type")))
            if kind is not None and kind.model is not None:
                for problem in _of_fields(step, kind, place / "steps" / index):
                    yield _of_step(blame_defaults(problem, place, defaulted), step)


def _of_fields(step: Mapping[str, Any], kind: StepType, place: Place) -> Iterator[Problem]:
    from nomaflow_project.reading.validation import misfits  # imports pydantic, as the type's model did

    own = {key: value for key, value in step.items() if key not in STEP_KEYS}
    try:
        values = decode_tree({**own, **_table(step.get("op_kwargs"))})
    except ValueCodecError:
        return  # the kernel's own check reports it
    assert kind.model is not None
    try:
        yield from misfits(kind.model, values, place, hidden=kind.secret)
    except Exception as error:  # noqa: BLE001 - a model's validators may raise anything
        yield place.error("hook_failed", f"the model of step type {kind.name!r} raised {described(error)}")


def _of_step(problem: Problem, step: Mapping[str, Any]) -> Problem:
    """Return the problem of a step, as a warning if the step is disabled."""
    return problem if step.get("enabled", True) else replace(problem, severity=Severity.WARNING)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
