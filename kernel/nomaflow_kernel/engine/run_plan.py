"""The plan of one run: its steps and their values. ``value_layers`` says which value wins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from nomaflow_kernel.engine.value_layers import Values, child_params, job_params, run_params, step_values, strict_keys
from nomaflow_kernel.history.records import NO_HOST, RunRequest
from nomaflow_project.jobs.definitions import IsolationChoice, JobDefinition, PresetDefinition, StepDefinition
from nomaflow_project.jobs.resources import Resources
from nomaflow_project.jobs.retry_policy import RetryPolicy
from nomaflow_project.jobs.step_types import CALL_JOB_STEP


class PlannedStep(Struct, frozen=True, kw_only=True):
    """One step. Its values are merged when they are asked for: each of a thousand steps gets all params of its run.

    :param layers: what the values are merged of
    :param reuse: the output to reuse instead of running the step, in the form of RunRequest
    """

    index: int
    name: str
    type: str
    callable: str
    target_job_id: str
    enabled: bool
    layers: tuple[StepDefinition, JobDefinition, PresetDefinition | None, RunRequest]
    retry: RetryPolicy
    timeout_seconds: float | None
    isolation: IsolationChoice
    cancel_grace_seconds: float | None
    resources: Resources | None = None
    image: str = ""
    reuse: Mapping[str, Any] | None = None

    @property
    def values(self) -> Values:
        """All layers merged."""
        return step_values(*self.layers)

    @property
    def kwargs_json(self) -> str:
        """The text of the values."""
        return dump_values(self.values[0])

    @property
    def strict_keys(self) -> tuple[str, ...]:
        """The keys from op_kwargs, which the callable must accept."""
        step, _, preset, request = self.layers
        return strict_keys(step, preset, request)

    @property
    def child_params(self) -> Values:
        """The params that a call_job step itself gives to its child."""
        step, _, preset, request = self.layers
        return child_params(step, preset, request)

    @property
    def runs(self) -> bool:
        """True if it is switched on, and no output of an earlier run takes its place."""
        return self.enabled and self.reuse is None

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
    :param asked_log_level: the level that the request or its preset asked for; empty for the job's own
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
    asked_log_level: str = ""
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
    of_job, literal_job = job_params(definition, request)
    of_run, literal_run = run_params(preset, request)
    asked_log_level = request.log_level or (preset and preset.log_level) or ""
    steps = tuple(_plan_step(index, step, definition, preset, request) for index, step in enumerate(definition.steps))
    return RunPlan(
        steps=steps,
        first=next((step for step in steps if step.runs), None),
        job_params=of_job,
        run_params=of_run,
        params_json=dump_values({**of_job, **of_run}),
        log_level=asked_log_level or definition.log_level,
        asked_log_level=asked_log_level,
        literal_job_params=literal_job,
        literal_run_params=literal_run,
        literal_params=literal_job.difference(of_run) | literal_run,
    )


def lane_of(first: PlannedStep | StepDefinition | None, host: str) -> str:
    """Return the lane in which a run waits whose next step is this one, or that runs none: its host's, or NO_HOST."""
    return NO_HOST if first is None or first.calls_job else host


def _plan_step(
    index: int,
    step: StepDefinition,
    definition: JobDefinition,
    preset: PresetDefinition | None,
    request: RunRequest,
) -> PlannedStep:
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
        layers=(step, definition, preset, request),
        retry=definition.retry_of(step),
        timeout_seconds=step.timeout_seconds,
        isolation=definition.isolation_of(step),
        cancel_grace_seconds=definition.cancel_grace_of(step),
        resources=step.resources,
        image=step.image,
        reuse=request.reuse.get(step.name),
    )


def dump_values(values: Mapping[str, Any]) -> str:
    """Return the text of values, as a worker reads it."""
    if not values:
        return "{}"
    return json.dumps(values, separators=(",", ":"), allow_nan=False)
