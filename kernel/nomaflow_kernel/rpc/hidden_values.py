"""Parts hidden from a caller without the verb ``logs``: params, results, and texts that code or files have written.

A secret could be in any of them. States, times, counts, reason codes and names stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nomaflow_api.v1 import callable_pb2, event_pb2, host_pb2, job_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.catalogue.registry import ID_OF_ANOTHER
from nomaflow_kernel.catalogue.wording import texts_without_owner
from nomaflow_kernel.history.reason_texts import REASONS

_HIDDEN = "hidden: it needs the grant `logs`"
EVENT_FACTS = frozenset(
    {
        "trigger", "by", "why", "rows_affected", "host", "preset", "slot_us", "started_us", "attempts", "failed_step",
        "not_before_us", "incarnation", "worker_pid", "generation", "child_run_id", "state", "change", "digest",
        "disabled_job_ids", "pid", "machine", "silent_seconds", "jobs", "callables", "removed_job_ids",
        "added_job_ids", "stopped_schedules", "version", "epoch", "previous_end_us", "not_started", "scope",
        "until_us", "released_job_ids", "released", "rung", "what", "at_us", "after_seconds", "next_at_us",
        "removed_count", "added_count", "stopped_count",
    }
)  # fmt: skip
"""The keys of an event's data that hold no text of code or files."""


def run_without_values(run: run_pb2.Run) -> run_pb2.Run:
    """Take params, results and errors out of a run, and return it."""
    run.ClearField("params_json")
    run.ClearField("error")
    run.definition_json = _definition_without_values(run.definition_json)
    run.request.ClearField("params_json") if run.HasField("request") else None
    for given in run.request.step_values:
        given.ClearField("op_kwargs_json")
    _generalise(run)
    for step in run.steps:
        for attempt in step.attempts:
            for field in ("extras_json", "error", "kwargs_json", "warnings"):
                attempt.ClearField(field)
            for rung in attempt.stop.rungs:
                rung.ClearField("why")
            attempt.progress.ClearField("message") if attempt.HasField("progress") else None
            _generalise(attempt)
    return run


def event_without_values(event: event_pb2.Event) -> event_pb2.Event:
    """Take results and texts of code out of an event, and return it."""
    _generalise(event)
    if event.data_json:
        data = json.loads(event.data_json)
        if event.kind == "attempt.stopping":
            data.pop("why", None)  # it may name what the code left behind
        kept: dict[str, Any] = {name: value for name, value in data.items() if name in EVENT_FACTS}
        progress = data.get("progress")
        if isinstance(progress, dict):
            kept["progress"] = {name: progress.get(name) for name in ("done", "total")}
        event.data_json = json.dumps(kept, separators=(",", ":")).encode()
    return event


def job_without_values(job: job_pb2.Job) -> job_pb2.Job:
    """Take params, and texts that quote a file's values, out of a job, and return it."""
    _hide_texts(job.problems)
    if not job.valid:
        job.why_not_running = "it has problems"
    if job.held:
        told = "a callable of it cannot be imported"
        if job.why_not_running == job.held:
            job.why_not_running = told
        job.held = told
    if job.HasField("last_run"):
        run_without_values(job.last_run)
    job.definition_json = _definition_without_values(job.definition_json)
    return job


def _definition_without_values(text: bytes) -> bytes:
    if not text:
        return text
    definition = json.loads(text)
    for part in (definition, *definition.get("steps", ()), *definition.get("presets", ())):
        for name in ("params", "op_kwargs", "step_defaults"):
            if part.get(name):
                part[name] = {}
    if definition.get("alerts"):
        definition["alerts"]["ping_url"] = None  # whoever knows it can report success there
    return json.dumps(definition, separators=(",", ":")).encode()


def job_without_owner(job: job_pb2.Job) -> job_pb2.Job:
    """Take the name of the owning host out of a job whose id is another host's, and return it."""
    job.owner = ""
    for problem in job.problems:
        if problem.code == ID_OF_ANOTHER and problem.message != _HIDDEN:
            problem.message, problem.fix = texts_without_owner(job.job_id)
    return job


def host_without_values(host: host_pb2.Host) -> host_pb2.Host:
    """Take texts that quote a file's values, or an exception's text, out of a host, and return it."""
    _hide_texts(host.problems)
    for instance in host.instances:
        if instance.HasField("refused_load"):
            instance.refused_load.message = _HIDDEN
            _hide_texts(instance.refused_load.problems)
    return host


def callable_without_values(offered: callable_pb2.Callable) -> callable_pb2.Callable:
    """Take defaults and an exception's text out of a callable, and return it."""
    if offered.error:
        offered.error = _HIDDEN
    for parameter in offered.parameters:
        for field in ("default_json", "default_text"):
            parameter.ClearField(field)
        if b'"default"' in parameter.schema_json:  # of a model's field
            parameter.ClearField("schema_json")
    return offered


def module_without_values(module: callable_pb2.PluginModule) -> callable_pb2.PluginModule:
    """Take an exception's text out of a module, and return it."""
    if module.error:
        module.error, module.traceback = _HIDDEN, ""
    return module


def reload_without_values(outcome: kernel.ReloadOutcome) -> kernel.ReloadOutcome:
    """Take texts that quote a file's values, or an exception's text, out of the outcome of a reload, and return it."""
    _hide_texts(outcome.problems)
    if not outcome.accepted:
        outcome.message = _HIDDEN
    return outcome


def reload_without_names(outcome: kernel.ReloadOutcome) -> kernel.ReloadOutcome:
    """Return only whether an instance has loaded its code: who may operate a host need not be allowed to read it."""
    return kernel.ReloadOutcome(
        incarnation=outcome.incarnation, host=outcome.host, accepted=outcome.accepted, generation=outcome.generation
    )


def response_without_values(response: kernel.TriggerRunResponse) -> kernel.TriggerRunResponse:
    """Take warnings, which may quote a file, and the values of steps out of the answer to a trigger, and return it."""
    response.ClearField("steps")
    if response.warnings:
        response.warnings[:] = ["there are warnings, which the grant `logs` shows"]
    return response


def _generalise(message: run_pb2.Run | run_pb2.Attempt | event_pb2.Event) -> None:
    """Replace a reason's sentence, which may quote an exception, by what its code means.

    What a run waits for is the kernel's own sentence, and stays.
    """
    if message.HasField("reason") and not message.reason.code.startswith("waiting_"):
        known = REASONS.get(message.reason.code)
        message.reason.message = "" if known is None else known.meaning


def _hide_texts(problems: Iterable[job_pb2.Problem]) -> None:
    for problem in problems:
        problem.message, problem.fix = _HIDDEN, ""
