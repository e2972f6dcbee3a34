"""Reason codes: why a run or an attempt is where it is.

A code is stable: programs may compare it. ``docs/reason_codes.md`` is generated from :data:`REASONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["REASONS", "Reason", "ReasonInfo"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of :data:`REASONS` and one sentence for a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """What a code means and what to do about it."""

    meaning: str
    advice: str


REASONS: Mapping[str, ReasonInfo] = {
    # Waiting: reasons of QUEUED runs and PENDING attempts.
    "waiting_for_slot": ReasonInfo(
        "The host has no free slot, or max_parallel is reached.",
        "Wait, raise max_async or max_sync of the host, or max_parallel of the job.",
    ),
    "waiting_for_host": ReasonInfo(
        "No instance of the host is attached.",
        "Start the host: nomaflow host DIR; nomaflow hosts shows who is there.",
    ),
    "waiting_for_overlap": ReasonInfo(
        "Another run of the job is active and the overlap policy is queue or cancel_running.",
        "Wait for it or cancel it; run --overlap allow insists.",
    ),
    "waiting_for_retry": ReasonInfo(
        "The step failed and waits for its back-off before the next attempt.",
        "Wait, or cancel the run.",
    ),
    "waiting_for_resume": ReasonInfo(
        "The job, its host or everything is paused.",
        "nomaflow resume, with the job's id for one job.",
    ),
    # Outcomes of the code.
    "step_failed": ReasonInfo(
        "The callable raised an exception, StepFailed included.",
        "Read the error and the traceback in the run's log.",
    ),
    "step_cancelled": ReasonInfo(
        "The callable raised StepCancelled.", "Nothing: the code decided to stop; it is not retried."
    ),
    "raised_by_code": ReasonInfo(
        "The callable raised CancelledError though nobody had asked for a cancel.",
        "Look for a task that the code itself cancels.",
    ),
    "result_refused": ReasonInfo(
        "The return value is not one of None, int, dict and StepResult, or holds a value JSON cannot keep.",
        "The error names the path of the value; return plain numbers, strings, lists and dicts.",
    ),
    "result_too_large": ReasonInfo(
        "The extras are over max_extras_bytes.",
        "Store the data yourself and return a row count and a key.",
    ),
    "bad_reference": ReasonInfo("The callable's reference is malformed.", "Write it as package.module:function."),
    "import_failed": ReasonInfo(
        "The callable's module cannot be imported.", "The error says why; nomaflow check shows it too."
    ),
    "not_found": ReasonInfo(
        "The module has no such function.", "The error names what is near; nomaflow check shows it too."
    ),
    "not_callable": ReasonInfo(
        "The reference names a class, a generator or something that cannot be called.",
        "Name a function, or an object with __call__.",
    ),
    "bad_arguments": ReasonInfo(
        "The callable cannot take the keys or values it was given.",
        "The error names the parameter; correct op_kwargs or the signature.",
    ),
    "unset_variable": ReasonInfo(
        "A ${NAME} in params or op_kwargs has no value and no default.",
        "Set the variable in the host's environment, or write ${NAME:-default}.",
    ),
    # Stopping.
    "canceled_by_user": ReasonInfo("A person or a client asked for a cancel.", "Nothing."),
    "canceled_by_overlap": ReasonInfo(
        "A newer run of the job replaced it (overlap = cancel_running).",
        "Nothing, or choose another overlap policy.",
    ),
    "canceled_by_parent": ReasonInfo("The run that called it was cancelled.", "Look at the parent run."),
    "child_canceled": ReasonInfo("The run that a call_job step waited for was cancelled.", "Look at the child run."),
    "timed_out": ReasonInfo(
        "The step ran longer than its timeout_seconds; its code has been stopped.",
        "Raise timeout_seconds or make the step shorter; it is retried like any failure.",
    ),
    "job_timed_out": ReasonInfo(
        "The run took longer than the job's timeout_seconds; its code has been stopped.",
        "Raise the job's timeout_seconds; it is not retried.",
    ),
    "queue_timed_out": ReasonInfo(
        "The run waited longer than queue_timeout_seconds and never started.",
        "See what it waited for, or raise queue_timeout_seconds.",
    ),
    # Processes.
    "worker_died": ReasonInfo(
        "The worker process ended by itself while the step ran.",
        "The message names the signal or exit code; look for os._exit, native crashes or memory.",
    ),
    "worker_killed": ReasonInfo(
        "The worker was killed because another step in it would not stop.",
        'The message names the culprit; give it isolation = "exclusive".',
    ),
    "memory_limit": ReasonInfo(
        "The worker's processes were over memory_mb.", "Raise memory_mb, or work in smaller pieces."
    ),
    "process_limit": ReasonInfo(
        "The worker had more processes than max_processes.", "Raise max_processes, or start fewer."
    ),
    "worker_start_failed": ReasonInfo(
        "The host could not start a worker process for the step.",
        "Read the host's log; it is usually memory or limits.",
    ),
    "host_refused": ReasonInfo(
        "The host had no room for the step after all; it goes back to the queue.",
        "Nothing: it is dispatched again.",
    ),
    "host_draining": ReasonInfo(
        "The host was stopping and the step did not finish before the drain deadline.",
        "Raise drain_seconds, or let steps answer a cancel.",
    ),
    "host_crashed": ReasonInfo(
        "The host's main process died while the step ran, and its successor proved that nothing of it is left.",
        "Read the host's log; the retry policy applies.",
    ),
    "host_lost": ReasonInfo(
        "The host was silent for longer than the grace; whether the step ended cannot be known.",
        "Check the machine. Set retry_on_lost only for steps that may run twice.",
    ),
    # Runs.
    "disabled": ReasonInfo("The step is switched off in the job or for this run.", "Nothing."),
    "earlier_step_failed": ReasonInfo("An earlier step ended the run.", "Look at that step."),
    "reused": ReasonInfo("A replay took over the step's output from the run it replays.", "Nothing."),
    "run_canceled": ReasonInfo("The run was cancelled before this step.", "Nothing."),
    "overlap": ReasonInfo(
        "Another run of the job was active and the overlap policy is skip, or its queue is full.",
        "Wait, or choose another overlap policy; run --overlap allow insists.",
    ),
    "kernel_down": ReasonInfo(
        "The fires fell into a time in which the kernel did not run, and the misfire policy leaves them out.",
        'Choose misfire = "latest" or "all", or a larger misfire_window_seconds.',
    ),
    "paused": ReasonInfo("The fires fell into a pause.", "Nothing."),
    "clock_jumped": ReasonInfo("The clock was set forward over the fires.", "Check the machine's time service."),
    "misfire_window": ReasonInfo(
        "The fire was older than misfire_window_seconds when it could run.", "Raise misfire_window_seconds."
    ),
    "child_not_run": ReasonInfo(
        "The run that a call_job step wanted was SKIPPED or refused.",
        "Look at the child job's overlap policy.",
    ),
    "child_failed": ReasonInfo("The run that a call_job step waited for failed.", "Look at the child run."),
    "call_job_cycle": ReasonInfo("The call_job steps lead back to a job of the chain.", "Break the circle of jobs."),
    "unknown_job": ReasonInfo("The job that a call_job step names does not exist.", "Correct target_job_id."),
    "job_unavailable": ReasonInfo(
        "The job cannot be run: it is malformed, or its host no longer brings it.",
        "nomaflow job ID says why.",
    ),
}
"""Every code with its meaning and the way out."""
