"""Turn a trigger request into a queued or skipped run."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from nomaflow_kernel.domain.errors import (
    BadRequest,
    JobUnavailable,
    QuotaExceeded,
    UnknownJob,
)
from nomaflow_kernel.engine import repeats, stopping
from nomaflow_kernel.engine.active import ActiveRun
from nomaflow_kernel.engine.commands import KnownJob, TriggerCommand, TriggerOutcome, UnrunCommand
from nomaflow_kernel.engine.plan import RunPlan
from nomaflow_kernel.engine.state import NO_HOST, Batch, EngineState, LastFold
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.port import ApplyResult, RunOfRequest
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.records import CancelRequest, Fold, QueuedRun, RunRecord, RunTrigger, TriggerKind
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import FoldRun, QueueRun
from nomaflow_project.jobs.callables import refuse_op_kwargs
from nomaflow_project.jobs.definitions import JobDefinition, Overlap

__all__ = [
    "admit",
    "check_keys",
    "examine",
    "record_unrun",
    "refuse_fixed_keys",
    "settle_folds",
    "trigger",
]


def trigger(state: EngineState, batch: Batch, command: TriggerCommand) -> TriggerOutcome:
    """Create a run for the command, QUEUED or SKIPPED.

    :raises UnknownJob: if the catalogue has no such job
    :raises JobUnavailable: if it is malformed, its callables cannot be imported, or its host no longer brings it
    :raises BadRequest: if a name, a param or a key of the request does not fit the job
    :raises RequestIdReused: if the request id was used for another request
    """
    known = repeats.repeated(state, command)
    if known is not None:
        return known
    job, definition = _find_job(state, command.job_id)
    plan = _check_request(state, job, definition, command)
    ignored = check_keys(state, job, plan, command)
    outcome = admit(state, batch, command, job, definition, plan)
    return replace(outcome, warnings=(*outcome.warnings, *ignored)) if ignored else outcome


def examine(state: EngineState, command: TriggerCommand) -> tuple[KnownJob, RunPlan]:
    """Return the job and plan of the run that a command would create. Nothing is created, and no request id is checked.

    :raises KernelError: as `trigger`
    """
    job, definition = _find_job(state, command.job_id)
    return job, _check_request(state, job, definition, command)


def _find_job(state: EngineState, job_id: str) -> tuple[KnownJob, JobDefinition]:
    job = state.jobs.job(job_id)
    if job is None:
        raise UnknownJob(job_id, state.jobs.near(job_id))
    if job.removed:
        raise JobUnavailable(job_id, f"host {job.host!r} no longer has it")
    if not job.valid or job.definition is None:
        raise JobUnavailable(job_id, job.why_invalid or "its definition is malformed")
    if job.why_held:
        raise JobUnavailable(job_id, job.why_held)
    return job, job.definition


def _check_request(state: EngineState, job: KnownJob, definition: JobDefinition, command: TriggerCommand) -> RunPlan:
    steps = [step.name for step in definition.steps]
    if command.preset and definition.preset(command.preset) is None:
        presets = [preset.name for preset in definition.presets]
        raise BadRequest(_unknown("preset", command.preset, presets, job.job_id), field="preset")
    for name in command.switches:
        if name not in steps:
            raise BadRequest(_unknown("step", name, steps, job.job_id), field="step_switches")
    for name in command.op_kwargs:
        if name not in steps:
            raise BadRequest(_unknown("step", name, steps, job.job_id), field="step_values")
    refuse_fixed_keys(definition, command.op_kwargs)
    plan = state.plan(job.digest, definition, command.request())
    # A child inherits its parent's params, and uses those that it can take.
    if command.params and command.kind is not TriggerKind.CALL_JOB:
        enabled = [step.name for step in plan.steps if step.enabled]
        refusal = state.jobs.refuse_params(job, command.params.keys(), enabled)
        if refusal is not None:
            raise BadRequest(refusal, field="params_json")
    return plan


def check_keys(state: EngineState, job: KnownJob, plan: RunPlan, command: TriggerCommand) -> list[str]:
    """Return a warning for each op_kwargs key that its callable ignores; none for a fire, which nobody watches.

    :raises BadRequest: for a misspelt key
    """
    warnings: list[str] = []
    if command.kind is TriggerKind.CRON:
        return warnings
    for step in plan.steps:
        if step.enabled and step.strict_keys and not step.calls_job and step.reuse is None:
            refusal, ignored = state.jobs.check_keys(job, step.callable, step.strict_keys, step.given_keys)
            if refusal is not None:
                raise BadRequest(f"step {step.name!r}: {refusal}", field="step_values")
            warnings += [f"step {step.name!r}: {each}" for each in ignored]
    return warnings


def refuse_fixed_keys(definition: JobDefinition, op_kwargs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse op_kwargs of a run for keys that the type of a step does not let runs set.

    :raises BadRequest: names the first such key, and the keys that may be set
    """
    for step in definition.steps:
        refusal = refuse_op_kwargs(step, op_kwargs.get(step.name, ()))
        if refusal is not None:
            raise BadRequest(refusal, field="step_values")


def _unknown(noun: str, name: str, known: Collection[str], job_id: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known)) or 'none'}"
    return f"job {job_id!r} has no {noun} {name[:64]!r}; {hint}"


def admit(
    state: EngineState,
    batch: Batch,
    command: TriggerCommand,
    job: KnownJob,
    definition: JobDefinition,
    plan: RunPlan,
) -> TriggerOutcome:
    """Queue the run, or record it as SKIPPED, according to the overlap policy."""
    if len(state.waiting) >= state.settings.max_waiting:
        raise QuotaExceeded(f"{len(state.waiting)} runs are waiting, the maximum; try again when fewer are waiting")
    current = state.jobs.job(job.job_id)
    # The policies are those of the job today, even for the replay of an older definition.
    policy = current.definition if current is not None and current.definition is not None else definition
    overlap = Overlap.ALLOW if command.allow_overlap else policy.overlap
    refusal = _overlap_refusal(state, job, policy, overlap)
    if refusal is not None:
        return _record_skip(state, batch, command, job, refusal)
    if overlap is Overlap.CANCEL_RUNNING:
        _cancel_others(state, batch, job.job_id, command)
    return _queue(state, batch, command, job, definition, plan)


def _overlap_refusal(state: EngineState, job: KnownJob, definition: JobDefinition, overlap: Overlap) -> Reason | None:
    if overlap is Overlap.SKIP and state.is_active(job.job_id):
        running = next(iter(state.running.get(job.job_id, ())), "")
        other = f"{running} is still running" if running else f"{state.waiting.of_job(job.job_id)[0]} is still waiting"
        return Reason("overlap", f'skipped: {other} (overlap = "skip")')
    if overlap is Overlap.QUEUE and state.waiting.count_of_job(job.job_id) >= definition.max_queued:
        return Reason("overlap", f"skipped: {definition.max_queued} runs of the job are already waiting (max_queued)")
    return None


def _cancel_others(state: EngineState, batch: Batch, job_id: str, command: TriggerCommand) -> None:
    cancel = CancelRequest(
        at_us=batch.now_us,
        by=command.by or str(command.kind),
        why="a newer run replaces it",
        code="canceled_by_overlap",
    )
    for run_id in [*state.waiting.of_job(job_id), *state.running.get(job_id, ())]:
        stopping.request_cancel(state, batch, run_id, cancel)


def _record(
    state: EngineState, batch: Batch, command: TriggerCommand, job: KnownJob, run_state: RunState, reason: Reason | None
) -> RunRecord:
    priority = job.definition.priority if job.definition else 0
    skipped = run_state is RunState.SKIPPED
    at_us = command.at_us or batch.now_us
    return RunRecord(
        run_id=state.ids.new(),
        job_id=job.job_id,
        host=job.host,
        state=run_state,
        reason=reason,
        trigger=RunTrigger(kind=command.kind, by=command.by, at_us=at_us),
        definition_digest=job.digest,
        request=command.request(),
        priority=priority,
        parent_chain=command.parent_chain,
        queued_at_us=batch.now_us,
        finished_at_us=batch.now_us if skipped else None,
        fold=Fold(first_us=at_us, last_us=at_us, count=1) if skipped else None,
        request_id=command.request_id,
        request_hash=command.request_hash,
        slot=command.slot,
        replay_of=command.replay_of,
    )


def _record_skip(
    state: EngineState, batch: Batch, command: TriggerCommand, job: KnownJob, reason: Reason
) -> TriggerOutcome:
    if command.kind is TriggerKind.CRON:
        once = Fold(first_us=command.at_us, last_us=command.at_us, count=1)
        run_id = _fold(state, batch, command, job, RunState.SKIPPED, reason, once)
        return TriggerOutcome(run_id=run_id, state=RunState.SKIPPED, reason=reason)
    record = _record(state, batch, command, job, RunState.SKIPPED, reason)
    batch.add(QueueRun(run=record, definition_json=job.definition_json))
    _remember_request(state, command, record)
    return TriggerOutcome(run_id=record.run_id, state=RunState.SKIPPED, reason=reason)


def _fold(
    state: EngineState,
    batch: Batch,
    command: TriggerCommand,
    job: KnownJob,
    run_state: RunState,
    reason: Reason,
    fold: Fold,
) -> str:
    """Record fires that do not run, in the row of the fires just before them if the reason is the same."""
    key = (job.job_id, command.preset)
    last = state.last_folds.get(key)
    record = replace(_record(state, batch, command, job, run_state, reason), fold=fold, finished_at_us=batch.now_us)
    row = QueueRun(run=record, definition_json=job.definition_json)
    if last is not None and (last.state, last.code) == (run_state, reason.code):
        batch.add(FoldRun(run_id=last.run_id, last_us=fold.last_us, add_count=fold.count, otherwise=row))
        return last.run_id
    batch.add(row)
    state.last_folds[key] = LastFold(record.run_id, run_state, reason.code)
    return record.run_id


def _queue(
    state: EngineState,
    batch: Batch,
    command: TriggerCommand,
    job: KnownJob,
    definition: JobDefinition,
    plan: RunPlan,
) -> TriggerOutcome:
    record = _record(state, batch, command, job, RunState.QUEUED, None)
    batch.add(QueueRun(run=record, definition_json=job.definition_json))
    run = ActiveRun.new(record, definition, plan)
    lane = job.host if run.needs_host else NO_HOST
    state.waiting.add(
        QueuedRun(
            run_id=record.run_id,
            job_id=job.job_id,
            host=lane,
            priority=record.priority,
            queued_at_us=batch.now_us,
            allow_overlap=command.allow_overlap,
            job_host=job.host,
            preset=command.preset,
            slot_us=record.slot_us,
        )
    )
    state.specs.put(record.run_id, run)
    state.last_folds.pop((job.job_id, command.preset), None)
    state.dirty_hosts.add(lane)
    _remember_request(state, command, record)
    if definition.queue_timeout_seconds is not None:
        due = batch.now + definition.queue_timeout_seconds
        state.timers.add(due, TimerKind.QUEUE_TIMEOUT, record.run_id)
    return TriggerOutcome(run_id=record.run_id, state=RunState.QUEUED, warnings=_warnings(state, job, lane))


def _warnings(state: EngineState, job: KnownJob, lane: str) -> tuple[str, ...]:
    """Return warnings for the person who triggers."""
    warnings = [job.why_kept] if job.why_kept else []
    refused = state.fleet.refused_load(lane)
    if refused is not None:
        mend = f"correct it, then: nomaflow reload {lane}"
        warnings.append(
            f"the newest load of host {lane!r} was refused, so its last good code runs: {refused.summary}; {mend}"
        )
    elif state.fleet.has_newer_code(lane):
        warnings.append(
            f"the code of host {lane!r} on disk is newer than what it has loaded; to load it: nomaflow reload {lane}"
        )
    return tuple(warnings)


def _remember_request(state: EngineState, command: TriggerCommand, run: RunRecord) -> None:
    if command.request_id:
        known = RunOfRequest(run_id=run.run_id, request_hash=command.request_hash, state=run.state)
        state.request_ids.put(command.request_id, known)


def record_unrun(state: EngineState, batch: Batch, command: UnrunCommand) -> str | None:
    """Record fires that will not run as one MISSED row; return its id, or None if the job is unknown."""
    job = state.jobs.job(command.job_id)
    if job is None or job.definition is None:
        return None
    cron = TriggerCommand(
        job_id=command.job_id, kind=TriggerKind.CRON, preset=command.preset, by="schedule", at_us=command.fold.first_us
    )
    return _fold(state, batch, cron, job, RunState.MISSED, command.reason, command.fold)


def settle_folds(state: EngineState, result: ApplyResult) -> None:
    """Let the next fires fold into the rows that replaced removed ones."""
    for schedule, fold in list(state.last_folds.items()):
        made = result.unfolded.get(fold.run_id)
        if made is not None:
            state.last_folds[schedule] = replace(fold, run_id=made)
