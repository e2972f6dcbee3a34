"""Reason codes: they explain the state of a run or an attempt.

A code is stable: programs may compare it. ``docs/reason_codes.md`` is generated from :data:`REASONS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Reason(Struct, frozen=True):
    """A code of :data:`REASONS` and one sentence for a person."""

    code: str
    message: str

    @property
    def fix(self) -> str:
        """The way out that the table has for the code; empty if nothing needs to be done."""
        known = REASONS.get(self.code)
        return "" if known is None or known.advice.startswith("Nothing") else known.advice


class ReasonWithCommand(Reason, frozen=True):
    """A reason that a command ends, with the names that it needs. The store keeps the reason only."""

    command: str

    @property
    def fix(self) -> str:
        """The command."""
        return self.command


class ReasonInfo(Struct, frozen=True):
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
        "No instance of the host is attached, or none has loaded the code that the job is from.",
        "Start the host: nomaflow host DIR, or reload it: nomaflow reload HOST; nomaflow hosts lists the known hosts.",
    ),
    "no_fitting_instance": ReasonInfo(
        "No attached instance of the host has what the step's resources ask for, or lasts as long as its timeout.",
        "Start an instance that has it, or ask for less. nomaflow hosts -o json shows what each has.",
    ),
    "waiting_for_own_instance": ReasonInfo(
        'The step runs in an instance of its own (isolation = "instance", or an image), which does not serve yet.',
        "Wait for the launcher, whose log says why it starts none; or start one: nomaflow host DIR --for-attempt KEY.",
    ),
    "waiting_for_overlap": ReasonInfo(
        "Another run of the job is active and the overlap policy is queue or cancel_running.",
        "Wait for it or cancel it; run --overlap allow starts a run in spite of it.",
    ),
    "waiting_for_retry": ReasonInfo(
        "The step failed, and its next attempt starts after the back-off.",
        "Wait, or cancel the run.",
    ),
    "waiting_for_resume": ReasonInfo(
        "The job, its host or everything is paused.",
        "Run nomaflow resume, with the job's id for one job, or with --host NAME for a host.",
    ),
    "waiting_for_call": ReasonInfo(
        "A call_job step is waiting for the run that it started.",
        "Look at that run: nomaflow show.",
    ),
    "host_silent": ReasonInfo(
        "The host that runs the step is silent. The step's state is unknown; it may still be running.",
        "See nomaflow hosts and bring the host back; its log lines and the result then arrive.",
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
        "The callable raised CancelledError although no cancel was requested.",
        "Read the traceback in the run's log; look for a task that the code itself cancels.",
    ),
    "return_invalid": ReasonInfo(
        "The return value is not None, an int, a dict or a StepResult, or it contains a value that JSON cannot hold.",
        "Return None, an int, a dict or a StepResult; a dict holds text, numbers, bools, None, lists and dicts.",
    ),
    "never_awaited": ReasonInfo(
        "The callable created a coroutine and did not await it, so the coroutine's code did not run.",
        "Await it; a plain def cannot, so make it an async def, or use pools.sync_engine.",
    ),
    "result_too_large": ReasonInfo(
        "The extras are over max_extras_bytes.",
        "Store the data elsewhere and return a row count and a key.",
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
        "The reference names something that cannot be a step: a class, a generator, or not callable by keyword.",
        "Name a function whose parameters can be passed by keyword.",
    ),
    "key_unknown": ReasonInfo(
        "The callable does not take a key of op_kwargs, or the key misspells a parameter without a value.",
        "Correct the key, or give the callable **_.",
    ),
    "argument_missing": ReasonInfo(
        "A required parameter gets no value from op_kwargs, params or the injections.",
        "Add the key to op_kwargs or params, or give the parameter a default.",
    ),
    "value_invalid": ReasonInfo(
        "A value does not fit its parameter's annotation, or is not a value of the wire format.",
        "Correct the value, or the annotation.",
    ),
    "environment_missing": ReasonInfo(
        "A value refers to an environment variable that the host does not have, or withholds.",
        "Set it for the host, write ${NAME:-default}, or list it in [host] pass_env.",
    ),
    "secret_params_unreadable": ReasonInfo(
        "The run's secret params were encrypted with a key that this kernel does not have.",
        "Restore secret-params.key of the state folder, which is not part of a backup, or start the run anew.",
    ),
    "secret_unreadable": ReasonInfo(
        "A file, an encrypted value or a plugin's reference that a value needs cannot be read.",
        "Correct what the message names: the file's permissions, the key, or the reference.",
    ),
    "secret_unavailable": ReasonInfo(
        "The service that has a secret, such as a vault, is away or slow.",
        "Nothing, if the step has retries; otherwise run it again once the service is back.",
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
    "canceled_by_move": ReasonInfo(
        "The run waited for a host that had been away for a minute, and its job names another host now.",
        "Start the job again if the run is still wanted.",
    ),
    "canceled_by_parent": ReasonInfo(
        "The run that started this run was canceled, or its time for this call was over.", "Look at the parent run."
    ),
    "child_canceled": ReasonInfo("The run that a call_job step started was canceled.", "Look at the child run."),
    "timed_out": ReasonInfo(
        "The step ran longer than its timeout_seconds; its code has been stopped.",
        "Raise timeout_seconds or make the step shorter; it is retried like any failure.",
    ),
    "job_timed_out": ReasonInfo(
        "The run took longer than the job's timeout_seconds; its code has been stopped.",
        "Raise the job's timeout_seconds; it is not retried.",
    ),
    "queue_timed_out": ReasonInfo(
        "The run waited longer than queue_timeout_seconds and did not start.",
        "Find out what it waited for, or raise queue_timeout_seconds.",
    ),
    # Processes.
    "worker_died": ReasonInfo(
        "The worker process died while the step was running.",
        "The message names the signal or exit code; look for os._exit, crashes in native code, or memory use, in a "
        "shared worker also in the steps beside it.",
    ),
    "worker_killed": ReasonInfo(
        "The worker was killed because another step in it did not stop, or because code in it damaged it.",
        'The message names the step or the damage; give that step isolation = "exclusive".',
    ),
    "memory_limit": ReasonInfo(
        "The worker's processes used more memory than memory_mb.", "Raise memory_mb, or process less data at a time."
    ),
    "process_limit": ReasonInfo(
        "The worker had more processes than max_processes.", "Raise max_processes, or start fewer."
    ),
    "host_refused": ReasonInfo(
        "The host had no free slot for the step, or could not start a worker, so the step returned to the queue.",
        "Nothing; it is dispatched again. If a worker cannot be started, the message says why.",
    ),
    "host_draining": ReasonInfo(
        "The host was stopping and the step did not finish before the drain deadline.",
        "Raise drain_seconds, or make the steps stop when they are cancelled.",
    ),
    "host_crashed": ReasonInfo(
        "The host's main process died while the step was running; its successor found that no process of it is left.",
        "Read the host's log; the retry policy applies.",
    ),
    "host_ended": ReasonInfo(
        "The host's instance ended while the step was running, as its launcher has declared on evidence of its engine.",
        "The message has the evidence; the retry policy applies, and retry_on_lost.",
    ),
    "host_lost": ReasonInfo(
        "The host was silent for longer than the grace; it is unknown whether the step ended.",
        "Check the machine. With retry_on_lost a step has three tries or more: only for steps that may run twice.",
    ),
    "outcome_lost": ReasonInfo(
        "The history was restored from a backup made before the step ended, and the host no longer has the outcome.",
        "Check what the step has done, and run the job again if needed.",
    ),
    # Runs.
    "disabled": ReasonInfo("The step is disabled in the job or for this run.", "Nothing."),
    "earlier_step_failed": ReasonInfo("An earlier step ended the run.", "Look at that step."),
    "before_replay": ReasonInfo(
        "The replay starts at a later step, and the replayed run has no output of this step.",
        "Nothing; to run this step, replay from it.",
    ),
    "reused": ReasonInfo("The replay reused the step's output from the replayed run.", "Nothing."),
    "run_canceled": ReasonInfo("The run was canceled before this step.", "Nothing."),
    "overlap": ReasonInfo(
        "Another run of the job was active and the overlap policy is skip, or its queue is full.",
        "Choose another overlap policy if every run matters; run --overlap allow starts a run in spite of it.",
    ),
    "kernel_down": ReasonInfo(
        "The kernel was not running when the fires were due, and the misfire policy does not make up for them.",
        'Choose misfire = "latest" or "all", or a larger misfire_window_seconds.',
    ),
    "paused": ReasonInfo("The fires were due during a pause.", "Nothing."),
    "clock_jumped": ReasonInfo("The clock was set forward past the fires.", "Check the machine's time service."),
    "kernel_held_up": ReasonInfo(
        "The kernel could not act when the fires were due: its store failed, or the process was suspended.",
        "Read the kernel's log.",
    ),
    "fire_refused": ReasonInfo(
        "The kernel could not accept the fire: too many runs are waiting, or the preset had just been removed.",
        "The message names the cause. For the waiting runs: nomaflow runs --state QUEUED.",
    ),
    "job_disabled": ReasonInfo(
        "The job cannot run: a callable cannot be imported, it had just been removed, or the host that it names does "
        "not accept it.",
        "The message names the cause and the way out; after a correction: nomaflow reload.",
    ),
    "misfire_window": ReasonInfo(
        "When the fire could run, it was overdue by more than misfire_window_seconds.", "Raise misfire_window_seconds."
    ),
    "child_not_run": ReasonInfo(
        "The run that a call_job step tried to start was SKIPPED or refused.",
        "Look at the child job's overlap policy.",
    ),
    "child_failed": ReasonInfo("The run that a call_job step started has failed.", "Look at the child run."),
    "call_job_cycle": ReasonInfo(
        "The call_job steps lead back to a job of the same chain.", "Remove the cycle of jobs."
    ),
    "unknown_job": ReasonInfo(
        "There is no job of the name that a call_job step gives, or it is another host's, which does not accept calls.",
        "Correct target_job_id; for a job of another host: [host] accept_calls_from in that one's nomaflow.toml.",
    ),
    "job_unavailable": ReasonInfo(
        "The job cannot run: its definition is invalid.",
        "See nomaflow job ID.",
    ),
}
"""Every code with its meaning and the way out."""
