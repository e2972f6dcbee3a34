"""Jobs, hosts and their problems, as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from nomaflow.client.values.runs import RunView
from nomaflow.client.values.times import iso

__all__ = [
    "CatalogueView",
    "FireView",
    "HostView",
    "InstanceView",
    "JobView",
    "PauseView",
    "ProblemView",
    "ReloadView",
    "WorkerView",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemView:
    """A problem of a job, a file or a callable.

    :param severity: ``error`` or ``warning``
    :param line: of the file, from 1; 0 if unknown
    """

    severity: str
    code: str
    message: str
    file: str = ""
    path: str = ""
    fix: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """The file with the line, such as ``jobs.toml:7``; empty for no file."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    def to_json(self) -> dict[str, Any]:
        """Return the problem in the shape of docs/cli.md."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class FireView:
    """One coming fire; ``preset`` is empty for the job's own schedule."""

    at: datetime | None
    preset: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fire in the shape of docs/cli.md."""
        return {"at": iso(self.at), "preset": self.preset or None}


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseView:
    """A pause of a job, of a host, or (both empty) of everything."""

    job_id: str = ""
    host: str = ""
    by: str = ""
    why: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the pause in the shape of docs/cli.md."""
        return {
            "job_id": self.job_id or None,
            "host": self.host or None,
            "by": self.by,
            "why": self.why,
            "since": iso(self.since),
            "until": iso(self.until),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job of the catalogue, valid or not. Only ``get_job`` fills ``definition``.

    :param kept: True if its last good definition stays in use in spite of the problems
    :param held: reason why a kept job still cannot run; empty if it can
    """

    job_id: str
    description: str = ""
    host: str = ""
    enabled: bool = True
    valid: bool = True
    removed: bool = False
    kept: bool = False
    held: str = ""
    problems: tuple[ProblemView, ...] = ()
    schedule: str = ""
    timezone: str = ""
    tags: tuple[str, ...] = ()
    step_names: tuple[str, ...] = ()
    preset_names: tuple[str, ...] = ()
    next_fires: tuple[FireView, ...] = ()
    pause: PauseView | None = None
    why_not_running: str = ""
    last_run: RunView | None = None
    definition: Mapping[str, Any] | None = None
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the job in the shape of docs/cli.md."""
        shape = {
            "job_id": self.job_id,
            "description": self.description,
            "host": self.host or None,
            "enabled": self.enabled,
            "valid": self.valid,
            "removed": self.removed,
            "kept": self.kept,
            "held": self.held or None,
            "problems": [problem.to_json() for problem in self.problems],
            "schedule": self.schedule or None,
            "timezone": self.timezone or None,
            "tags": list(self.tags),
            "steps": list(self.step_names),
            "presets": list(self.preset_names),
            "next_fires": [fire.to_json() for fire in self.next_fires],
            "pause": self.pause.to_json() if self.pause else None,
            "why_not_running": self.why_not_running or None,
            "last_run": self.last_run.to_json() if self.last_run else None,
            "digest": self.digest,
        }
        return shape if self.definition is None else {**shape, "definition": dict(self.definition)}


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueView:
    """All known jobs, and the problems of whole files, which belong to no single job."""

    jobs: tuple[JobView, ...] = ()
    problems: tuple[ProblemView, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the catalogue in the shape of docs/cli.md."""
        return {
            "jobs": [job.to_json() for job in self.jobs],
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerView:
    """One worker process; ``kind`` is ``shared`` or ``exclusive``."""

    pid: int
    kind: str
    generation: int = 0
    running: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the worker in the shape of docs/cli.md."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedLoadView:
    """A load of plugin code that a host refused, so that the previous code keeps serving."""

    at: datetime | None
    message: str
    problems: tuple[ProblemView, ...] = ()

    @property
    def summary(self) -> str:
        """The first problem with its place, in one line."""
        if not self.problems:
            return self.message.partition("\n")[0]
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return (f"{first.place}: " if first.place else "") + first.message.partition("\n")[0] + more

    def to_json(self) -> dict[str, Any]:
        """Return the refusal in the shape of docs/cli.md."""
        return {**asdict(self), "at": iso(self.at)}


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceView:
    """One process of a host. ``state`` is ATTACHED, LOADING, UNREACHABLE, DRAINING or DETACHED."""

    incarnation: str
    state: str
    pid: int = 0
    machine: str = ""
    version: str = ""
    generation: int = 0
    manifest_digest: str = ""
    loaded_at: datetime | None = None
    code_newer: bool = False
    attached_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    max_async: int = 0
    max_sync: int = 0
    running: int = 0
    workers: tuple[WorkerView, ...] = ()
    spilled_bytes: int = 0
    isolation_mechanism: str = ""
    saturated: bool = False
    refused_load: RefusedLoadView | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the instance in the shape of docs/cli.md."""
        times = ("loaded_at", "attached_at", "last_heartbeat_at")
        refused = None if self.refused_load is None else self.refused_load.to_json()
        return {**asdict(self), **{name: iso(getattr(self, name)) for name in times}, "refused_load": refused}


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """A named plugin host with its instances; ``state`` is the best state of these."""

    name: str
    state: str
    instances: tuple[InstanceView, ...] = ()
    manifest_digest: str = ""
    introduced_at: datetime | None = None
    job_count: int = 0
    callable_count: int = 0
    problems: tuple[ProblemView, ...] = ()
    queued: int = 0
    pause: PauseView | None = None

    @property
    def refused_load(self) -> RefusedLoadView | None:
        """The newest load that an instance has refused, or None if each serves what it loaded last."""
        return next((each.refused_load for each in self.instances if each.refused_load is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the host in the shape of docs/cli.md."""
        return {
            "name": self.name,
            "state": self.state,
            "instances": [instance.to_json() for instance in self.instances],
            "manifest_digest": self.manifest_digest,
            "introduced_at": iso(self.introduced_at),
            "jobs": self.job_count,
            "callables": self.callable_count,
            "problems": [problem.to_json() for problem in self.problems],
            "queued": self.queued,
            "pause": self.pause.to_json() if self.pause else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadView:
    """The reaction of one instance to a reload; ``generation`` is the serving one.

    :param jobs: number of jobs in its files; 0 if it refused
    :param callables: number of callables that it offers; 0 if it refused
    :param removed_job_ids: jobs that its files no longer hold
    :param added_job_ids: jobs that are new
    :param stopped_schedules: schedules of other jobs that fire no more: a job's id, or ``id (preset name)``
    """

    incarnation: str
    accepted: bool
    generation: int = 0
    message: str = ""
    problems: tuple[ProblemView, ...] = field(default=())
    host: str = ""
    jobs: int = 0
    callables: int = 0
    removed_job_ids: tuple[str, ...] = ()
    added_job_ids: tuple[str, ...] = ()
    stopped_schedules: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the outcome in the shape of docs/cli.md."""
        return asdict(self)
