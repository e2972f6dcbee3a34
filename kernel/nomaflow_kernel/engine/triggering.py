"""Turn a trigger request into a queued or skipped run."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.errors import BadRequest, JobUnavailable, QuotaExceeded, RemovedJob, UnknownJob
from nomaflow_kernel.engine import explaining, overlap
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.commands import Draft, TriggerCommand, TriggerOutcome, UnrunCommand
from nomaflow_kernel.engine.placement import roomiest
from nomaflow_kernel.engine.replaying import check_bringer, replay_layers, unknown_name
from nomaflow_kernel.engine.run_plan import NO_PLAN, RunPlan, lane_of, plan_run
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.lookups import ApplyResult, RunDetail, RunOfRequest
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import (
    LARGE_REQUEST,
    Fold,
    QueuedRun,
    RunRecord,
    RunRequest,
    RunTrigger,
    TriggerKind,
    is_large,
)
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import FoldRun, QueueRun
from nomaflow_project.jobs.callables import check_keys, misspelt_params, refuse_op_kwargs, refuse_params
from nomaflow_project.jobs.definitions import JobDefinition, Overlap, canonical_json


def trigger(state: EngineState, batch: Batch, command: TriggerCommand) -> TriggerOutcome:
    """Create a run for the command, QUEUED or SKIPPED according to the overlap policy.

    :raises KernelError: as `draft_run`, or if a key of op_kwargs is misspelt
    :raises QuotaExceeded: if too many runs are waiting
    """
    draft = command.draft
    # A replay has no job of the catalogue: who has its id, and where it would run, is looked up again.
    if draft is None or draft.job is None or draft.job is not state.jobs.job(command.job_id):
        draft = draft_run(state, command)
    ignored = _check_keys(state, command, draft)
    of_host, free = state.waiting.count_of_host(draft.host), state.settings.max_waiting - len(state.waiting)
    if of_host >= free:  # so no host can fill the queue for the others: two share two thirds of it, and so on
        raise QuotaExceeded(
            f"{of_host} runs of host {draft.host!r} are waiting, the most while {len(state.waiting)} wait in all; "
            "try again when fewer are waiting"
        )
    mine, most = state.waiting.count_of_author(command.author), state.settings.max_waiting_of_author
    if command.author and mine >= most:
        raise QuotaExceeded(
            f"{command.author} has {mine} waiting, the most runs that [access.quotas] queued_runs allows; "
            "try again when fewer are waiting"
        )
    policy, refusal = overlap.policy_and_refusal(state, draft)
    # Before anything is changed: it may be refused.
    record = _record(state, batch, command, draft, RunState.QUEUED if refusal is None else RunState.SKIPPED, refusal)
    if refusal is not None:
        run_id = _keep_skip(state, batch, record, draft)
        return TriggerOutcome(run_id=run_id, state=RunState.SKIPPED, reason=refusal, warnings=tuple(ignored))
    if policy is Overlap.CANCEL_RUNNING:
        by = f"schedule {command.by}" if command.kind is TriggerKind.CRON else command.by or str(command.kind)
        overlap.cancel_others(state, batch, draft.job_id, by=by)
    return _queue(state, batch, command, draft, record, ignored)


def draft_run(state: EngineState, command: TriggerCommand) -> Draft:
    """Return the run that a command would create. Nothing is created, and no request id is checked.

    :raises UnknownJob: if the catalogue has no such job
    :raises RemovedJob: if its host no longer brings it
    :raises JobUnavailable: if it is malformed, or its callables cannot be imported
    :raises KernelError: if the run to replay has not finished
    :raises BadRequest: if a name, a param or a key of the request does not fit the job, or the replayed run
    """
    replayed, given = command.replayed, command.request
    draft = _of_job(state, command) if replayed is None else _of_run(state, command, replayed)
    definition = draft.definition
    owner = f"job {draft.job_id!r}" if replayed is None else f"run {replayed.run.run_id}"
    steps, presets = [step.name for step in definition.steps], [preset.name for preset in definition.presets]
    if given.preset:
        _check_names("preset", [given.preset], presets, owner, field="preset")
    secret, kept = definition.secret_params, "list it in the job's secret_params, and its value is kept encrypted"
    _check_names("secret param", command.secret_keys, secret, owner, field="secret_keys", otherwise=kept)
    _check_names("step", given.switches, steps, owner, field="step_switches")
    _check_names("step", given.op_kwargs, steps, owner, field="step_values")
    for step in definition.steps:
        # The type of a step may not let runs set all of its keys.
        refusal = refuse_op_kwargs(step, given.op_kwargs.get(step.name, ()))
        if refusal is not None:
            raise BadRequest(refusal, field="step_values")
    # A child inherits its parent's params, and uses those that it can take.
    if given.params and command.kind is not TriggerKind.CALL_JOB:
        enabled = [step.name for step in draft.plan.steps if step.enabled]
        refusal = refuse_params(definition, state.jobs.manifest(draft.host), given.params.keys(), enabled)
        if refusal is not None:
            raise BadRequest(refusal, field="params_json")
    return draft


def warnings_of(state: EngineState, command: TriggerCommand, draft: Draft) -> tuple[str, ...]:
    """Return what the person who triggers such a run would be warned of.

    :raises BadRequest: if a key of op_kwargs is misspelt
    """
    ignored = _check_keys(state, command, draft)
    _, refusal = overlap.policy_and_refusal(state, draft)
    skipped = [f"as things are now, the run would be {refusal.message}"] if refusal is not None else []
    return (*skipped, *_warnings(state, draft, lane_of(draft.plan.first, draft.host)), *ignored)


def _of_job(state: EngineState, command: TriggerCommand) -> Draft:
    job, definition = _runnable(state, command.job_id)
    request = _with_bringer(job, state.secrets.sealed(command.request, definition.secret_params))
    return _draft(job, definition, request, state.plan(definition, request))


def _runnable(state: EngineState, job_id: str) -> tuple[Job, JobDefinition]:
    """Return a job of the catalogue that can run, and its definition.

    :raises UnknownJob: if the catalogue has no such job
    :raises RemovedJob: if its host no longer brings it
    :raises JobUnavailable: if it cannot run
    """
    job = state.jobs.job(job_id)
    if job is None:
        raise UnknownJob(job_id)
    if job.removed:
        raise RemovedJob(job_id, job.host)
    if not job.valid or job.definition is None:
        raise JobUnavailable(job_id, job.why_not_valid or "its definition is malformed")
    if job.loaded.held:
        raise JobUnavailable(job_id, job.loaded.held)
    return job, job.definition


def _with_bringer(job: Job, request: RunRequest) -> RunRequest:
    """Return the request of a run with the host that brought its job, if another one runs it."""
    return replace(request, brought_by=job.loaded.host) if job.of_other_host else request


def _draft(job: Job, definition: JobDefinition, request: RunRequest, plan: RunPlan) -> Draft:
    return Draft(
        job=job,
        job_id=job.job_id,
        host=job.host,
        definition=definition,
        digest=definition.digest,
        definition_json=definition.canonical_json,
        request=request,
        plan=plan,
    )


def _of_run(state: EngineState, command: TriggerCommand, replayed: RunDetail) -> Draft:
    known = state.jobs.job(replayed.run.job_id)
    check_bringer(replayed.run, known)
    if command.current_definition:
        return _of_run_today(state, command, replayed)
    definition = JobDefinition.from_json(replayed.definition)
    request = state.secrets.sealed(replay_layers(definition, replayed, command), definition.secret_params)
    if known is not None and known.of_other_host:
        # The replayed definition may be one that today's host would not have run.
        problem = state.jobs.objection(known, definition)
        if problem is not None:
            raise JobUnavailable(known.job_id, problem.message)
        request = _with_bringer(known, request)
    return Draft(
        job=None,
        job_id=replayed.run.job_id,
        host=replayed.run.host if known is None else known.host,
        definition=definition,
        digest=replayed.run.definition_digest,
        definition_json=canonical_json(replayed.definition),
        request=request,
        plan=plan_run(definition, request),
    )


def _of_run_today(state: EngineState, command: TriggerCommand, replayed: RunDetail) -> Draft:
    """Return the draft of a replay that runs the job as it is defined now, with the run's layers where they still fit.

    :raises JobUnavailable: if the job cannot run now
    :raises BadRequest: if it no longer has the preset of the run
    """
    job, definition = _runnable(state, replayed.run.job_id)
    request = state.secrets.sealed(replay_layers(definition, replayed, command), definition.secret_params)
    if request.preset:
        presets = [preset.name for preset in definition.presets]
        _check_names("preset", [request.preset], presets, f"job {job.job_id!r}", field="current_definition")
    request = _with_bringer(job, replace(request, brought_by=""))
    # Without the job: it is looked up again when the run is created, as for every replay.
    return replace(_draft(job, definition, request, plan_run(definition, request)), job=None)


def _check_names(
    noun: str, names: Collection[str], known: Collection[str], owner: str, *, field: str, otherwise: str = ""
) -> None:
    for name in names:
        if name not in known:
            raise BadRequest(unknown_name(owner, noun, name, known, otherwise=otherwise), field=field)


def _check_keys(state: EngineState, command: TriggerCommand, draft: Draft) -> list[str]:
    """Return a warning for each misspelt param and all values that nothing uses; none for a fire: nobody watches.

    :raises BadRequest: for a misspelt key
    """
    if command.kind is TriggerKind.CRON:
        return []
    warnings = _misspelt_params(state, command, draft)
    for step in draft.plan.steps:
        if step.runs and not step.calls_job and (strict_keys := step.strict_keys):
            manifest = state.jobs.manifest(draft.host)
            refusal, ignored = check_keys(step.callable, manifest, strict_keys, step.values[0])
            if refusal is not None:
                raise BadRequest(f"step {step.name!r}: {refusal}", field="step_values")
            warnings += [f"step {step.name!r}: {each}" for each in ignored]
        elif command.request.op_kwargs.get(step.name) and not step.runs:
            warnings.append(f"step {step.name!r} does not run, so the values that were given for it are not used")
    return warnings


def _misspelt_params(state: EngineState, command: TriggerCommand, draft: Draft) -> list[str]:
    """Return the warnings of the params that a person gives; a child inherits what its parent has."""
    given = command.request.params
    if not given or command.kind is TriggerKind.CALL_JOB:
        return []
    enabled = [step.name for step in draft.plan.steps if step.enabled]
    return misspelt_params(draft.definition, state.jobs.manifest(draft.host), given.keys(), enabled)


def _record(
    state: EngineState, batch: Batch, command: TriggerCommand, draft: Draft, to: RunState, reason: Reason | None
) -> RunRecord:
    skipped = to is not RunState.QUEUED
    at_us = command.at_us or batch.now_us
    request_hash = command.request_hash
    if request_hash and draft.definition.secret_params:
        request_hash = state.secrets.keyed(request_hash)
    return RunRecord(
        run_id=state.ids.new(),
        job_id=draft.job_id,
        host=draft.host,
        state=to,
        reason=reason,
        trigger=RunTrigger(kind=command.kind, by=command.by, at_us=at_us),
        definition_digest=draft.digest,
        request=draft.request,
        priority=draft.definition.priority,
        parent_chain=command.parent_chain,
        queued_at_us=batch.now_us,
        finished_at_us=batch.now_us if skipped else None,
        fold=Fold(first_us=at_us, last_us=at_us, count=1) if skipped else None,
        request_id=command.request_id,
        request_hash=request_hash,
        slot=command.slot,
        replay_of=command.replay_of,
    )


def _keep_skip(state: EngineState, batch: Batch, record: RunRecord, draft: Draft) -> str:
    if record.trigger.kind is TriggerKind.CRON:
        return _fold(state, batch, record, draft)
    batch.add(QueueRun(run=record, definition_json=draft.definition_json))
    _remember_request(state, record)
    return record.run_id


def _fold(state: EngineState, batch: Batch, record: RunRecord, draft: Draft) -> str:
    """Record fires that do not run, in the row of the fires just before them if the reason is the same."""
    key = (record.job_id, record.request.preset)
    last, fold = state.last_folds.get(key), record.fold
    row = QueueRun(run=record, definition_json=draft.definition_json)
    if last is not None and fold is not None and (last.state, _code(last)) == (record.state, _code(record)):
        batch.add(FoldRun(run_id=last.run_id, last_us=fold.last_us, add_count=fold.count, otherwise=row))
        return last.run_id
    batch.add(row)
    state.last_folds[key] = record
    return record.run_id


def _code(record: RunRecord) -> str:
    return record.reason.code if record.reason is not None else ""


def _queue(
    state: EngineState,
    batch: Batch,
    command: TriggerCommand,
    draft: Draft,
    record: RunRecord,
    ignored: Collection[str],
) -> TriggerOutcome:
    batch.add(QueueRun(run=record, definition_json=draft.definition_json))
    lane = lane_of(draft.plan.first, draft.host)
    large = is_large(record.request) or (
        command.replayed is not None
        and len(draft.definition_json) > LARGE_REQUEST  # its copy of the definition is its own
    )
    entry = QueuedRun(
        run_id=record.run_id,
        job_id=record.job_id,
        host=lane,
        priority=record.priority,
        queued_at_us=batch.now_us,
        allow_overlap=record.request.allow_overlap,
        job_host=record.host,
        preset=record.request.preset,
        slot_us=record.slot_us,
        author=command.author,
        kind=record.trigger.kind,
        definition_digest="" if record.request.changes_steps else record.definition_digest,
        queue_timeout_seconds=draft.definition.queue_timeout_seconds,
        large=large,
    )
    state.waiting.add(entry)
    if not large:
        state.specs.put(record.run_id, ActiveRun.new(record, draft.definition, draft.plan))
    state.last_folds.pop((record.job_id, record.request.preset), None)
    if lane not in state.dirty_hosts:
        kind = explaining.slot_kind(state, entry)
        if kind is None or roomiest(state.fleet, lane, exclusive=kind) is not None:
            state.dirty_hosts.add(lane)  # else whatever frees a slot does it: its host's other runs need no check now
    _remember_request(state, record)
    if entry.queue_timeout_seconds is not None:
        state.timers.put((TimerKind.QUEUE_TIMEOUT, record.run_id), batch.now + entry.queue_timeout_seconds)
    warnings = (*_warnings(state, draft, lane), *ignored)
    return TriggerOutcome(run_id=record.run_id, state=RunState.QUEUED, warnings=warnings)


def _warnings(state: EngineState, draft: Draft, lane: str) -> list[str]:
    """Return warnings for the person who triggers."""
    warnings = [draft.job.why_kept] if draft.job is not None and draft.job.why_kept else []
    refused = state.fleet.refused_load(lane)
    if refused is not None:
        mend = f"correct it, then: nomaflow reload {lane}"
        then = "its jobs stay as they were" if refused.by_kernel else "its last good code runs"
        warnings.append(f"the newest load of host {lane!r} was refused, so {then}: {refused.summary}; {mend}")
    elif state.fleet.has_newer_code(lane):
        warnings.append(
            f"the code of host {lane!r} on disk is newer than what it has loaded; to load it: nomaflow reload {lane}"
        )
    return warnings


def _remember_request(state: EngineState, run: RunRecord) -> None:
    if run.request_id:
        known = RunOfRequest(run_id=run.run_id, request_hash=run.request_hash, state=run.state)
        state.request_ids.put(run.request_id, known)


def record_unrun(state: EngineState, batch: Batch, unrun: UnrunCommand) -> None:
    """Record fires that will not run as one MISSED row, if the job is known."""
    job = state.jobs.job(unrun.job_id)
    if job is None or job.definition is None:
        return
    request = _with_bringer(job, RunRequest(preset=unrun.preset))
    cron = TriggerCommand(
        job_id=unrun.job_id, kind=TriggerKind.CRON, request=request, by="schedule", at_us=unrun.fold.first_us
    )
    draft = _draft(job, job.definition, request, NO_PLAN)
    record = _record(state, batch, cron, draft, RunState.MISSED, unrun.reason)
    _fold(state, batch, replace(record, fold=unrun.fold), draft)


def settle_folds(state: EngineState, result: ApplyResult) -> None:
    """Let the next fires fold into the rows that replaced removed ones."""
    for schedule, fold in list(state.last_folds.items()) if result.unfolded else ():
        made = result.unfolded.get(fold.run_id)
        if made is not None:
            state.last_folds[schedule] = replace(fold, run_id=made)
