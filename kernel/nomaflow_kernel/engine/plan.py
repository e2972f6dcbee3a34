"""The plan of one run: its steps and their values, with all layers applied.

Layers, lowest first: job.params, step.op_kwargs, preset (its params, then its op_kwargs), run params, run op_kwargs. A
child of call_job inherits: its parent's job params lie over its own, and its parent's preset and run params, with the
step's own params on top, are its run params. Values from all layers but the step's own reach a step of a contributed
type only in the fields that its type declares overridable.

The host resolves references in values of its own files only. So the plan knows for each value whether it is from a file
of the host that runs it, or literal: from a client, or from another host's file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct, field

from nomaflow_kernel.history.records import RunRequest
from nomaflow_project.jobs.definitions import IsolationChoice, JobDefinition, PresetDefinition, StepDefinition
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.jobs.step_types import CALL_JOB_STEP


class PlannedStep(Struct, frozen=True, kw_only=True):
    """One step with its merged values.

    :param kwargs_json: all layers merged
    :param strict_keys: keys from op_kwargs, which the callable must accept
    :param literal_keys: keys of literal values
    :param child_params: params that a call_job step itself gives to its child
    :param literal_child_params: the keys of those that are literal
    :param reuse: the output to reuse instead of running the step, in the form of RunRequest
    """

    index: int
    name: str
    type: str
    callable: str
    target_job_id: str
    enabled: bool
    kwargs_json: str
    strict_keys: tuple[str, ...]
    literal_keys: frozenset[str]
    retry: RetryPolicy
    timeout_seconds: float | None
    isolation: IsolationChoice
    cancel_grace_seconds: float | None
    resources: Resources | None = None
    image: str = ""
    child_params: Mapping[str, Any] = field(default_factory=dict)
    literal_child_params: frozenset[str] = frozenset()
    reuse: Mapping[str, Any] | None = None

    @property
    def given_keys(self) -> frozenset[str]:
        """The keys given by any layer."""
        return frozenset(json.loads(self.kwargs_json))

    @property
    def calls_job(self) -> bool:
        """True if the kernel runs the step itself."""
        return self.type == CALL_JOB_STEP

    @property
    def wants_instance(self) -> bool:
        """True if each attempt runs in an instance of its own."""
        return self.isolation is IsolationChoice.INSTANCE and not self.calls_job


class RunPlan(Struct, frozen=True, kw_only=True):
    """The planned steps and merged values of one run.

    :param first: the first step that will run, None if all are switched off
    :param job_params: the params of the job, with the inherited ones on top
    :param run_params: the params of the preset and the request
    :param literal_job_params: the keys of ``job_params`` with literal values
    :param literal_run_params: the same for ``run_params``
    :param literal_params: the same for ``params_json``
    """

    steps: tuple[PlannedStep, ...]
    first: PlannedStep | None
    job_params: Mapping[str, Any]
    run_params: Mapping[str, Any]
    params_json: str
    log_level: str
    literal_job_params: frozenset[str] = frozenset()
    literal_run_params: frozenset[str] = frozenset()
    literal_params: frozenset[str] = frozenset()


NO_PLAN = RunPlan(steps=(), first=None, job_params={}, run_params={}, params_json="{}", log_level="")
"""The plan of fires that are recorded and never run."""


def plan_run(definition: JobDefinition, request: RunRequest) -> RunPlan:
    """Return the plan of a run of ``definition`` with the layers of ``request``.

    An unknown preset counts as none: triggers refuse it earlier.
    """
    preset = definition.preset(request.preset) if request.preset else None
    preset_params: Mapping[str, Any] = preset.params if preset else {}
    job_params, literal_job = _merged(
        _of_job(definition.params, request), (request.inherited, request.inherited_of_files)
    )
    run_params, literal_run = _merged(_of_job(preset_params, request), (request.params, request.params_of_files))
    level = request.log_level or (preset and preset.log_level) or definition.log_level
    steps = tuple(_plan_step(index, step, definition, preset, request) for index, step in enumerate(definition.steps))
    return RunPlan(
        steps=steps,
        first=next((step for step in steps if step.enabled and step.reuse is None), None),
        job_params=job_params,
        run_params=run_params,
        params_json=_dump({**job_params, **run_params}),
        log_level=level,
        literal_job_params=literal_job,
        literal_run_params=literal_run,
        literal_params=literal_job.difference(run_params) | literal_run,
    )


def _plan_step(
    index: int,
    step: StepDefinition,
    definition: JobDefinition,
    preset: PresetDefinition | None,
    request: RunRequest,
) -> PlannedStep:
    preset_values = _settable(step, preset.op_kwargs.get(step.name, {}) if preset else {})
    run_values = _settable(step, request.op_kwargs.get(step.name, {}))
    kwargs, literal = _merged(
        _of_job(_settable(step, definition.params), request),
        (_settable(step, request.inherited), request.inherited_of_files),
        _of_job(step.op_kwargs, request),
        _of_job(_settable(step, preset.params if preset else {}), request),
        _of_job(preset_values, request),
        (_settable(step, request.params), request.params_of_files),
        (run_values, ()),
    )
    child_params, literal_child = _NOTHING
    if step.calls_job:
        child_params, literal_child = _merged(
            _of_job(step.params, request), _of_job(preset_values, request), (run_values, ())
        )
    enabled = step.enabled
    if preset and step.name in preset.steps:
        enabled = preset.steps[step.name]
    return PlannedStep(
        index=index,
        name=step.name,
        type=step.type,
        callable=step.callable,
        target_job_id=step.target_job_id,
        enabled=request.switches.get(step.name, enabled),
        kwargs_json=_dump(kwargs),
        strict_keys=tuple(dict.fromkeys((*step.op_kwargs, *preset_values, *run_values))),
        literal_keys=literal,
        retry=definition.retry_of(step),
        timeout_seconds=step.timeout_seconds,
        isolation=definition.isolation_of(step),
        cancel_grace_seconds=definition.cancel_grace_of(step),
        resources=step.resources,
        image=step.image,
        child_params=child_params,
        literal_child_params=literal_child,
        reuse=request.reuse.get(step.name),
    )


_Layer = tuple[Mapping[str, Any], Collection[str]]
"""The values of one layer, and the keys of those that are from a file of the host."""

_Merged = tuple[Mapping[str, Any], frozenset[str]]
"""Layers laid over each other, and the keys of the literal values."""

_NOTHING: _Merged = ({}, frozenset())


def _of_job(values: Mapping[str, Any], request: RunRequest) -> _Layer:
    """Return the layer of values of the job's own file; they are literal if another host brought the job."""
    return values, () if request.of_other_host else values


def _merged(*layers: _Layer) -> _Merged:
    merged: dict[str, Any] = {}
    literal: set[str] = set()
    for values, of_files in layers:
        if values:
            merged.update(values)
            literal.difference_update(values)
            if of_files is not values:
                literal.update(key for key in values if key not in of_files)
    return merged, frozenset(literal)


def _settable(step: StepDefinition, values: Mapping[str, Any]) -> Mapping[str, Any]:
    if step.overridable is None:
        return values
    return {name: value for name, value in values.items() if step.may_set(name)}


def _dump(values: Mapping[str, Any]) -> str:
    if not values:
        return "{}"
    return json.dumps(values, separators=(",", ":"), allow_nan=False)
