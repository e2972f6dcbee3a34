"""The line about the kernel that each page has: whether it answers, what runs, and which hosts need a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nomaflow.client.values import CallerView, HostView, JobView, KernelView, PauseView
from nomaflow_console.views.hosts import brought_by, host_sign


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelStatus:
    """The content of the line about the kernel.

    :param as_of: when that was true; None if the kernel has not answered yet
    :param away_since: since when no kernel answers; None if it answers
    :param serving: False if it answers and cannot work, as when its store takes nothing
    :param paused: the pause of everything; None if there is none, or no host that would wait
    :param alerts: the number of hosts that need a person
    :param last_event_seq: the newest event, read before everything else of a page
    :param caller: who the session is to the kernel; None if that is unknown
    :param generations: the newest generation of each host, by its name
    :param shared: the attempts of each worker that runs several
    """

    version: str = ""
    project: str = ""
    as_of: datetime | None = None
    away_since: datetime | None = None
    serving: bool = True
    paused: PauseView | None = None
    running: int = 0
    waiting: int = 0
    hosts_ok: int = 0
    hosts_all: int = 0
    alerts: int = 0
    last_event_seq: int = 0
    caller: CallerView | None = None
    generations: Mapping[str, int] = field(default_factory=dict)
    shared: tuple[tuple[str, ...], ...] = ()

    def may(self, verb: str, **of: Any) -> bool:
        """Return whether a button should be offered: the kernel decides, and this only hides what it would refuse.

        :param verb: of docs/access.md, such as ``operate``
        :param of: ``job_id``, ``host`` and ``tags`` of what it is about
        """
        return self.caller is None or self.caller.may(verb, **of)

    def may_job(self, verb: str, job: JobView) -> bool:
        """Return whether a button of a job should be offered."""
        return self.may(verb, job_id=job.job_id, host=job.host, tags=job.tags)

    def may_perhaps(self, verb: str, *, job_id: str, host: str = "") -> bool:
        """Return whether a button of a job should be offered where its tags, and without a host that, are not known."""
        if self.caller is None or self.caller.may(verb, job_id=job_id, host=host):
            return True
        unknown = ("tag:",) if host else ("tag:", "host:")
        return any(grant.startswith(f"{verb} {kind}") for grant in self.caller.grants for kind in unknown)

    def may_some(self, verb: str) -> bool:
        """Return whether a button that is about several jobs should be offered."""
        return self.caller is None or self.caller.may_some(verb)

    def beside(self, attempt_key: str) -> tuple[str, ...]:
        """Return the attempts that share the worker of an attempt now, as its host has last told."""
        found = next((keys for keys in self.shared if attempt_key in keys), ())
        return tuple(key for key in found if key != attempt_key)

    @property
    def shown(self) -> tuple[object, ...]:
        """The part that a person sees; equal ones look the same."""
        counts = (self.running, self.waiting, self.hosts_ok, self.hosts_all, self.alerts)
        return (self.version, self.project, self.away_since, self.serving, self.paused, *counts)

    @classmethod
    def of(
        cls,
        kernel: KernelView,
        hosts: list[HostView],
        *,
        serving: bool,
        running: int,
        waiting: int,
        troubled: Sequence[JobView] = (),
    ) -> KernelStatus:
        """Return the status that follows from the kernel's answers of now.

        :param troubled: jobs that are disabled, or kept with their last good definition
        """
        pauses = (host.pause for host in hosts if host.pause is not None)
        workers = (worker for host in hosts for instance in host.instances for worker in instance.workers)
        return cls(
            version=kernel.version,
            project=kernel.project,
            as_of=datetime.now(UTC),
            serving=serving,
            paused=next((pause for pause in pauses if not pause.host), None),
            running=running,
            waiting=waiting,
            hosts_ok=sum(host.state == "ATTACHED" for host in hosts),
            hosts_all=len(hosts),
            alerts=sum(_needs_a_look(host, brought_by(troubled, host.name)) for host in hosts),
            last_event_seq=kernel.last_event_seq,
            caller=kernel.caller,
            generations={host.name: max((one.generation for one in host.instances), default=0) for host in hosts},
            shared=tuple(worker.attempt_keys for worker in workers if len(worker.attempt_keys) > 1),
        )


def _needs_a_look(host: HostView, jobs: Sequence[JobView]) -> bool:
    """Return whether the page of hosts marks a host too."""
    return bool(host.problems) or host_sign(host, jobs).css != "ok"
