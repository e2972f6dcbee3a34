"""Conversion between the host's values and the messages on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1 import job_pb2, run_pb2
from nomaflow_host.attempt.checks import CheckedStep, CheckOutcome
from nomaflow_host.attempt.messages import (
    AttemptOrder,
    CancelOrder,
    Finished,
    Isolation,
    LogChunk,
    Progress,
    Started,
    TimeoutKind,
)
from nomaflow_host.outbox import Batch, HeldState
from nomaflow_host.session.ports import HostIdentity, HostStatus
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus
from nomaflow_project.reading.problems import Problem

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "cancel_from",
    "check_result",
    "encode_event",
    "hello_message",
    "load_message",
    "loaded_message",
    "order_from",
    "report_request",
    "steps_from",
    "worker_messages",
]

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

_MAX_TEXT = 16 << 10
_MAX_ITEMS = 100
_MAX_PROBLEMS = 20
_MAX_JOB_IDS = 50
_MAX_SENTENCE = 500
_STATES = {
    "DISPATCHED": run_pb2.ATTEMPT_STATE_DISPATCHED,
    "RUNNING": run_pb2.ATTEMPT_STATE_RUNNING,
    "SUCCEEDED": run_pb2.ATTEMPT_STATE_SUCCEEDED,
    "FAILED": run_pb2.ATTEMPT_STATE_FAILED,
    "CANCELED": run_pb2.ATTEMPT_STATE_CANCELED,
}
_ISOLATION = {
    pb.ISOLATION_SHARED: Isolation.SHARED,
    pb.ISOLATION_EXCLUSIVE: Isolation.EXCLUSIVE,
}
_TIMEOUTS = {pb.TIMEOUT_KIND_STEP: TimeoutKind.STEP, pb.TIMEOUT_KIND_JOB: TimeoutKind.JOB}
_TRIGGERS = {
    run_pb2.TRIGGER_KIND_CRON: "cron",
    run_pb2.TRIGGER_KIND_MANUAL: "manual",
    run_pb2.TRIGGER_KIND_API: "api",
    run_pb2.TRIGGER_KIND_CLI: "cli",
    run_pb2.TRIGGER_KIND_CALL_JOB: "call_job",
    run_pb2.TRIGGER_KIND_REPLAY: "replay",
}


def encode_event(event: Started | LogChunk | Progress | Finished) -> bytes:
    """Return the bytes of an ``AttemptEvent``."""
    message = pb.AttemptEvent()
    match event:
        case LogChunk():
            _fill_log(message.log, event)
        case Progress():
            progress = message.progress
            progress.at_us = event.at_us
            progress.progress.CopyFrom(
                run_pb2.Progress(done=event.done, total=event.total, message=_text(event.message))
            )
        case Started():
            started = message.started
            started.at_us = event.at_us
            started.worker_pid = event.worker_pid
            started.generation = event.generation
            started.exclusive = event.exclusive
        case _:
            _fill_finished(message.finished, event)
    return message.SerializeToString()


def report_request(batch: Batch, *, incarnation: str, epoch: int) -> pb.ReportRequest:
    """Return the message that carries a batch."""
    request = pb.ReportRequest(incarnation=incarnation, epoch=epoch)
    for group in batch.groups:
        report = request.attempts.add(attempt_key=group.attempt_key, first_seq=group.first_seq, unknown=group.unknown)
        for data in group.events:
            report.events.add().MergeFromString(data)
    return request


def hello_message(
    *, identity: HostIdentity, status: HostStatus, inventory: Iterable[HeldState], epoch_seen: int
) -> pb.AttachRequest:
    """Return the first message of a session."""
    hello = pb.Hello(
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        host=identity.host,
        incarnation=identity.incarnation,
        boot_id=identity.boot_id,
        machine=_text(identity.machine),
        pid=identity.pid,
        version=identity.version,
        epoch_seen=epoch_seen,
        generation=status.generation,
        manifest_digest=status.manifest_digest,
        max_async=identity.max_async,
        max_sync=identity.max_sync,
        ended_incarnations=identity.ended_incarnations,
        loaded_at_us=status.loaded_at_us,
        isolation_mechanism=status.isolation_mechanism,
        watching=identity.watching,
        loading=status.loading,
    )
    if status.load is not None and not status.load.accepted:
        hello.refused_load.CopyFrom(_refused_message(status.load))
    for held in inventory:
        hello.inventory.add(
            attempt_key=held.attempt_key,
            state=_STATES[held.state],
            last_seq=held.last_seq,
            epoch=held.epoch,
        )
    return pb.AttachRequest(hello=hello)


def load_message(load: LoadOutcome) -> pb.AttachRequest:
    """Return the message with the outcome of a load."""
    if load.accepted:
        return pb.AttachRequest(load_state=pb.LoadState(loaded=loaded_message(load)))
    return pb.AttachRequest(load_state=pb.LoadState(refused=_refused_message(load)))


def loaded_message(load: LoadOutcome) -> pb.Loaded:
    """Return the description of the serving generation after a load."""
    return pb.Loaded(
        generation=load.generation,
        jobs=load.jobs,
        callables=load.callables,
        removed_job_ids=[_sentence(job_id) for job_id in load.removed[:_MAX_JOB_IDS]],
        stopped_schedules=[_sentence(name) for name in load.stopped[:_MAX_JOB_IDS]],
        added_job_ids=[_sentence(job_id) for job_id in load.added[:_MAX_JOB_IDS]],
    )


def _refused_message(load: LoadOutcome) -> job_pb2.RefusedLoad:
    """Return a refused load, short enough for the session and for every place that shows it."""
    message = job_pb2.RefusedLoad(message=_sentence(load.message))
    message.at.FromMicroseconds(load.at_us)
    for problem in map(Problem.from_json, load.problems[:_MAX_PROBLEMS]):
        message.problems.add(
            severity=problem.severity.value,
            code=problem.code,
            file=_sentence(problem.file),
            path=_sentence(problem.path),
            message=_sentence(problem.message),
            fix=_sentence(problem.fix),
            line=problem.line,
        )
    return message


def _sentence(text: str) -> str:
    text = _text(text)
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"


def worker_messages(workers: Iterable[WorkerStatus]) -> list[pb.HostWorker]:
    """Return the lines of a heartbeat about worker processes."""
    return [
        pb.HostWorker(pid=each.pid, exclusive=each.exclusive, generation=each.generation, running=each.running)
        for each in workers
    ]


def order_from(message: pb.DispatchCommand) -> AttemptOrder:
    """Return the order in a dispatch.

    :raises ValueError: if one of its JSON texts is not UTF-8
    """
    return AttemptOrder(
        attempt_key=message.attempt_key,
        epoch=message.epoch,
        run_id=message.run_id,
        job_id=message.job_id,
        step=message.step,
        attempt=message.attempt,
        callable=message.callable,
        kwargs_json=message.kwargs_json.decode() or "{}",
        strict_keys=tuple(message.strict_keys),
        params_json=message.params_json.decode() or "{}",
        trigger_kind=_TRIGGERS.get(message.trigger.kind, "api"),
        trigger_by=message.trigger.by,
        trigger_at_us=message.trigger.at.ToMicroseconds(),
        prev_rows_affected=message.prev_rows_affected if message.HasField("prev_rows_affected") else None,
        parent_chain=tuple((each.job_id, each.run_id) for each in message.parent_chain),
        previous_steps_json=message.previous_steps_json.decode() or "[]",
        timeout_ms=message.timeout_ms,
        timeout_kind=_TIMEOUTS.get(message.timeout_kind, TimeoutKind.NONE),
        cancel_grace_ms=message.cancel_grace_ms if message.HasField("cancel_grace_ms") else None,
        isolation=_ISOLATION.get(message.isolation, Isolation.BY_KIND),
        log_level=message.log_level or "INFO",
        retry_on_lost=message.retry_on_lost,
        grace_ms=message.grace_ms,
        max_log_bytes=message.max_log_bytes,
        traceparent=message.traceparent,
    )


def steps_from(message: pb.CheckCommand) -> list[CheckedStep]:
    """Return the steps whose values are to be checked.

    :raises ValueError: if one of its JSON texts is not UTF-8
    """
    return [
        CheckedStep(
            step=each.step,
            callable=each.callable,
            kwargs_json=each.kwargs_json.decode() or "{}",
            strict_keys=tuple(each.strict_keys),
            given_keys=tuple(each.given_keys),
        )
        for each in message.steps
    ]


def check_result(command_seq: int, outcome: CheckOutcome, *, settled: bool) -> pb.AttachRequest:
    """Return the answer to a check."""
    result = pb.CheckResult(command_seq=command_seq, settled=settled, checked=outcome.checked)
    for each in outcome.problems[:_MAX_ITEMS]:
        result.problems.add(step=each.step, key=each.key, code=each.code, message=_text(each.message))
    return pb.AttachRequest(check_result=result)


def cancel_from(message: pb.CancelCommand, attempt_key: str = "") -> CancelOrder:
    """Return the request in a cancel.

    :param attempt_key: used if the message itself has none
    """
    return CancelOrder(
        attempt_key=message.attempt_key or attempt_key,
        reason_code=message.reason_code or "canceled_by_user",
        by=message.by,
        why=message.why,
    )


def _fill_log(message: pb.LogChunk, event: LogChunk) -> None:
    message.line_count = event.line_count
    message.first_at_us = event.first_at_us
    message.last_at_us = event.last_at_us
    message.levels = event.levels
    message.codec = pb.LOG_CODEC_JSONL_ZLIB if event.compressed else pb.LOG_CODEC_JSONL
    message.body = event.body


def _fill_finished(message: pb.AttemptFinished, event: Finished) -> None:
    message.at_us = event.at_us
    message.state = _STATES[event.state.value]
    message.peak_rss_bytes = event.peak_rss_bytes
    message.cpu_seconds = event.cpu_seconds
    message.not_started = event.not_started
    if event.error:
        message.error = _text(event.error)
    if event.exception_types:
        message.exception_types.extend(_text(each) for each in event.exception_types[:_MAX_ITEMS])
    if event.warnings:
        message.warnings.extend(_text(each) for each in event.warnings[:_MAX_ITEMS])
    if event.has_result or event.extras_json or event.rows_affected is not None:
        result = message.result
        result.SetInParent()
        result.extras_json = event.extras_json
        if event.rows_affected is not None:
            result.rows_affected = event.rows_affected
    if event.reason_code:
        message.reason.code = event.reason_code
        message.reason.message = _text(event.reason)


def _text(value: str) -> str:
    """Return a text that fits a protobuf string: short, and without lone surrogates."""
    if len(value) > _MAX_TEXT:
        value = value[: _MAX_TEXT - 1] + "…"
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value
