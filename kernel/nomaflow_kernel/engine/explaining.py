"""Explain why a run, or a job, is not progressing."""

from __future__ import annotations

from collections.abc import Container
from shlex import quote

from nomaflow_api.time_spans import time_span
from nomaflow_kernel.engine.active_run import ActiveRun, CurrentAttempt
from nomaflow_kernel.engine.placement import (
    has_code,
    is_at_limit,
    is_exclusive,
    lasts_for,
    missing,
    pick,
    roomiest,
)
from nomaflow_kernel.engine.run_plan import PlannedStep, lane_of
from nomaflow_kernel.engine.state import EngineState
from nomaflow_kernel.history.reason_texts import Reason, ReasonWithCommand
from nomaflow_kernel.history.records import NO_HOST, QueuedRun
from nomaflow_kernel.history.states import AttemptState
from nomaflow_project.jobs.definitions import IsolationChoice, JobDefinition, Overlap, StepDefinition


def holdup(state: EngineState, run_id: str, attempts: Container[str] | None = None) -> Reason | None:
    """Return why a run is not progressing; None if it is over, its step's code is running, or nothing blocks it.

    :param attempts: the attempts that the reason is shown beside; there is none for a run that has another one by now:
        decisions are in memory before they are stored
    """
    entry = state.waiting.get(run_id)
    if entry is not None:
        return waiting_reason(state, entry)
    run = state.active.get(run_id)
    if run is None or run.current is None:
        return None
    if attempts is not None and run.current.opened and run.current.key not in attempts:
        return None
    if run.current.state is AttemptState.PENDING:
        return _pending(state, run, run.current)
    if run.current.child_run_id:
        return ReasonWithCommand(
            "waiting_for_call",
            f"{run.current.child_run_id} of job {run.current.step.target_job_id!r} has not ended",
            f"nomaflow show {run.current.child_run_id}",
        )
    return _silent_host(state, run)


def _pending(state: EngineState, run: ActiveRun, current: CurrentAttempt) -> Reason | None:
    left = current.due - state.clock.monotonic()
    if left > 0:
        return Reason(
            "waiting_for_retry", f"the next attempt of step {current.step.name!r} starts in {time_span(left)}"
        )
    return None if current.step.calls_job else waits(state, run.host, run, current.step)


def _silent_host(state: EngineState, run: ActiveRun) -> Reason | None:
    """Return the reason of a run's attempt whose state is unknown, because its host is silent.

    Another instance of the same host may be attached: it knows nothing about the attempt.
    """
    instance = state.fleet.get(run.instance)
    if instance is None or (instance.link is not None and not instance.unreachable):
        return None
    silent = state.clock.monotonic() - instance.last_heard
    return Reason(
        "host_silent",
        f"the process of host {run.host!r} that runs step {run.attempt.step.name!r} has been silent for"
        f" {time_span(silent)}; the step stays RUNNING until the process is back or its grace ends",
    )


def why_not_running(state: EngineState, job_id: str) -> str:
    """Return in one sentence why no run of a job is running; empty if one is or nothing blocks it."""
    job = state.jobs.job(job_id)
    if job is None or state.running.get(job_id):
        return ""
    if job.removed:
        return f"host {job.host!r} no longer has the job"
    if not job.valid:
        return job.why_not_valid
    if job.loaded.held:
        return job.loaded.held
    waiting = state.waiting.oldest_of_job(job_id)
    lane = job.host if job.definition is None else lane_of(first_of(job.definition), job.host)
    entry = waiting or QueuedRun(run_id="", job_id=job_id, host=lane, job_host=job.host, priority=0, queued_at_us=0)
    reason = waiting_reason(state, entry)
    if reason is not None:
        return reason.message
    if waiting is not None or job.definition is None:
        return ""
    if not job.loaded.enabled and not any(job.definition.schedules()):
        return "its schedule is switched off (enabled = false); it runs when it is started"
    return ""


def waiting_reason(state: EngineState, entry: QueuedRun) -> Reason | None:
    """Return why a waiting run does not start, or None if it may start now."""
    pause = state.pause_of(entry.job_id, entry.job_host)
    if pause is not None:
        what = "everything is" if pause.scope == "all" else f"{pause.scope} {pause.name!r} is"
        why = f": {pause.why}" if pause.why else ""
        whose = {"job": f" {quote(pause.name)}", "host": f" --host {quote(pause.name)}"}.get(pause.scope, "")
        return ReasonWithCommand("waiting_for_resume", f"{what} paused{why}", f"nomaflow resume{whose}")
    definition, running = state.jobs.definition(entry.job_id), len(state.running.get(entry.job_id, ()))
    if definition is not None and running and runs_alone(definition, entry):
        return Reason("waiting_for_overlap", f"another run of job {entry.job_id!r} is active")
    if definition is not None and definition.max_parallel is not None and running >= definition.max_parallel:
        runs, are = ("run", "is") if running == 1 else ("runs", "are")
        why = f"{running} {runs} of job {entry.job_id!r} {are} already running (max_parallel)"
        return Reason("waiting_for_slot", why)
    return _waits_for_host(state, entry)


def runs_alone(job: JobDefinition, entry: QueuedRun) -> bool:
    """Return whether a waiting run may not start while another of its job runs."""
    return job.overlap in (Overlap.QUEUE, Overlap.CANCEL_RUNNING) and not entry.allow_overlap


def slot_kind(state: EngineState, entry: QueuedRun) -> bool | None:
    """Return whether the first step of a waiting run uses an exclusive slot; None if only its data can tell."""
    definition = state.jobs.definition(entry.job_id)
    if definition is None or not entry.definition_digest or definition.digest != entry.definition_digest:
        return None
    first = first_of(definition)
    if first is None or first.calls_job:
        return None
    isolation = definition.isolation_of(first)
    if isolation is IsolationChoice.INSTANCE:
        return None
    return is_exclusive(state, entry.host, isolation, first.callable)


def first_of(definition: JobDefinition) -> StepDefinition | None:
    """Return the first step of a job that is switched on, or None."""
    return next((step for step in definition.steps if step.enabled), None)


def _waits_for_host(state: EngineState, entry: QueuedRun) -> Reason | None:
    if entry.host == NO_HOST:
        return None
    run = state.specs.find(entry.run_id)
    first = None if run is None else run.plan.first
    if run is None or first is None:
        kind = slot_kind(state, entry)
        if kind is None:
            may_start = any(instance.serves_all for instance in state.fleet.of_host(entry.host))
        else:
            may_start = roomiest(state.fleet, entry.host, exclusive=kind) is not None
        return None if may_start else waits(state, entry.host)
    exclusive = is_exclusive(state, entry.host, first.isolation, first.callable)
    return None if pick(state, run, first, exclusive=exclusive) else waits(state, entry.host, run, first)


def waits(state: EngineState, host: str, run: ActiveRun | None = None, step: PlannedStep | None = None) -> Reason:
    """Return the reason why a due attempt waits.

    :param run: the run that it is of, if its data is in memory
    :param step: its step, likewise
    """
    if run is not None and step is not None and step.wants_instance:
        return _waits_for_own(state, run, step)
    serving = [instance for instance in state.fleet.of_host(host) if instance.serves_all]
    if not serving:
        why = f"no instance of host {host!r} takes work"
        if state.fleet.is_launched(host, state.clock.monotonic()):
            coming = f"{why}; its launcher starts one, or says in its log why not"
            return ReasonWithCommand("waiting_for_host", coming, "nomaflow hosts")
        return Reason("waiting_for_host", why)
    if run is not None and step is not None:
        with_code = [instance for instance in serving if has_code(state, run, instance)]
        if not with_code:
            return Reason(
                "waiting_for_host",
                f"no instance of host {host!r} that takes work has loaded the code that the job is from; "
                f"to load it: nomaflow reload {host}",
            )
        if lacking := missing(with_code, step):
            return Reason(
                "no_fitting_instance",
                f"no instance of host {host!r} has what step {step.name!r} needs; the nearest lacks {lacking}",
            )
        if not any(lasts_for(instance, step, state.clock) for instance in with_code):
            return Reason(
                "no_fitting_instance",
                f"the machine of each instance of host {host!r} ends sooner than the timeout of step {step.name!r},"
                f" {time_span(step.timeout_seconds or 0)}",
            )
    if is_at_limit(state, host):
        return _at_limit(state, host)
    return Reason("waiting_for_slot", f"host {host!r} has no free slot")


def _at_limit(state: EngineState, host: str) -> Reason:
    limit = state.jobs.max_parallel(host)
    steps = "1 step" if limit == 1 else f"{limit} steps"
    return Reason("waiting_for_slot", f"host {host!r} is already running {steps} (its max_parallel)")


def _waits_for_own(state: EngineState, run: ActiveRun, step: PlannedStep) -> Reason:
    """Return the reason why a due attempt waits if only an instance of its own may take it."""
    key = run.key_of(step)
    own = state.fleet.own(key)
    if is_at_limit(state, run.host):
        return _at_limit(state, run.host)
    if own is None or own.link is None:
        image = f" with image {step.image!r}" if step.image else ""
        return Reason(
            "waiting_for_own_instance",
            f"step {step.name!r} wants an instance of its own{image}, and none has come for it; a launcher starts one,"
            f" or by hand: nomaflow host DIR --for-attempt {quote(key)}",
        )
    who = f"the instance for step {step.name!r}, process {own.hello.pid} on {own.hello.machine}"
    if own.serves and not has_code(state, run, own):
        return Reason("waiting_for_own_instance", f"{who}, has not loaded the code that the job is from")
    if lacking := missing([own], step):
        return Reason("no_fitting_instance", f"{who}, lacks {lacking}")
    if not lasts_for(own, step, state.clock):
        return Reason(
            "no_fitting_instance", f"{who}, ends sooner than the step's timeout, {time_span(step.timeout_seconds or 0)}"
        )
    return Reason("waiting_for_own_instance", f"{who}, takes no work yet")
