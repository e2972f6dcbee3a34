"""Conversion of the catalogue, pauses and instances to client messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nomaflow_api.v1 import job_pb2
from nomaflow_kernel.catalogue import HostCatalogue, Job
from nomaflow_kernel.catalogue.service import next_fires
from nomaflow_kernel.engine.fleet import Instance
from nomaflow_kernel.engine.host_messages import RefusedLoad
from nomaflow_kernel.history.port import PauseRecord
from nomaflow_kernel.rpc.run_messages import timestamp
from nomaflow_project.reading.problems import Problem

__all__ = ["Pauses", "host_message", "job_message", "pause_message", "problem_message", "problem_messages_of_json"]

_HOST_STATES = {
    "ATTACHED": job_pb2.HOST_STATE_ATTACHED,
    "UNREACHABLE": job_pb2.HOST_STATE_UNREACHABLE,
    "DRAINING": job_pb2.HOST_STATE_DRAINING,
    "DETACHED": job_pb2.HOST_STATE_DETACHED,
    "LOADING": job_pb2.HOST_STATE_LOADING,
}
_BEST_FIRST = ("ATTACHED", "LOADING", "DRAINING", "UNREACHABLE", "DETACHED")


class Pauses:
    """The pauses in effect, for lookup by job and host."""

    def __init__(self, pauses: Iterable[PauseRecord]) -> None:
        self._pauses = {(pause.scope, pause.name): pause for pause in pauses}

    def of_host(self, host: str) -> PauseRecord | None:
        """Return the pause of a host: of everything, or its own."""
        return self._pauses.get(("all", "")) or self._pauses.get(("host", host))

    def of_job(self, job_id: str, host: str) -> PauseRecord | None:
        """Return the pause of a job: of everything, its host, or its own."""
        return self.of_host(host) or self._pauses.get(("job", job_id))


def problem_message(problem: Problem) -> job_pb2.Problem:
    """Return the message of a problem."""
    return job_pb2.Problem(
        severity=problem.severity.value,
        code=problem.code,
        file=problem.file,
        path=problem.path,
        message=problem.message,
        fix=problem.fix,
        line=problem.line,
    )


def problem_messages_of_json(items: object) -> list[job_pb2.Problem]:
    """Return the messages of a host's problems; items that are not problems are ignored."""
    if not isinstance(items, list):
        return []
    return [problem_message(Problem.from_json(item)) for item in items if isinstance(item, Mapping)]


def pause_message(pause: PauseRecord | None) -> job_pb2.Pause | None:
    """Return the message of a pause; None for None."""
    if pause is None:
        return None
    return job_pb2.Pause(
        job_id=pause.name if pause.scope == "job" else "",
        host=pause.name if pause.scope == "host" else "",
        by=pause.by,
        why=pause.why,
        since=timestamp(pause.since_us),
        until=timestamp(pause.until_us),
    )


def job_message(entry: Job, *, now_us: int, fires: int) -> job_pb2.Job:
    """Return a job of the catalogue, without the parts that only the engine and the store know.

    :param fires: number of next fires to compute
    """
    message = job_pb2.Job(
        job_id=entry.job_id,
        host=entry.host,
        enabled=entry.loaded.enabled,
        valid=entry.valid,
        problems=[problem_message(problem) for problem in entry.loaded.problems],
        removed=entry.removed,
        kept=entry.loaded.kept and entry.runnable,
        held=entry.loaded.held if entry.runnable else "",
    )
    definition = entry.definition
    if definition is None:
        return message
    message.description = definition.description
    message.schedule = definition.schedule
    message.timezone = definition.timezone
    message.tags.extend(definition.tags)
    message.step_names.extend(step.name for step in definition.steps)
    message.preset_names.extend(preset.name for preset in definition.presets)
    message.digest = definition.digest
    if entry.runnable:
        for at, preset in next_fires(definition, after_us=now_us, limit=fires):
            message.next_fires.add(preset=preset).at.FromDatetime(at)
    return message


def host_message(
    name: str,
    *,
    known: HostCatalogue | None,
    instances: Sequence[Instance],
    queued: int,
    pause: PauseRecord | None,
) -> job_pb2.Host:
    """Return a host with its instances."""
    states = {instance.state for instance in instances}
    best = next((state for state in _BEST_FIRST if state in states), "DETACHED")
    message = job_pb2.Host(
        name=name,
        state=_HOST_STATES[best],
        instances=[_instance_message(instance) for instance in instances],
        queued=queued,
        pause=pause_message(pause),
    )
    if known is not None:
        message.manifest_digest = known.digest
        message.introduced_at.FromMicroseconds(known.introduced_at_us)
        message.job_count = len(known.load.jobs)
        message.callable_count = _callable_count(known.manifest)
        message.problems.extend(problem_message(problem) for problem in known.load.problems)
    return message


def _callable_count(manifest: Mapping[str, Any]) -> int:
    callables = manifest.get("callables")
    return len(callables) if isinstance(callables, Mapping) else 0


def _instance_message(status: Instance) -> job_pb2.Instance:
    hello, beat = status.hello, status.heartbeat
    return job_pb2.Instance(
        incarnation=hello.incarnation,
        state=_HOST_STATES[status.state],
        pid=hello.pid,
        machine=hello.machine,
        version=hello.version,
        # Heartbeats include reloads since the hello; before the first heartbeat there is only the hello.
        generation=beat.generation or hello.generation,
        manifest_digest=beat.manifest_digest or hello.manifest_digest,
        loaded_at=timestamp(beat.loaded_at_us or hello.loaded_at_us or None),
        code_newer=beat.code_newer,
        attached_at=timestamp(status.attached_at_us or None),
        last_heartbeat_at=timestamp(status.last_heartbeat_us or None),
        max_async=hello.max_async,
        max_sync=hello.max_sync,
        running=status.running,
        workers=[
            job_pb2.WorkerInfo(
                pid=worker.pid,
                kind="exclusive" if worker.exclusive else "shared",
                generation=worker.generation,
                running=worker.running,
            )
            for worker in beat.workers or ()
        ],
        spilled_bytes=beat.spilled_bytes,
        isolation_mechanism=hello.isolation_mechanism,
        saturated=beat.saturated,
        refused_load=_refused_message(status.refused_load),
    )


def _refused_message(refused: RefusedLoad | None) -> job_pb2.RefusedLoad | None:
    if refused is None:
        return None
    problems = [problem_message(problem) for problem in refused.problems]
    return job_pb2.RefusedLoad(at=timestamp(refused.at_us), message=refused.message, problems=problems)
