"""The layers of a run's values, and which of them wins.

Layers, lowest first: job.params, step.op_kwargs, preset (its params, then its op_kwargs), run params, run op_kwargs. A
child of call_job inherits: its parent's job params lie over its own, and its parent's preset and run params, with the
step's own params on top, are its run params. Values from all layers but the step's own reach a step of a contributed
type only in the fields that its type declares overridable.

The host resolves references in values of its own files only. So each value is known to be from a file of the host that
runs it, or literal: from a client, or from another host's file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nomaflow_kernel.history.records import RunRequest
from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, StepDefinition

Values = tuple[Mapping[str, Any], frozenset[str]]
"""Layers laid over each other, and the keys of the literal values."""

_Layer = tuple[Mapping[str, Any], Collection[str]]
"""The values of one layer, and the keys of those that are from a file of the host."""


def job_params(definition: JobDefinition, request: RunRequest) -> Values:
    """Return the params of the job, with the inherited ones on top."""
    return _merged(_of_job(definition.params, request), (request.inherited, request.inherited_of_files))


def run_params(preset: PresetDefinition | None, request: RunRequest) -> Values:
    """Return the params of the preset and the request."""
    return _merged(_of_job(preset.params if preset else {}, request), (request.params, request.params_of_files))


def step_values(
    step: StepDefinition, definition: JobDefinition, preset: PresetDefinition | None, request: RunRequest
) -> Values:
    """Return the values of a step, all layers merged."""
    return _merged(
        _of_job(_settable(step, definition.params), request),
        (_settable(step, request.inherited), request.inherited_of_files),
        _of_job(step.op_kwargs, request),
        _of_job(_settable(step, preset.params if preset else {}), request),
        _of_job(_of_preset(step, preset), request),
        (_settable(step, request.params), request.params_of_files),
        (_of_run(step, request), ()),
    )


def strict_keys(step: StepDefinition, preset: PresetDefinition | None, request: RunRequest) -> tuple[str, ...]:
    """Return the keys from op_kwargs, which the callable must accept."""
    return tuple(dict.fromkeys((*step.op_kwargs, *_of_preset(step, preset), *_of_run(step, request))))


def child_params(step: StepDefinition, preset: PresetDefinition | None, request: RunRequest) -> Values:
    """Return the params that a call_job step itself gives to its child."""
    return _merged(
        _of_job(step.params, request), _of_job(_of_preset(step, preset), request), (_of_run(step, request), ())
    )


def _of_preset(step: StepDefinition, preset: PresetDefinition | None) -> Mapping[str, Any]:
    return _settable(step, preset.op_kwargs.get(step.name, {}) if preset else {})


def _of_run(step: StepDefinition, request: RunRequest) -> Mapping[str, Any]:
    return _settable(step, request.op_kwargs.get(step.name, {}))


def _of_job(values: Mapping[str, Any], request: RunRequest) -> _Layer:
    """Return the layer of values of the job's own file; they are literal if another host brought the job."""
    return values, () if request.brought_by else values


def _merged(*layers: _Layer) -> Values:
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
