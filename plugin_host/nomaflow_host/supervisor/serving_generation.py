"""Generations of plugin code, as the host's main process sees them: it holds manifests, never code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nomaflow_project.reading.worker_environment import WorkerVariables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nomaflow_host.project.project import Project
    from nomaflow_host.supervisor.disk_stamp import DiskStamp
    from nomaflow_project.reading.sources import ValueSource


@dataclass(kw_only=True, slots=True)
class ServingGeneration:
    """One generation and its template, which has the same number in the reaper.

    :param body: its manifest in the bytes that the digest is computed from
    :param demoted: callables that run exclusively from now on, because they did not stop in a shared worker
    :param stamp: the state of the project's files when it was loaded
    :param variables: what its processes inherit, and what the values of its steps may refer to
    :param secrets: the credentials that its workers have from the start, for masking
    :param forking: number of requested workers that its template has not forked yet
    :param explicit: True until the kernel has the manifest, if a person asked for the load: it then counts even if the
        kernel has seen it before
    """

    number: int
    project: Project
    manifest: Mapping[str, Any]
    body: bytes = field(repr=False)
    digest: str
    loaded_at_us: int
    unforkable_reason: str
    stamp: DiskStamp
    sources: Mapping[str, str] | None
    secrets: Collection[str] = field(repr=False)
    variables: WorkerVariables = field(default_factory=WorkerVariables, repr=False)
    demoted: set[str] = field(default_factory=set)
    retired: bool = False
    forking: int = 0
    explicit: bool = False

    @property
    def forkable(self) -> bool:
        """True if its template forks its workers."""
        return not self.unforkable_reason

    def values(self) -> ValueSource:
        """Return the source of the values of its jobs' references, with the variables that these may refer to."""
        return replace(self.project.sources, environ=self.variables.references, whole_files=False)

    def is_async(self, reference: str) -> bool:
        """Return True if a callable is known to be asynchronous; an unknown one runs exclusively."""
        known = self.manifest["callables"].get(reference)
        return known is not None and known.get("kind") == "async" and not known.get("error")

    @property
    def has_kind(self) -> tuple[bool, bool]:
        """Pair of flags: it offers asynchronous callables, it offers synchronous ones."""
        kinds = {each.get("kind") for each in self.manifest["callables"].values()}
        return "async" in kinds, "sync" in kinds
