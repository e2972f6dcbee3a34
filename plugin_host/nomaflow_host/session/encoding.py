"""Conversion between the host's values and the messages on the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

from nomaflow_api.bounds import WORKERS_OF_INSTANCE
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1 import job_pb2
from nomaflow_api.v1.message_codec import encode
from nomaflow_api.v1.sealing import fitting, seal
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.supervisor.values import LoadOutcome, WorkerStatus
from nomaflow_project.reading.problems import Problem

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

_MAX_PROBLEMS = 20
_MAX_PROBLEMS_OF_ANSWER = 50  # the stream of a session is for small messages; the manifest has all problems
_MAX_JOB_IDS = 50
_MAX_SENTENCE = 500


def hello_message(
    *,
    identity: HostIdentity,
    status: HostStatus,
    outbox: Outbox,
    epoch_seen: int,
    kernel_id: str,
) -> pb.AttachRequest:
    """Return the first message of a session.

    :param kernel_id: of the kernel that had the epoch
    """
    load, inventory = status.load, outbox.inventory()
    hello = encode(
        pb.Hello,
        identity,
        status,
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        machine=fitting(identity.machine),
        project=fitting(identity.project),
        epoch_seen=epoch_seen,
        kernel_id=kernel_id,
        heartbeat=heartbeat(status, outbox, workers_told=status.workers),
        inventory=seal(inventory) if inventory else b"",
        refused_load=None if load is None or load.accepted else _refused_message(load),
    )
    return pb.AttachRequest(hello=hello)


def heartbeat(status: HostStatus, outbox: Outbox, *, workers_told: tuple[WorkerStatus, ...] | None) -> pb.Heartbeat:
    """Return a heartbeat.

    :param workers_told: those of the heartbeat before; None if it is the session's first
    """
    unchanged = workers_told == status.workers
    return encode(
        pb.Heartbeat,
        status,
        outbox,
        sent_at_us=time.time_ns() // 1000,
        code_newer=bool(status.newer_files),
        newer_files=[fitting(name) for name in status.newer_files],
        workers=[] if unchanged else status.workers[:WORKERS_OF_INSTANCE],
        workers_unchanged=unchanged,
    )


def reload_message(command_seq: int, outcome: LoadOutcome) -> pb.AttachRequest:
    """Return the answer to a reload."""
    result = encode(
        pb.ReloadResult,
        outcome,
        command_seq=command_seq,
        manifest_digest=outcome.digest,
        problems_json=json.dumps([each.to_json() for each in outcome.problems[:_MAX_PROBLEMS_OF_ANSWER]]).encode(),
        loaded=loaded_message(outcome) if outcome.accepted else None,
    )
    return pb.AttachRequest(reload_result=result)


def load_message(load: LoadOutcome) -> pb.AttachRequest:
    """Return the message with the outcome of a load."""
    if load.accepted:
        # Problems of single jobs are the kernel's to tell: it finds them in the manifest.
        told = pb.LoadState(
            loaded=loaded_message(load),
            problems=_problem_messages([each for each in load.problems if not each.job_id]),
        )
        return pb.AttachRequest(load_state=told)
    return pb.AttachRequest(load_state=pb.LoadState(refused=_refused_message(load)))


def loaded_message(load: LoadOutcome) -> pb.Loaded:
    """Return the description of the serving generation after a load."""
    return encode(
        pb.Loaded,
        load,
        removed_job_ids=[_sentence(job_id) for job_id in load.removed[:_MAX_JOB_IDS]],
        stopped_schedules=[_sentence(name) for name in load.stopped[:_MAX_JOB_IDS]],
        added_job_ids=[_sentence(job_id) for job_id in load.added[:_MAX_JOB_IDS]],
        removed_count=len(load.removed),
        stopped_count=len(load.stopped),
        added_count=len(load.added),
    )


def _refused_message(load: LoadOutcome) -> job_pb2.RefusedLoad:
    """Return a refused load, short enough for the session and for every place that shows it."""
    message = job_pb2.RefusedLoad(message=_sentence(load.message))
    message.at.FromMicroseconds(load.at_us)
    message.problems.extend(_problem_messages(load.problems))
    return message


def _problem_messages(problems: Sequence[Problem]) -> Iterator[job_pb2.Problem]:
    for problem in problems[:_MAX_PROBLEMS]:
        texts = {name: _sentence(getattr(problem, name)) for name in ("file", "path", "message", "fix")}
        yield encode(job_pb2.Problem, problem, **texts)


def _sentence(text: str) -> str:
    text = fitting(text)
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"
