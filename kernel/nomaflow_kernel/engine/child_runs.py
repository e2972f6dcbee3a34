"""call_job steps, which the kernel runs itself: a child run, and the parent's attempt that waits for it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nomaflow_api.near_names import near_names
from nomaflow_kernel.domain.errors import KernelError, UnknownJob
from nomaflow_kernel.engine import stepping, triggering
from nomaflow_kernel.engine.active_run import ActiveRun
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.engine.run_plan import PlannedStep
from nomaflow_kernel.engine.state import Batch, EngineState
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.reason_texts import Reason
from nomaflow_kernel.history.records import Ancestor, RunRequest, TriggerKind
from nomaflow_kernel.history.states import AttemptState, RunState
from nomaflow_kernel.history.transitions import AttemptEnd, FinishRun, StartAttempt


def call_job(state: EngineState, batch: Batch, run: ActiveRun) -> None:
    """Start the run that the current step calls; the attempt becomes RUNNING, or FAILED if the run is refused."""
    current = run.attempt
    child = _trigger_child(state, batch, run)
    if isinstance(child, Reason):
        stepping.conclude(state, batch, run, AttemptState.FAILED, child)
        return
    at_us = run.stamp(batch.now_us)
    if current.opened:
        batch.add(StartAttempt(*run.named(), at_us=at_us, child_run_id=child))
    else:
        stepping.open_row(batch, run, AttemptState.RUNNING, started_at_us=at_us, child_run_id=child)
    current.state, current.child_run_id = AttemptState.RUNNING, child
    state.parents[child] = run.run_id
    if current.step.timeout_seconds is not None:
        current.call_due = batch.now + current.step.timeout_seconds
        state.timers.put((TimerKind.CALL_TIMEOUT, run.run_id), current.call_due)


def _trigger_child(state: EngineState, batch: Batch, run: ActiveRun) -> str | Reason:
    """Trigger the child run; return its id, or the reason why it cannot run."""
    step = run.attempt.step
    target = step.target_job_id
    chain = (*run.record.parent_chain, Ancestor(job_id=run.job_id, run_id=run.run_id))
    if any(ancestor.job_id == target for ancestor in chain):
        shown = " → ".join([*(ancestor.job_id for ancestor in chain), target])
        return Reason("call_job_cycle", f"call_job leads back to a job of its own chain: {shown}")
    inherited_of_files, params_of_files = _keys_of_files(state, run, step)
    if not _may_call(state, run, target):
        return Reason("unknown_job", _no_job_to_call(state, run, target))
    request = RunRequest(
        inherited=run.plan.job_params,
        params={**run.plan.run_params, **step.child_params[0]},
        inherited_of_files=inherited_of_files,
        params_of_files=params_of_files,
        log_level=run.plan.asked_log_level,
        traceparent=state.traceparent(run.record),
    )
    command = TriggerCommand(
        job_id=target,
        kind=TriggerKind.CALL_JOB,
        request=request,
        by=f"{run.job_id}/{step.name}",
        parent_chain=chain,
    )
    try:
        outcome = triggering.trigger(state, batch, command)
    except KernelError as error:
        code = {"JOB_NOT_FOUND": "unknown_job", "JOB_DISABLED": "job_unavailable"}.get(error.reason, "child_not_run")
        return Reason(code, error.problem)
    if outcome.state is RunState.SKIPPED:
        why = outcome.reason.message if outcome.reason else "it was skipped"
        return Reason("child_not_run", f"run {outcome.run_id} of job {target!r} did not run: {why}")
    return outcome.run_id


def _caller(state: EngineState, run: ActiveRun) -> str:
    """Return the host whose file a run's definition is from; empty for the kernel's own file.

    Another host may have the job's id by now, whose calls are no business of this run.
    """
    job, bringer = state.jobs.job(run.job_id), run.record.request.brought_by
    of_kernels_file = job is not None and not job.loaded.host and not bringer and run.host in ("", job.host)
    return "" if of_kernels_file else bringer or run.host


def _may_call(state: EngineState, run: ActiveRun, target: str) -> bool:
    """Return whether a run may call a job: one of its own host, or of a host that accepts its calls."""
    job, caller = state.jobs.job(target), _caller(state, run)
    if job is None:
        return False
    owner = job.loaded.host or job.host
    return caller in ("", owner) or state.jobs.accepts_calls(owner, caller)


def _no_job_to_call(state: EngineState, run: ActiveRun, target: str) -> str:
    """Return the sentence on a job that does not exist or may not be called: a team need not learn which."""
    never = (target, run.job_id)
    callable_ = (job_id for job_id in state.jobs.ids() if job_id not in never and _may_call(state, run, job_id))
    near = near_names(target, callable_)
    caller = _caller(state, run)
    if near or not caller:
        return UnknownJob(target, near).problem
    return (
        f"host {caller!r} has no job {target[:64]!r}, and no other host has one that accepts its calls "
        f'([host] accept_calls_from = ["{caller}"] in the nomaflow.toml of that one)'
    )


def _keys_of_files(state: EngineState, run: ActiveRun, step: PlannedStep) -> tuple[Sequence[str], Sequence[str]]:
    """Return the keys of the child's inherited and run params that come from files of the host that will run it.

    Values of the kernel's own file count as such everywhere: they are its owner's.
    """
    child = state.jobs.job(step.target_job_id)
    if _caller(state, run) and (child is None or child.host != run.host):
        return (), ()
    plan = run.plan
    of_child, literal_of_child = step.child_params
    literal = plan.literal_run_params.difference(of_child) | literal_of_child
    params = {*plan.run_params, *of_child} - literal
    return sorted(plan.job_params.keys() - plan.literal_job_params), sorted(params)


def child_ended(state: EngineState, batch: Batch, end: FinishRun, extras_json: bytes) -> None:
    """Pass the outcome of a run to the call_job step that waits for it.

    :param extras_json: extras returned by the last step that ran
    """
    run = state.active.get(state.parents.pop(end.run_id, ""))
    if run is None or run.current is None or run.current.child_run_id != end.run_id:
        return
    why = f": {end.reason.message}" if end.reason else ""
    to, reason, error = AttemptState.FAILED, None, end.error
    if run.current.timed_out is not None:
        reason, error = run.current.timed_out, run.current.timed_out.message
    elif end.state is RunState.SUCCEEDED:
        to = AttemptState.SUCCEEDED
    elif end.state is RunState.CANCELED:
        to, reason, error = AttemptState.CANCELED, Reason("child_canceled", f"run {end.run_id} was canceled{why}"), ""
    else:
        reason = Reason("child_failed", f"run {end.run_id} failed{why}")
    # The extras of the child's last step, and facts about the child run.
    child = {"child_run_id": end.run_id, "child_job_id": end.job_id, "child_state": end.state.value}
    extras = json.dumps({**(json.loads(extras_json) if extras_json else {}), **child}, separators=(",", ":"))
    of_step = AttemptEnd(
        state=to,
        reason=reason,
        error=error,
        rows_affected=end.rows_affected,
        extras_json=extras.encode(),
        has_result=True,
    )
    stepping.end_attempt(state, batch, run, of_step)
