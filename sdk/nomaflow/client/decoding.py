"""Decodes protobuf messages into the client's own values. No other module reads fields of messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nomaflow.client import values
from nomaflow_api.v1 import job_pb2, run_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from nomaflow_api.v1 import event_pb2, kernel_service_pb2, log_pb2

__all__ = ["event", "host", "instant", "job", "kernel", "log_line", "pause", "problem", "reason", "run", "triggered"]


def instant(stamp: Timestamp) -> datetime | None:
    """Return the aware UTC instant of a timestamp, or None if it is not set."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(tzinfo=UTC)


def _object(text: bytes) -> dict[str, Any]:
    loaded = json.loads(text) if text else {}
    return loaded if isinstance(loaded, dict) else {"": loaded}


def reason(message: run_pb2.Reason) -> values.ReasonView | None:
    """Return the reason, or None if it is empty."""
    return values.ReasonView(code=message.code, message=message.message) if message.code else None


def _progress(message: run_pb2.Progress) -> values.ProgressView:
    total = message.total if message.HasField("total") else None
    return values.ProgressView(done=message.done, total=total, message=message.message)


def attempt_state(number: run_pb2.AttemptState.ValueType) -> str:
    """Return the state's name without its prefix; empty for the unspecified one."""
    return _name(run_pb2.AttemptState, number, "ATTEMPT_STATE_")


def run_state(number: run_pb2.RunState.ValueType) -> str:
    """Return the state's name without its prefix; empty for the unspecified one."""
    return _name(run_pb2.RunState, number, "RUN_STATE_")


def _name(enum: Any, number: int, prefix: str) -> str:
    # A newer kernel may use states that this client does not know: they are shown as their number.
    try:
        name: str = enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)
    return "" if name == "UNSPECIFIED" else name


def _attempt(message: run_pb2.Attempt) -> values.AttemptView:
    result = message.result
    return values.AttemptView(
        attempt_key=message.attempt_key,
        attempt=message.attempt,
        state=attempt_state(message.state),
        reason=reason(message.reason),
        rows_affected=result.rows_affected if result.HasField("rows_affected") else None,
        extras=_object(result.extras_json),
        error=message.error,
        host=message.host,
        incarnation=message.incarnation,
        worker_pid=message.worker_pid,
        generation=message.generation,
        dispatched_at=instant(message.dispatched_at),
        started_at=instant(message.started_at),
        finished_at=instant(message.finished_at),
        progress=_progress(message.progress) if message.HasField("progress") else None,
        peak_rss_bytes=message.peak_rss_bytes,
        cpu_seconds=message.cpu_seconds,
        child_run_id=message.child_run_id,
        child_job_id=message.child_job_id,
    )


def _step(message: run_pb2.Step) -> values.StepView:
    return values.StepView(
        name=message.name,
        index=message.index,
        type=message.type,
        callable=message.callable,
        attempts=tuple(_attempt(one) for one in message.attempts),
    )


def _trigger(message: run_pb2.Trigger) -> values.TriggerView:
    kind = _name(run_pb2.TriggerKind, message.kind, "TRIGGER_KIND_").lower()
    return values.TriggerView(kind=kind or "api", by=message.by, at=instant(message.at))


def run(message: run_pb2.Run) -> values.RunView:
    """Return a run with the steps in the message."""
    cancel, fold = message.cancel, message.fold
    return values.RunView(
        run_id=message.run_id,
        job_id=message.job_id,
        state=run_state(message.state),
        reason=reason(message.reason),
        error=message.error,
        trigger=_trigger(message.trigger),
        rows_affected=message.rows_affected if message.HasField("rows_affected") else None,
        params=_object(message.params_json),
        host=message.host,
        preset=message.preset,
        log_level=message.log_level,
        steps=tuple(_step(one) for one in message.steps),
        parent_chain=tuple(values.AncestorView(job_id=one.job_id, run_id=one.run_id) for one in message.parent_chain),
        queued_at=instant(message.queued_at),
        started_at=instant(message.started_at),
        finished_at=instant(message.finished_at),
        cancel=values.CancelView(requested_at=instant(cancel.requested_at), by=cancel.by, why=cancel.why)
        if message.HasField("cancel")
        else None,
        fold=values.FoldView(first=instant(fold.first), last=instant(fold.last), count=fold.count)
        if message.HasField("fold")
        else None,
        replay_of=message.replay_of,
        log_lines=message.log_lines,
        last_event_seq=message.last_event_seq,
        current_step=message.current_step,
        priority=message.priority,
    )


def event(message: event_pb2.Event) -> values.EventView:
    """Return an event."""
    return values.EventView(
        seq=message.seq,
        at=instant(message.at),
        kind=message.kind,
        run_id=message.run_id,
        job_id=message.job_id,
        step=message.step,
        attempt=message.attempt,
        run_state=run_state(message.run_state),
        attempt_state=attempt_state(message.attempt_state),
        reason=reason(message.reason),
        host=message.host,
        data=_object(message.data_json),
    )


def log_line(message: log_pb2.LogLine) -> values.LogLine:
    """Return a log line; bytes that are not UTF-8 become lone surrogates."""
    return values.LogLine(
        message.seq,
        message.at_us,
        message.level,
        message.logger,
        message.step,
        message.attempt,
        message.message.decode("utf-8", "surrogateescape"),
        message.continued,
        message.shared,
    )


def problem(message: job_pb2.Problem) -> values.ProblemView:
    """Return a problem."""
    return values.ProblemView(
        severity=message.severity,
        code=message.code,
        message=message.message,
        file=message.file,
        path=message.path,
        fix=message.fix,
        line=message.line,
    )


def _refused_load(message: job_pb2.RefusedLoad) -> values.RefusedLoadView:
    problems = tuple(problem(one) for one in message.problems)
    return values.RefusedLoadView(at=instant(message.at), message=message.message, problems=problems)


def pause(message: job_pb2.Pause) -> values.PauseView:
    """Return a pause."""
    return values.PauseView(
        job_id=message.job_id,
        host=message.host,
        by=message.by,
        why=message.why,
        since=instant(message.since),
        until=instant(message.until),
    )


def job(message: job_pb2.Job) -> values.JobView:
    """Return a job."""
    return values.JobView(
        job_id=message.job_id,
        description=message.description,
        host=message.host,
        enabled=message.enabled,
        valid=message.valid,
        removed=message.removed,
        kept=message.kept,
        held=message.held,
        problems=tuple(problem(one) for one in message.problems),
        schedule=message.schedule,
        timezone=message.timezone,
        tags=tuple(message.tags),
        step_names=tuple(message.step_names),
        preset_names=tuple(message.preset_names),
        next_fires=tuple(values.FireView(at=instant(one.at), preset=one.preset) for one in message.next_fires),
        pause=pause(message.pause) if message.HasField("pause") else None,
        why_not_running=message.why_not_running,
        last_run=run(message.last_run) if message.HasField("last_run") else None,
        definition=_object(message.definition_json) if message.definition_json else None,
        digest=message.digest,
    )


def host_state(number: job_pb2.HostState.ValueType) -> str:
    """Return the state's name without its prefix."""
    return _name(job_pb2.HostState, number, "HOST_STATE_")


def _instance(message: job_pb2.Instance) -> values.InstanceView:
    return values.InstanceView(
        incarnation=message.incarnation,
        state=host_state(message.state),
        pid=message.pid,
        machine=message.machine,
        version=message.version,
        generation=message.generation,
        manifest_digest=message.manifest_digest,
        loaded_at=instant(message.loaded_at),
        code_newer=message.code_newer,
        attached_at=instant(message.attached_at),
        last_heartbeat_at=instant(message.last_heartbeat_at),
        max_async=message.max_async,
        max_sync=message.max_sync,
        running=message.running,
        workers=tuple(
            values.WorkerView(pid=one.pid, kind=one.kind, generation=one.generation, running=one.running)
            for one in message.workers
        ),
        spilled_bytes=message.spilled_bytes,
        saturated=message.saturated,
        isolation_mechanism=message.isolation_mechanism,
        refused_load=_refused_load(message.refused_load) if message.HasField("refused_load") else None,
    )


def host(message: job_pb2.Host) -> values.HostView:
    """Return a host with its instances."""
    return values.HostView(
        name=message.name,
        state=host_state(message.state),
        instances=tuple(_instance(one) for one in message.instances),
        manifest_digest=message.manifest_digest,
        introduced_at=instant(message.introduced_at),
        job_count=message.job_count,
        callable_count=message.callable_count,
        problems=tuple(problem(one) for one in message.problems),
        queued=message.queued,
        pause=pause(message.pause) if message.HasField("pause") else None,
    )


def kernel(message: kernel_service_pb2.GetKernelResponse) -> values.KernelView:
    """Return the description of a kernel."""
    return values.KernelView(
        version=message.version,
        epoch=message.epoch,
        pid=message.pid,
        store=message.store,
        started_at=instant(message.started_at),
        project=message.project,
        last_event_seq=message.last_event_seq,
        store_id=message.store_id,
        pruned_through_seq=message.pruned_through_seq,
    )


def triggered(message: kernel_service_pb2.TriggerRunResponse) -> values.Triggered:
    """Return the answer to an accepted trigger."""
    return values.Triggered(
        run_id=message.run_id,
        deduplicated=message.deduplicated,
        state=run_state(message.state) or ("QUEUED" if message.run_id else ""),
        reason=reason(message.reason),
        warnings=tuple(message.warnings),
    )
