"""Reason codes: they explain the state of a run or an attempt.

A code is stable: programs may compare it. ``docs/reason_codes.md`` is generated from :data:`REASONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["REASONS", "Reason", "ReasonInfo", "reason_codes_markdown"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of :data:`REASONS` and one sentence for a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """The meaning of a code and the way out."""

    meaning: str
    advice: str


REASONS: Mapping[str, ReasonInfo] = {
    # Waiting: reasons of QUEUED and RUNNING runs, and of PENDING attempts.
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
    "waiting_for_call": ReasonInfo(
        "A call_job step waits for the run that it started.",
        "Look at that run: nomaflow show.",
    ),
    "host_silent": ReasonInfo(
        "Nothing is heard of the host that runs the step, so nobody can say how it does; it may well go on there.",
        "nomaflow hosts; bring the host back: its log lines and the result arrive then.",
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
    "return_invalid": ReasonInfo(
        "The return value is not one of None, int, dict and StepResult, or holds a value JSON cannot keep.",
        "The error names the path of the value; return plain numbers, strings, lists and dicts.",
    ),
    "never_awaited": ReasonInfo(
        "The callable made a coroutine and let it go without awaiting it: what it was to do has not happened.",
        "Await it; a plain def cannot, so make it an async def, or use pools.sync_engine.",
    ),
    "result_too_large": ReasonInfo(
        "The extras are over max_extras_bytes.",
        "Store the data yourself and return a row count and a key.",
    ),
    # Before the call.
    "reference_invalid": ReasonInfo(
        "The callable's reference is not of the form module.name:attribute.",
        "Correct callable in jobs.toml.",
    ),
    "callable_not_found": ReasonInfo(
        "The reference's module, or the attribute in it, does not exist.",
        "Correct callable in jobs.toml, or deploy the module; the error names what is near.",
    ),
    "import_failed": ReasonInfo(
        "The callable's module raised while it was imported.",
        "Correct the module; the error names its line, and nomaflow check shows it too.",
    ),
    "callable_unsupported": ReasonInfo(
        "What the reference names cannot be a step: a class, a generator, not callable, or positional-only.",
        "Name a function whose parameters can be given by keyword.",
    ),
    "key_unknown": ReasonInfo(
        "An op_kwargs key that the callable does not take, or one edit away from a parameter that nothing gives.",
        "Correct the key, or give the callable **_.",
    ),
    "argument_missing": ReasonInfo(
        "A required parameter that neither op_kwargs, params nor the injections give.",
        "Add the key to op_kwargs or params, or give the parameter a default.",
    ),
    "value_invalid": ReasonInfo(
        "A value does not fit its parameter's annotation, or is not a value of the wire format.",
        "Correct the value, or the annotation.",
    ),
    "environment_missing": ReasonInfo(
        "A value refers to an environment variable that the worker does not have.",
        "Set it for the host, write ${NAME:-default}, or list it in [host] pass_env.",
    ),
    "hook_failed": ReasonInfo(
        "A plugin's hook raised before the call.",
        "Correct the plugin; NOMAFLOW_TRACE_HOOKS=1 shows every hook call.",
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
        "The worker was killed because another step in it would not stop, or code in it spoilt its worker.",
        'The message names the culprit, or what was spoilt; give the culprit isolation = "exclusive".',
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
    "outcome_lost": ReasonInfo(
        "The history was restored from a backup made before the step ended, and the host no longer holds how it did.",
        "Look at what the step has done; run the job again if that is needed.",
    ),
    # Runs.
    "disabled": ReasonInfo("The step is switched off in the job or for this run.", "Nothing."),
    "earlier_step_failed": ReasonInfo("An earlier step ended the run.", "Look at that step."),
    "before_replay": ReasonInfo(
        "A replay starts at a later step, and the run it replays has no output of this one.",
        "Nothing; replay from this step on if it shall run.",
    ),
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
    "kernel_held_up": ReasonInfo(
        "The kernel ran and could not act at the time of the fires: its store failed, or the process was suspended.",
        "Read the kernel's log.",
    ),
    "fire_refused": ReasonInfo(
        "The kernel could not accept the fire: too many runs wait.",
        "nomaflow runs shows what waits.",
    ),
    "job_disabled": ReasonInfo(
        "The job is on its schedule and cannot run: a callable of it cannot be imported, or it had just been removed.",
        "The message names the cause; mend the code and reload the host: nomaflow reload.",
    ),
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


def reason_codes_markdown() -> str:
    """Return docs/reason_codes.md."""
    rows = "\n".join(f"| `{code}` | {info.meaning} | {info.advice} |" for code, info in REASONS.items())
    return (
        "# Reason codes\n\n"
        "Every state of a run or an attempt other than SUCCEEDED carries a reason: one of these codes, and a sentence\n"
        "with the particulars. Codes are stable; sentences may change. This page is generated (`make docs`) from\n"
        "`nomaflow_kernel.history.reasons`.\n\n"
        f"| code | meaning | what to do |\n|---|---|---|\n{rows}\n"
    )
