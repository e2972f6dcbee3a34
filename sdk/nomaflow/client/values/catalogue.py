"""Jobs, hosts and their problems, as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import field

from nomaflow.client.values.runs import RunView
from nomaflow.client.values.shapes import IF_KNOWN, NullableCount, NullableText, Shaped
from nomaflow_api.field_marks import REMEMBERED

__all__ = [
    "CatalogueView",
    "DeclaredView",
    "FireView",
    "HostView",
    "InstanceView",
    "JobCountView",
    "JobPageView",
    "JobView",
    "PauseView",
    "ProblemView",
    "RefusedLoadView",
    "ReloadView",
    "ResourcesView",
    "WantedView",
    "WorkerView",
]


class ProblemView(Shaped, frozen=True, kw_only=True):
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


class FireView(Shaped, frozen=True, kw_only=True):
    """One coming fire; ``preset`` is empty for the job's own schedule."""

    at: datetime | None
    preset: NullableText = ""


class PauseView(Shaped, frozen=True, kw_only=True):
    """A pause of a job, of a host, or (both empty) of everything."""

    job_id: NullableText = ""
    host: NullableText = ""
    by: str = ""
    why: str = ""
    since: datetime | None = None
    until: datetime | None = None


class JobView(Shaped, frozen=True, kw_only=True):
    """A job of the catalogue, valid or not. Only ``get_job`` fills ``definition``.

    :param owner: the host that its id belongs to; empty for the kernel's own jobs file
    :param kept: True if its last good definition stays in use in spite of the problems
    :param held: reason why a kept job still cannot run; empty if it can
    """

    job_id: str
    description: str = ""
    host: NullableText = ""
    owner: NullableText = ""
    enabled: bool = True
    valid: bool = True
    removed: bool = False
    kept: bool = False
    held: NullableText = ""
    problems: tuple[ProblemView, ...] = ()
    schedule: NullableText = ""
    timezone: NullableText = ""
    tags: tuple[str, ...] = ()
    step_names: tuple[str, ...] = field(default=(), name="steps")
    preset_names: tuple[str, ...] = field(default=(), name="presets")
    next_fires: tuple[FireView, ...] = ()
    pause: PauseView | None = None
    why_not_running: NullableText = ""
    last_run: RunView | None = None
    digest: str = ""
    definition: Annotated[Mapping[str, Any] | None, IF_KNOWN] = None


class CatalogueView(Shaped, frozen=True, kw_only=True):
    """All known jobs, and the problems of whole files, which belong to no single job."""

    jobs: tuple[JobView, ...] = ()
    problems: tuple[ProblemView, ...] = ()


class JobCountView(Shaped, frozen=True, kw_only=True):
    """The number of jobs that have one thing in common; only one of the first four fields is set.

    :param condition: ``DISABLED``, ``KEPT``, ``PAUSED``, ``ACTIVE``, ``NEVER_RUN``, ``SUCCEEDED`` or ``FAILED``
    :param host: the host that runs them
    :param owner: the host that their ids belong to
    """

    condition: NullableText = ""
    tag: NullableText = ""
    host: NullableText = ""
    owner: NullableText = ""
    jobs: int = 0


class JobPageView(Shaped, frozen=True, kw_only=True):
    """One page of jobs. Everything except ``jobs`` is on the first page only.

    :param total: number of jobs that the filters keep, on all pages
    :param counts: counts of these jobs, if they were asked for
    :param pauses: those in effect, whatever the filters
    :param problems: those of whole files
    """

    jobs: Annotated[tuple[JobView, ...], REMEMBERED] = ()
    total: int = 0
    counts: tuple[JobCountView, ...] = ()
    pauses: tuple[PauseView, ...] = ()
    problems: tuple[ProblemView, ...] = ()
    next_page_token: NullableText = ""


class WorkerView(Shaped, frozen=True, kw_only=True):
    """One worker process; ``kind`` is ``shared`` or ``exclusive``.

    :param attempt_keys: the attempts that it runs, at most 100
    :param rss_bytes: resident size; 0 if not measured
    :param started_at: by the host's clock
    """

    pid: int
    kind: str
    generation: int = 0
    running: int = 0
    attempt_keys: tuple[str, ...] = ()
    rss_bytes: NullableCount = 0
    started_at: datetime | None = None


class RefusedLoadView(Shaped, frozen=True, kw_only=True):
    """A load that a host refused, so that the previous code keeps serving, or whose manifest the kernel refused."""

    at: datetime | None
    message: str
    problems: tuple[ProblemView, ...] = ()

    @property
    def by_kernel(self) -> bool:
        """True if the kernel refused it: the jobs stay as they were."""
        return any(problem.code == "manifest_refused" for problem in self.problems)

    @property
    def summary(self) -> str:
        """The first problem with its place, in one line."""
        if not self.problems:
            return self.message.partition("\n")[0]
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return (f"{first.place}: " if first.place else "") + first.message.partition("\n")[0] + more


class ResourcesView(Shaped, frozen=True, kw_only=True):
    """Amounts and labels that a step needs, or that an instance has."""

    cpu: float = 0.0
    memory_mb: int = 0
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


class WantedView(Shaped, frozen=True, kw_only=True):
    """Attempts of one host that are due, have the same needs and wait for an instance.

    :param attempts: how many wait
    :param since: when the first of them began to wait
    :param attempt_key: the one attempt, if it wants an instance of its own: ``nomaflow host --for-attempt``
    :param image: the container image of that instance; empty for the launcher's own
    """

    host: str
    attempts: int
    needs: ResourcesView = ResourcesView()
    since: datetime | None = None
    attempt_key: str = ""
    image: str = ""


class DeclaredView(Shaped, frozen=True, kw_only=True):
    """The effect of a declaration that an instance has ended.

    :param known: False if the host has no such instance
    :param attempts: how many ended with it
    """

    known: bool
    attempts: int


class InstanceView(Shaped, frozen=True, kw_only=True):
    """One process of a host. ``state`` is ATTACHED, LOADING, DRAINING, AWAITED, UNREACHABLE or DETACHED.

    :param unreachable_since: when its lease ran out; None while it is heard
    :param lost_at: when the next of its attempts may be declared LOST if it stays silent; None while it is heard, or
        holds none
    :param retried_on_lost: how many of the attempts it holds are tried again once they are LOST; 0 while it is heard
    :param clock_offset_us: how far its clock is ahead of the kernel's, in microseconds
    :param python: version of its Python
    :param drain_deadline: when it cancels what still runs; None unless it is draining
    :param newer_files: files that changed after they were loaded, at most 20
    :param has: what it has for steps that ask for resources; None if it has not introduced itself yet
    :param ends_at: when the time of its machine ends, by its own clock; None for never
    :param for_attempt: the key of the one attempt that it takes; empty for one that takes any
    :param principal: who it has proved to be; ``host:NAME/TOKEN_ID`` for one that a launcher let join
    """

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
    unreachable_since: datetime | None = None
    lost_at: datetime | None = None
    clock_offset_us: int = 0
    python: NullableText = ""
    drain_deadline: datetime | None = None
    newer_files: tuple[str, ...] = ()
    has: ResourcesView | None = None
    ends_at: datetime | None = None
    for_attempt: str = ""
    principal: str = ""
    retried_on_lost: int = 0


class HostView(Shaped, frozen=True, kw_only=True):
    """A named plugin host with its instances; ``state`` is the best state of these.

    :param queued: how many runs wait for it: to start, or for the next try of a step
    :param absent_since: since when it has had no instance, at the earliest since the kernel's start; None if it has one
    :param launched: whether a launcher starts instances of it when steps wait: without one it is at zero, and not away
    """

    name: str
    state: str
    instances: tuple[InstanceView, ...] = ()
    manifest_digest: str = ""
    introduced_at: datetime | None = None
    job_count: int = field(default=0, name="jobs")
    callable_count: int = field(default=0, name="callables")
    problems: tuple[ProblemView, ...] = ()
    queued: int = 0
    absent_since: datetime | None = None
    launched: bool = False
    pause: PauseView | None = None

    @property
    def refused_load(self) -> RefusedLoadView | None:
        """The newest load that an instance has refused, or None if every one serves what it last loaded."""
        return next((each.refused_load for each in self.instances if each.refused_load is not None), None)


_INCOMPLETE = frozenset(
    {"job_disabled", "job_kept", "manifest_pending", "bad_toml", "unreadable_file", "emptied_file", "duplicate_job_id"}
)
"""Problems of an accepted load that keep it from matching its files, or may hide a job."""


class ReloadView(Shaped, frozen=True, kw_only=True):
    """The reaction of one instance to a reload; ``generation`` is the serving one.

    :param jobs: number of jobs in its files; 0 if it refused
    :param callables: number of callables that it offers; 0 if it refused
    :param removed_job_ids: jobs that its files no longer hold
    :param added_job_ids: jobs that are new
    :param stopped_schedules: schedules of other jobs that no longer fire: a job's id, or ``id (preset name)``
    :param removed_count: number of removed jobs, of which at most 50 are named; likewise the other two
    """

    incarnation: str
    accepted: bool
    generation: int = 0
    message: str = ""
    problems: tuple[ProblemView, ...] = ()
    host: str = ""
    jobs: int = 0
    callables: int = 0
    removed_job_ids: tuple[str, ...] = ()
    added_job_ids: tuple[str, ...] = ()
    stopped_schedules: tuple[str, ...] = ()
    removed_count: int = 0
    added_count: int = 0
    stopped_count: int = 0

    @property
    def complete(self) -> bool:
        """True if the load and its manifest were accepted, and each job of the host runs as its file has it now."""
        return self.accepted and _INCOMPLETE.isdisjoint(problem.code for problem in self.problems)

    @property
    def refused_by_kernel(self) -> bool:
        """True if the kernel refused the manifest: the jobs stay as they were."""
        return any(problem.code == "manifest_refused" for problem in self.problems)
