"""Replay: a new run from the snapshot of a finished one, whole, changed, or from a given step."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nomaflow_kernel.domain.errors import BadRequest, KernelError, RunNotTerminal
from nomaflow_kernel.engine import repeats, triggering
from nomaflow_kernel.engine.commands import KnownJob, ReplayCommand, TriggerCommand, TriggerOutcome
from nomaflow_kernel.engine.plan import RunPlan, plan_run
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.history.port import RunDetail
from nomaflow_kernel.history.records import AttemptRecord, TriggerKind
from nomaflow_kernel.history.states import RUN_TERMINAL, AttemptState
from nomaflow_project.jobs.definitions import JobDefinition, canonical_json

__all__ = ["admit", "prepare"]


def prepare(state: EngineState, detail: RunDetail, request: ReplayCommand) -> tuple[TriggerCommand, KnownJob, RunPlan]:
    """Return the command, the job as it was, and the plan of a replay.

    :raises RunNotTerminal: if the run has not finished
    :raises BadRequest: if the run does not have the step to start from, or no step of it failed
    """
    old = detail.run
    if old.state not in RUN_TERMINAL:
        raise RunNotTerminal(old.run_id, old.state)
    definition = JobDefinition.from_json(detail.definition)
    op_kwargs = {step: dict(values) for step, values in old.request.op_kwargs.items()}
    for step, values in request.op_kwargs.items():
        op_kwargs.setdefault(step, {}).update(values)
    command = TriggerCommand(
        job_id=old.job_id,
        kind=TriggerKind.REPLAY,
        inherited=old.request.inherited,
        params={**old.request.params, **request.params},
        op_kwargs=op_kwargs,
        switches=old.request.switches,
        preset=old.request.preset,
        log_level=old.request.log_level,
        by=request.by,
        request_id=request.request_id,
        request_hash=request.request_hash,
        reuse=_reuse(definition, detail, request),
        replay_of=old.run_id,
        traceparent=request.traceparent,
    )
    known = state.jobs.job(old.job_id)
    job = KnownJob(
        job_id=old.job_id,
        host=known.host if known is not None else old.host,
        definition=definition,
        valid=True,
        snapshot=(old.definition_digest, canonical_json(detail.definition)),
    )
    return command, job, plan_run(definition, command.request())


def _reuse(definition: JobDefinition, detail: RunDetail, request: ReplayCommand) -> Mapping[str, Mapping[str, Any]]:
    names = [step.name for step in definition.steps]
    first = request.from_step
    last_tries = _last_tries(detail.attempts)
    if request.from_failed_step:
        if first:
            raise BadRequest("give from_step or from_failed_step, not both", field="from_step")
        first = next((name for name in names if _did_not_succeed(last_tries.get(name))), "")
        if not first:
            raise BadRequest(f"every step of run {detail.run.run_id} succeeded; name a step", field="from_failed_step")
    if not first:
        return {}
    if first not in names:
        near = difflib.get_close_matches(first, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, names))}"
        raise BadRequest(f"run {detail.run.run_id} has no step {first[:64]!r}; {hint}", field="from_step")
    outputs = {}
    for name in names[: names.index(first)]:
        attempt = last_tries.get(name)
        if attempt is not None and attempt.state is AttemptState.SUCCEEDED:
            outputs[name] = {
                "run_id": detail.run.run_id,
                "rows_affected": attempt.rows_affected,
                "extras_json": attempt.extras_json.decode(),
            }
        else:
            outputs[name] = {"run_id": detail.run.run_id, "no_output": True}
    return outputs


def _refuse_params(state: EngineState, job: KnownJob, plan: RunPlan, request: ReplayCommand) -> str | None:
    """Return why the changed params are refused; those of the replayed run were accepted before."""
    enabled = [step.name for step in plan.steps if step.enabled]
    return state.jobs.refuse_params(job, request.params.keys(), enabled) if request.params else None


def _last_tries(attempts: Sequence[AttemptRecord]) -> dict[str, AttemptRecord]:
    last: dict[str, AttemptRecord] = {}
    for attempt in sorted(attempts, key=lambda item: item.attempt):
        last[attempt.step] = attempt
    return last


def _did_not_succeed(attempt: AttemptRecord | None) -> bool:
    if attempt is None:
        return True
    disabled = attempt.reason is not None and attempt.reason.code == "disabled"
    return attempt.state is not AttemptState.SUCCEEDED and not disabled


def admit(
    state: EngineState, batch: Batch, command: TriggerCommand, job: KnownJob, plan: RunPlan, request: ReplayCommand
) -> TriggerOutcome | KernelError:
    """Queue the replay under the job's current overlap policy, or that of the snapshot if the job is gone."""
    definition = job.definition
    if definition is None:
        raise AssertionError("a replay has its snapshot's definition")
    unknown = [step for step in request.op_kwargs if definition.step(step) is None]
    if unknown:
        return BadRequest(f"run {request.run_id} has no step {unknown[0][:64]!r}", field="step_values")
    try:
        known = repeats.repeated(state, command)
        if known is not None:
            return known
        triggering.refuse_fixed_keys(definition, request.op_kwargs)
        refusal = _refuse_params(state, job, plan, request)
        if refusal is not None:
            return BadRequest(refusal, field="params_json")
        ignored = triggering.check_keys(state, job, plan, command)
        outcome = triggering.admit(state, batch, command, job, definition, plan)
        return replace(outcome, warnings=(*outcome.warnings, *ignored)) if ignored else outcome
    except KernelError as error:
        return error
