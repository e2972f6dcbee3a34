"""Conversion of host messages to the kernel's values. It trusts nothing from the host."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from nomaflow_api.bounds import (
    ENDED_INCARNATIONS,
    INVENTORY,
    KEYS_OF_INSTANCE,
    LABELS_OF_INSTANCE,
    MOST_NUMBER,
    SLOTS_OF_INSTANCE,
    WORKERS_OF_INSTANCE,
    in_range,
)
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import host_pb2, job_pb2
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_api.v1.sealing import LetterError, open_inventory
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, LoadInfo, RefusedLoad, WorkerStatus
from nomaflow_kernel.history.ids import split_attempt_key
from nomaflow_project.jobs.resources import MOST, Resources
from nomaflow_project.reading.names import HOST_NAME
from nomaflow_project.reading.problems import Problem, Severity

_LOG = logging.getLogger(__name__)
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

_INCARNATION = re.compile(r"[A-Za-z0-9_-]{8,64}")
_SENTENCE = 500
_PROBLEMS = 20
_JOB_IDS = 50
_KEYS = 100
_KEY = 400
_FILES = 20
_LABEL = 128


def check_incarnation(text: str) -> None:
    """Accept the random id of an instance.

    :raises BadRequest: if the text is not such an id
    """
    if not _INCARNATION.fullmatch(text):
        raise BadRequest(
            f"incarnation is {text[:80]!r}, expected 8 to 64 letters, digits, '-' or '_'", field="incarnation"
        )


def read_hello(message: gateway.Hello, *, principal: str = "") -> InstanceHello:
    """Return the instance's introduction.

    :param principal: who it proved to be
    :raises KernelError: if it speaks none of our protocol versions
    :raises BadRequest: if a name or number is malformed
    """
    if message.protocol_min > PROTOCOL_MAX or message.protocol_max < PROTOCOL_MIN:
        spoken = f"the host speaks protocol {message.protocol_min} to {message.protocol_max}"
        why = f"{spoken}, this kernel {PROTOCOL_MIN} to {PROTOCOL_MAX}; install the same nomaflow version on both"
        # Its runs stay QUEUED for lack of a host: this line tells the operator why.
        _LOG.warning("host %s on %s is turned away: %s", message.host[:64], message.machine[:64], why)
        told = {"min": str(PROTOCOL_MIN), "max": str(PROTOCOL_MAX)}
        raise KernelError(why, reason="PROTOCOL_UNSUPPORTED", metadata=told)
    if not HOST_NAME.fullmatch(message.host):
        raise BadRequest(
            f"host is {message.host[:80]!r}, expected 1 to 64 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit",
            field="hello.host",
        )
    check_incarnation(message.incarnation)
    for field, count in (("max_async", message.max_async), ("max_sync", message.max_sync)):
        _check_most(count, "steps at once", SLOTS_OF_INSTANCE, field=f"hello.{field}")
    _check_most(len(message.ended_incarnations), "incarnations", ENDED_INCARNATIONS, field="hello.ended_incarnations")
    return InstanceHello(
        host=message.host,
        incarnation=message.incarnation,
        machine=message.machine[:255],
        pid=message.pid,
        version=message.version[:64],
        max_async=message.max_async,
        max_sync=message.max_sync,
        inventory=_read_inventory(message.inventory),
        ended_incarnations=tuple(message.ended_incarnations),
        isolation_mechanism=message.isolation_mechanism[:32],
        watching=message.watching,
        refused_load=_refused_load(message.refused_load) if message.HasField("refused_load") else None,
        principal=principal,
        python=message.python[:32],
        project=message.project[:4096],
        has=_resources(message.has),
        ends_at_us=_moment(message.ends_at_us, "hello.ends_at_us"),
        for_attempt=_attempt_key(message.for_attempt),
        heartbeat=read_heartbeat(message.heartbeat),
    )


def _attempt_key(text: str) -> str:
    _check_most(len(text), "characters", _KEY, field="hello.for_attempt")
    try:
        if text:
            split_attempt_key(text)
    except ValueError as error:
        raise BadRequest(str(error), field="hello.for_attempt") from None
    return text


def _resources(message: host_pb2.Resources) -> Resources:
    _check_most(len(message.labels), "labels", LABELS_OF_INSTANCE, field="hello.has.labels")
    if not 0 <= message.cpu <= MOST["cpu"]:
        raise BadRequest(f"hello.has.cpu is {message.cpu}, expected 0 to {MOST['cpu']:,}", field="hello.has.cpu")
    labels = {name[:_LABEL]: value[:_LABEL] for name, value in message.labels.items()}
    return Resources(cpu=message.cpu, memory_mb=message.memory_mb, gpus=message.gpus, labels=labels)


def read_load(message: gateway.LoadState) -> LoadInfo:
    """Return the result of a load.

    :raises BadRequest: if it has an impossible time
    """
    if message.HasField("refused"):
        return LoadInfo(refused=_refused_load(message.refused))
    loaded = message.loaded
    return LoadInfo(
        generation=min(loaded.generation, MOST_NUMBER),
        jobs=loaded.jobs,
        callables=loaded.callables,
        removed_job_ids=tuple(job_id[:_SENTENCE] for job_id in loaded.removed_job_ids[:_JOB_IDS]),
        added_job_ids=tuple(job_id[:_SENTENCE] for job_id in loaded.added_job_ids[:_JOB_IDS]),
        stopped_schedules=tuple(name[:_SENTENCE] for name in loaded.stopped_schedules[:_JOB_IDS]),
        removed_count=loaded.removed_count,
        added_count=loaded.added_count,
        stopped_count=loaded.stopped_count,
        problems=_problems(message.problems),
    )


def _check_most(count: int, noun: str, most: int, *, field: str) -> None:
    if count > most:
        raise BadRequest(f"{field} has {count:,} {noun}, expected at most {most:,}", field=field)


def _moment(at_us: int, field: str) -> int:
    if not in_range(at_us):
        raise BadRequest(f"{field} is {at_us}, expected microseconds from 1970 to 9999", field=field)
    return at_us


def _refused_load(message: job_pb2.RefusedLoad) -> RefusedLoad:
    return RefusedLoad(
        at_us=_moment(message.at.seconds * 1_000_000 + message.at.nanos // 1000, "refused_load.at"),
        message=message.message[:_SENTENCE],
        problems=_problems(message.problems),
    )


def _problems(messages: Sequence[job_pb2.Problem]) -> tuple[Problem, ...]:
    return tuple(
        Problem(
            severity=Severity.WARNING if each.severity == "warning" else Severity.ERROR,
            code=each.code[:64],
            file=each.file[:_SENTENCE],
            path=each.path[:_SENTENCE],
            message=each.message[:_SENTENCE],
            fix=each.fix[:_SENTENCE],
            line=each.line,
        )
        for each in messages[:_PROBLEMS]
    )


def _read_inventory(letter: bytes) -> tuple[InventoryLine, ...]:
    try:
        inventory = open_inventory(letter) if letter else []
    except LetterError as error:
        raise BadRequest(str(error), field="hello.inventory") from None
    _check_most(len(inventory), "attempts", INVENTORY, field="hello.inventory")
    return tuple(inventory)


def read_heartbeat(message: gateway.Heartbeat) -> HeartbeatInfo:
    """Return the contents of a heartbeat.

    :raises BadRequest: if it has too many workers or attempts, or an impossible time
    """
    _check_most(len(message.workers), "workers", WORKERS_OF_INSTANCE, field="heartbeat.workers")
    keys = sum(len(item.attempt_keys) for item in message.workers)
    _check_most(keys, "attempts", KEYS_OF_INSTANCE, field="heartbeat.workers.attempt_keys")
    workers = None
    if not message.workers_unchanged:
        workers = tuple(
            WorkerStatus(
                pid=item.pid,
                exclusive=item.exclusive,
                generation=item.generation,
                running=item.running,
                attempt_keys=tuple(key[:_KEY] for key in item.attempt_keys[:_KEYS]),
                rss_bytes=min(item.rss_bytes, MOST_NUMBER),
                started_at_us=_moment(item.started_at_us, "heartbeat.workers.started_at_us"),
            )
            for item in message.workers
        )
    return HeartbeatInfo(
        spilled_bytes=min(message.spilled_bytes, MOST_NUMBER),
        saturated=message.saturated,
        code_newer=message.code_newer,
        draining=message.draining,
        generation=min(message.generation, MOST_NUMBER),
        manifest_digest=message.manifest_digest[:128],
        loaded_at_us=_moment(message.loaded_at_us, "heartbeat.loaded_at_us"),
        loading=message.loading,
        workers=workers,
        newer_files=tuple(name[:_SENTENCE] for name in message.newer_files[:_FILES]),
        drain_deadline_us=_moment(message.drain_deadline_at_us, "heartbeat.drain_deadline_at_us") or None,
        sent_at_us=_moment(message.sent_at_us, "heartbeat.sent_at_us"),
    )
