"""Conversion of host messages to the kernel's values. It trusts nothing from the host, and does not unpack logs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import job_pb2, run_pb2
from nomaflow_api.v1.values import ValueCodecError, loads_plain
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_kernel.engine.host_messages import (
    AttemptReport,
    HeartbeatInfo,
    HeldAttempt,
    InstanceHello,
    LoadInfo,
    RefusedLoad,
    ReportedEvent,
    ReportedFinished,
    ReportedLog,
    ReportedProgress,
    ReportedStarted,
    WorkerStatus,
)
from nomaflow_kernel.history.ids import split_attempt_key
from nomaflow_kernel.history.reasons import Reason
from nomaflow_kernel.history.states import AttemptState
from nomaflow_kernel.hosts.errors import ProtocolUnsupported
from nomaflow_project.reading.problems import Problem, Severity

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "InvalidReport",
    "check_incarnation",
    "read_heartbeat",
    "read_hello",
    "read_load",
    "read_report",
]

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

_HOST = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_INCARNATION = re.compile(r"[A-Za-z0-9_-]{8,64}")
_KEY_LENGTH = 400
_INVENTORY = 20_000
_CHUNK_BYTES = 1024 * 1024
_CHUNK_LINES = 1_000_000
_TEXT = 16 * 1024
_SENTENCE = 500
_PROBLEMS = 20
_JOB_IDS = 50
_NUMBER = 2**53
_EXTRAS_BYTES = 2 * 1024 * 1024
_CODECS = (gateway.LOG_CODEC_JSONL, gateway.LOG_CODEC_JSONL_ZLIB)
_OUTCOMES = {
    run_pb2.ATTEMPT_STATE_SUCCEEDED: AttemptState.SUCCEEDED,
    run_pb2.ATTEMPT_STATE_FAILED: AttemptState.FAILED,
    run_pb2.ATTEMPT_STATE_CANCELED: AttemptState.CANCELED,
}
_HELD = {
    run_pb2.ATTEMPT_STATE_DISPATCHED: AttemptState.DISPATCHED,
    run_pb2.ATTEMPT_STATE_RUNNING: AttemptState.RUNNING,
    **_OUTCOMES,
    run_pb2.ATTEMPT_STATE_LOST: AttemptState.LOST,
}


class InvalidReport(Exception):
    """Raised when the events of one attempt break the contract; the text explains how."""


def check_incarnation(text: str) -> None:
    """Accept the random id of an instance.

    :raises BadRequest: if the text is no such id
    """
    if not _INCARNATION.fullmatch(text):
        raise BadRequest(
            f"incarnation is {text[:80]!r}, expected 8 to 64 letters, digits, '-' or '_'", field="incarnation"
        )


def read_hello(message: gateway.Hello) -> InstanceHello:
    """Return the instance's introduction.

    :raises ProtocolUnsupported: if it speaks none of our protocol versions
    :raises BadRequest: if a name or number is malformed
    """
    if message.protocol_min > PROTOCOL_MAX or message.protocol_max < PROTOCOL_MIN:
        raise ProtocolUnsupported(
            offered_min=message.protocol_min,
            offered_max=message.protocol_max,
            kernel_min=PROTOCOL_MIN,
            kernel_max=PROTOCOL_MAX,
        )
    if not _HOST.fullmatch(message.host):
        raise BadRequest(
            f"host is {message.host[:80]!r}, expected 1 to 64 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit",
            field="hello.host",
        )
    check_incarnation(message.incarnation)
    if len(message.inventory) > _INVENTORY:
        raise BadRequest(
            f"the inventory has {len(message.inventory)} attempts, expected at most {_INVENTORY}",
            field="hello.inventory",
        )
    return InstanceHello(
        host=message.host,
        incarnation=message.incarnation,
        boot_id=message.boot_id[:128],
        machine=message.machine[:255],
        pid=message.pid,
        version=message.version[:64],
        generation=min(message.generation, _NUMBER),
        manifest_digest=message.manifest_digest[:128],
        max_async=message.max_async,
        max_sync=message.max_sync,
        inventory=tuple(_held(item) for item in message.inventory),
        ended_incarnations=tuple(message.ended_incarnations[:1000]),
        loaded_at_us=message.loaded_at_us,
        isolation_mechanism=message.isolation_mechanism[:32],
        watching=message.watching,
        loading=message.loading,
        refused_load=_refused_load(message.refused_load) if message.HasField("refused_load") else None,
    )


def read_load(message: gateway.LoadState) -> LoadInfo:
    """Return the result of a load."""
    if message.HasField("refused"):
        return LoadInfo(refused=_refused_load(message.refused))
    loaded = message.loaded
    return LoadInfo(
        generation=min(loaded.generation, _NUMBER),
        jobs=loaded.jobs,
        callables=loaded.callables,
        removed_job_ids=tuple(job_id[:_SENTENCE] for job_id in loaded.removed_job_ids[:_JOB_IDS]),
        added_job_ids=tuple(job_id[:_SENTENCE] for job_id in loaded.added_job_ids[:_JOB_IDS]),
        stopped_schedules=tuple(name[:_SENTENCE] for name in loaded.stopped_schedules[:_JOB_IDS]),
    )


def _refused_load(message: job_pb2.RefusedLoad) -> RefusedLoad:
    return RefusedLoad(
        at_us=message.at.ToMicroseconds(),
        message=message.message[:_SENTENCE],
        problems=tuple(
            Problem(
                severity=Severity.WARNING if each.severity == "warning" else Severity.ERROR,
                code=each.code[:64],
                file=each.file[:_SENTENCE],
                path=each.path[:_SENTENCE],
                message=each.message[:_SENTENCE],
                fix=each.fix[:_SENTENCE],
                line=each.line,
            )
            for each in message.problems[:_PROBLEMS]
        ),
    )


def _held(item: gateway.HeldAttempt) -> HeldAttempt:
    try:
        _check_key(item.attempt_key)
    except InvalidReport as error:
        raise BadRequest(str(error), field="hello.inventory") from None
    state = _HELD.get(item.state)
    if state is None:
        raise BadRequest(
            f"attempt {item.attempt_key!r} is held in state number {item.state}, "
            "expected DISPATCHED, RUNNING or a terminal state",
            field="hello.inventory",
        )
    return HeldAttempt(
        attempt_key=item.attempt_key,
        state=state,
        last_seq=min(item.last_seq, _NUMBER),
        epoch=min(item.epoch, _NUMBER),
    )


def read_heartbeat(message: gateway.Heartbeat) -> HeartbeatInfo:
    """Return the contents of a heartbeat."""
    workers = None
    if not message.workers_unchanged:
        workers = tuple(
            WorkerStatus(pid=item.pid, exclusive=item.exclusive, generation=item.generation, running=item.running)
            for item in message.workers
        )
    return HeartbeatInfo(
        running=message.running,
        spilled_bytes=min(message.spilled_bytes, _NUMBER),
        saturated=message.saturated,
        code_newer=message.code_newer,
        draining=message.draining,
        generation=min(message.generation, _NUMBER),
        manifest_digest=message.manifest_digest[:128],
        loaded_at_us=message.loaded_at_us,
        loading=message.loading,
        workers=workers,
    )


def read_report(message: gateway.AttemptReport) -> AttemptReport:
    """Return the events of one attempt.

    :raises InvalidReport: if they break the contract
    """
    _check_key(message.attempt_key)
    if message.unknown:
        if message.events:
            raise InvalidReport("unknown is set, and there are events; expected one or the other")
        return AttemptReport(attempt_key=message.attempt_key, first_seq=0, unknown=True)
    if not 1 <= message.first_seq <= _NUMBER:
        raise InvalidReport(f"first_seq is {message.first_seq}, expected the number of the first event, from 1")
    return AttemptReport(
        attempt_key=message.attempt_key, first_seq=message.first_seq, events=_read_events(message.events)
    )


def _check_key(key: str) -> None:
    if len(key) > _KEY_LENGTH:
        raise InvalidReport(f"attempt_key has {len(key)} characters, expected at most {_KEY_LENGTH}")
    try:
        split_attempt_key(key)
    except ValueError as error:
        raise InvalidReport(str(error)) from None


def _read_events(events: Sequence[gateway.AttemptEvent]) -> tuple[ReportedEvent, ...]:
    read: list[ReportedEvent] = []
    for index, event in enumerate(events):
        kind = event.WhichOneof("event")
        if kind == "log":
            read.append(_read_log(event.log))
        elif kind == "started":
            read.append(_read_started(event.started))
        elif kind == "progress":
            read.append(_read_progress(event.progress))
        elif kind == "finished":
            if index != len(events) - 1:
                raise InvalidReport("there are events after finished, expected it to be the last")
            read.append(_read_finished(event.finished))
        else:
            raise InvalidReport(
                f"event {index} is of a kind this kernel does not know; install the same version on both"
            )
    return tuple(read)


def _read_started(message: gateway.AttemptStarted) -> ReportedStarted:
    return ReportedStarted(
        at_us=message.at_us,
        worker_pid=message.worker_pid,
        generation=min(message.generation, _NUMBER),
        exclusive=message.exclusive,
    )


def _read_log(message: gateway.LogChunk) -> ReportedLog:
    if not 1 <= message.line_count <= _CHUNK_LINES:
        raise InvalidReport(f"a log chunk of {message.line_count} lines, expected 1 to {_CHUNK_LINES}")
    if message.codec not in _CODECS:
        raise InvalidReport(f"a log chunk with codec number {message.codec}, expected JSONL or JSONL_ZLIB")
    if not 0 < len(message.body) <= _CHUNK_BYTES:
        raise InvalidReport(f"a log chunk of {len(message.body)} bytes, expected 1 to {_CHUNK_BYTES}")
    return ReportedLog(
        line_count=message.line_count,
        first_at_us=message.first_at_us,
        last_at_us=message.last_at_us,
        levels=message.levels,
        codec=message.codec,
        body=message.body,
    )


def _read_progress(message: gateway.AttemptProgress) -> ReportedProgress:
    progress = message.progress
    return ReportedProgress(
        at_us=message.at_us,
        done=progress.done if math.isfinite(progress.done) else 0.0,
        total=progress.total if progress.HasField("total") and math.isfinite(progress.total) else None,
        message=progress.message[:1000],
    )


def _read_finished(message: gateway.AttemptFinished) -> ReportedFinished:
    state = _OUTCOMES.get(message.state)
    if state is None:
        raise InvalidReport(f"finished with state number {message.state}, expected SUCCEEDED, FAILED or CANCELED")
    reason = None
    if message.HasField("reason") and message.reason.code:
        reason = Reason(message.reason.code[:64], message.reason.message[:_TEXT])
    result = message.result
    _check_extras(result.extras_json)
    return ReportedFinished(
        at_us=message.at_us,
        state=state,
        reason=reason,
        error=message.error[:_TEXT],
        rows_affected=result.rows_affected if result.HasField("rows_affected") else None,
        extras_json=result.extras_json,
        has_result=message.HasField("result"),
        exception_types=_texts(message.exception_types, 255),
        peak_rss_bytes=min(message.peak_rss_bytes, _NUMBER),
        cpu_seconds=message.cpu_seconds if math.isfinite(message.cpu_seconds) else 0.0,
        warnings=_texts(message.warnings, _TEXT),
        not_started=message.not_started,
    )


def _texts(told: Sequence[str], length: int) -> tuple[str, ...]:
    """Return the first 64 texts, each cut to ``length``; usually there are none."""
    return tuple(text[:length] for text in told[:64]) if told else ()


def _check_extras(extras_json: bytes) -> None:
    if not extras_json:
        return
    if len(extras_json) > _EXTRAS_BYTES:
        raise InvalidReport(f"extras of {len(extras_json)} bytes, expected at most {_EXTRAS_BYTES}")
    try:
        extras = loads_plain(extras_json.decode("utf-8"), path="extras")
    except (UnicodeDecodeError, ValueCodecError) as error:
        raise InvalidReport(f"extras_json cannot be read: {error}") from None
    if not isinstance(extras, dict):
        raise InvalidReport(f"extras_json holds {type(extras).__name__}, expected an object")
