"""Messages to clients about runs, events, jobs and hosts, made from the kernel's own values.

The codec copies fields of the same name; this module handles the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nomaflow_api.bounds import LISTED_WORKERS
from nomaflow_api.v1 import event_pb2, fire_pb2, host_pb2, job_pb2, run_pb2
from nomaflow_api.v1.message_codec import encode, timestamp
from nomaflow_kernel.access.secret_params import hidden
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import Catalogue
from nomaflow_kernel.engine.commands import Draft
from nomaflow_kernel.engine.engine import Engine
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.run_plan import plan_run
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import CancelRequest, EventRecord, PauseRecord, RunRecord, RunRequest
from nomaflow_kernel.rpc.attempt_messages import VALUES_BYTES, AttemptLogs, given_values, step_messages
from nomaflow_kernel.rpc.job_problems import left_out_jobs
from nomaflow_kernel.rpc.pages import listed_problems
from nomaflow_kernel.scheduler.schedules import next_fires
from nomaflow_project.jobs.definitions import JobDefinition

_BEST_FIRST = ("ATTACHED", "LOADING", "DRAINING", "AWAITED", "UNREACHABLE", "DETACHED")


def run_message(run: RunRecord) -> run_pb2.Run:
    """Return a run as listed: without steps and params, which only its job's snapshot holds."""
    return encode(
        run_pb2.Run,
        run,
        run.request,
        cancel=_cancel_message(run.cancel),
        steps=(),
        params_json=b"",
        deadline_at=None,
        definition_json=b"",
        request=None,
    )


def run_detail_message(detail: RunDetail, logs: AttemptLogs | None = None) -> run_pb2.Run:
    """Return a run with its steps, attempts, definition, request and merged params; secret ones are ``***``.

    :param logs: None leaves out what lists do not show: definition and request, the values and logs of attempts
    """
    listed = logs is None
    run, definition = detail.run, JobDefinition.from_json(detail.definition)
    plan = plan_run(definition, run.request)
    params_json = hidden(plan.params_json, definition.secret_params).encode()
    deadline_us = None
    if definition.timeout_seconds is not None and run.started_at_us is not None:
        deadline_us = run.started_at_us + int(definition.timeout_seconds * 1_000_000)
    return encode(
        run_pb2.Run,
        plan,
        run,
        run.request,
        cancel=_cancel_message(run.cancel),
        steps=step_messages(detail, definition, plan, logs),
        params_json=params_json,
        deadline_at=deadline_us,
        definition_json=b"" if listed else detail.definition,
        request=None if listed else _request_message(run.request, definition.secret_params),
    )


def _request_message(request: RunRequest, secret_params: Sequence[str]) -> run_pb2.RunRequest:
    """Return what was asked for, with ``***`` in place of secret values."""

    def shown(values: Mapping[str, Any]) -> bytes:
        return hidden(json.dumps(values, separators=(",", ":")), secret_params).encode() if values else b""

    return run_pb2.RunRequest(
        params_json=shown(request.params),
        step_values=[
            run_pb2.StepValues(step=step, op_kwargs_json=shown(values)) for step, values in request.op_kwargs.items()
        ],
        step_switches=[run_pb2.StepSwitch(step=step, enabled=enabled) for step, enabled in request.switches.items()],
        allow_overlap=request.allow_overlap,
    )


def planned_values(draft: Draft) -> list[run_pb2.StepValues]:
    """Return what each step that would run gets, merged from all layers, up to 2 MiB; secret values are ``***``."""
    found, left = [], VALUES_BYTES
    for step in draft.plan.steps:
        if step.runs:
            values = given_values(step, draft.definition.secret_params)
            left -= len(values)
            if left < 0:
                break
            found.append(run_pb2.StepValues(step=step.name, op_kwargs_json=values))
    return found


def _cancel_message(cancel: CancelRequest | None) -> run_pb2.CancelRequest | None:
    return None if cancel is None else encode(run_pb2.CancelRequest, cancel, requested_at=cancel.at_us)


def event_message(event: EventRecord) -> event_pb2.Event:
    """Return the message of an event."""
    subject = event.kind.partition(".")[0]
    return encode(
        event_pb2.Event,
        event,
        run_state=event.state if subject == "run" else "",
        attempt_state=event.state if subject == "attempt" else "",
    )


def pause_message(pause: PauseRecord | None) -> job_pb2.Pause | None:
    """Return the message of a pause; None for None."""
    if pause is None:
        return None
    of_job, of_host = pause.scope == "job", pause.scope == "host"
    return encode(job_pb2.Pause, pause, job_id=pause.name if of_job else "", host=pause.name if of_host else "")


def job_message(
    entry: Job, *, now_us: int, fires: int, pause: PauseRecord | None, why_not_running: str, last_run: RunRecord | None
) -> job_pb2.Job:
    """Return a job of the catalogue, without its definition. One whose id is another host's has none of its runs.

    :param fires: number of next fires to compute
    """
    definition, loaded = entry.definition or _NO_DEFINITION, entry.loaded
    coming = next_fires(definition, after_us=now_us, limit=fires) if entry.runnable else ()
    if entry.foreign:  # the engine knows only the job that has the id
        why_not_running = entry.why_not_valid if entry.owner == loaded.host else ""
    return encode(
        job_pb2.Job,
        entry,
        loaded,
        definition,
        kept=loaded.kept and entry.runnable,
        held=loaded.held if entry.runnable else "",
        step_names=[step.name for step in definition.steps],
        preset_names=[preset.name for preset in definition.presets],
        problems=[] if entry.removed else listed_problems(loaded.problems),
        digest=definition.digest if entry.definition else "",
        next_fires=[fire_pb2.Fire(at=timestamp(at), preset=preset) for at, preset in coming],
        pause=pause_message(pause),
        why_not_running=why_not_running,
        last_run=None if entry.foreign or last_run is None else run_message(last_run),
        definition_json=b"",
    )


_INSTANCES_BYTES = 512 * 1024
_LONG_FIELDS: Sequence[Literal["workers", "newer_files", "refused_load"]] = ("workers", "newer_files", "refused_load")
_NO_DEFINITION = JobDefinition(id="", timezone="", steps=())


def host_message(name: str, instances: Sequence[Instance], *, catalogue: Catalogue, engine: Engine) -> host_pb2.Host:
    """Return a host with its instances."""
    states, known = {instance.state for instance in instances}, catalogue.host(name)
    callables = known.manifest.get("callables")
    return encode(
        host_pb2.Host,
        name=name,
        state=next((state for state in _BEST_FIRST if state in states), "DETACHED"),
        instances=_instance_messages(instances),
        manifest_digest=known.digest,
        introduced_at=known.introduced_at_us or None,
        job_count=len(known.load.jobs),
        callable_count=len(callables) if isinstance(callables, Mapping) else 0,
        problems=listed_problems((*left_out_jobs(catalogue, instances), *known.load.problems)),
        queued=engine.queued_count(name),
        absent_since=engine.absent_since_us(name),
        launched=engine.is_launched(name),
        pause=pause_message(engine.pause_of("", name)),
    )


def _instance_messages(instances: Sequence[Instance]) -> list[host_pb2.Instance]:
    """Return the instances of a host. Beyond a limit in bytes, they come without their long parts."""
    told, size = [], 0
    for instance in instances:
        message = _instance_message(instance)
        if size > _INSTANCES_BYTES:
            for field in _LONG_FIELDS:
                message.ClearField(field)
        size += message.ByteSize()
        told.append(message)
    return told


def _instance_message(status: Instance) -> host_pb2.Instance:
    hello, beat = status.hello, status.heartbeat
    return encode(
        host_pb2.Instance,
        status,
        hello,
        beat,
        loaded_at=beat.loaded_at_us or None,
        attached_at=status.attached_at_us or None,
        last_heartbeat_at=status.last_heartbeat_us or None,
        ends_at=hello.ends_at_us or None,
        workers=[
            encode(
                host_pb2.WorkerInfo,
                worker,
                kind="exclusive" if worker.exclusive else "shared",
                started_at=worker.started_at_us or None,
            )
            for worker in (beat.workers or ())[:LISTED_WORKERS]
        ],
    )
