"""Conversion between the host's values and the messages on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from nomaflow_api.bounds import KEYS_OF_INSTANCE, WORKERS_OF_INSTANCE
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1.attempt_inspection_pb2 import InspectAttemptResponse, InspectedProcess, ThreadStack
from nomaflow_api.v1.letters import InventoryLine
from nomaflow_api.v1.message_codec import encode, timestamp
from nomaflow_api.v1.sealing import fitting, seal
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.supervisor.inspecting import Inspection
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus
from nomaflow_project.reading.problems import Problem

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "hello_message",
    "inspect_message",
    "load_message",
    "loaded_message",
    "worker_messages",
]

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

_MAX_PROBLEMS = 20
_MAX_JOB_IDS = 50
_MAX_SENTENCE = 500


def hello_message(
    *,
    identity: HostIdentity,
    status: HostStatus,
    inventory: Sequence[InventoryLine],
    epoch_seen: int,
    kernel_id: str,
) -> pb.AttachRequest:
    """Return the first message of a session.

    :param kernel_id: of the kernel that has had the epoch
    """
    hello = pb.Hello(
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        host=identity.host,
        incarnation=identity.incarnation,
        boot_id=identity.boot_id,
        machine=fitting(identity.machine),
        pid=identity.pid,
        version=identity.version,
        epoch_seen=epoch_seen,
        kernel_id=kernel_id,
        generation=status.generation,
        manifest_digest=status.manifest_digest,
        max_async=identity.max_async,
        max_sync=identity.max_sync,
        ended_incarnations=identity.ended_incarnations,
        loaded_at_us=status.loaded_at_us,
        isolation_mechanism=status.isolation_mechanism,
        watching=identity.watching,
        python=identity.python,
        project=fitting(identity.project),
        loading=status.loading,
        inventory=seal(inventory) if inventory else b"",
        has=encode(job_pb2.Resources, identity.has),
        ends_at_us=identity.ends_at_us,
        for_attempt=identity.for_attempt,
    )
    if status.load is not None and not status.load.accepted:
        hello.refused_load.CopyFrom(_refused_message(status.load))
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


def inspect_message(command_seq: int, seen: Inspection | None) -> pb.InspectResult:
    """Return what was seen of an attempt; None if this host does not run it."""
    if seen is None:
        return pb.InspectResult(command_seq=command_seq, found=False)
    response = InspectAttemptResponse(
        processes=[
            InspectedProcess(
                pid=each.pid,
                ppid=each.parent,
                started_at=timestamp(each.started_at_us),
                state=each.state,
                rss_bytes=each.rss_bytes,
                cpu_seconds=each.cpu_seconds,
                command=fitting(each.command),
            )
            for each in seen.processes
        ],
        stacks=[
            ThreadStack(name=fitting(each.name), frames=map(fitting, each.frames), of_attempt=each.of_attempt)
            for each in seen.stacks
        ],
        note=_sentence(seen.note),
        seen_at=timestamp(seen.seen_at_us),
    )
    return pb.InspectResult(command_seq=command_seq, found=True, response=response)


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
    text = fitting(text)
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"


def worker_messages(workers: Iterable[WorkerStatus]) -> list[pb.HostWorker]:
    """Return the lines of a heartbeat about worker processes: as many, with as many attempts, as a kernel takes."""
    told, room = [], KEYS_OF_INSTANCE
    for each in islice(workers, WORKERS_OF_INSTANCE):
        keys = each.attempt_keys[:room]
        room -= len(keys)
        told.append(
            pb.HostWorker(
                pid=each.pid,
                exclusive=each.exclusive,
                generation=each.generation,
                running=each.running,
                attempt_keys=keys,
                rss_bytes=each.rss_bytes,
                started_at_us=each.started_at_us,
            )
        )
    return told
