"""A job of the catalogue: as its host brought it, and what other hosts and its access make of it."""

from __future__ import annotations

from msgspec import Struct

from nomaflow_kernel.catalogue.wording import why_kept
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.loaded import LoadedJob


class Job(Struct, frozen=True, kw_only=True):
    """A job of the catalogue.

    :param loaded: the job as its file and its host's code make it
    :param owner: the host that its id belongs to, or is reserved for; empty for the kernel's own jobs file, and for an
        id that is free
    :param removed: True if the host no longer brings the job: it does not fire and keeps its history
    :param foreign: True for a job that has no id: its id belongs to another host, is free and not claimed, or is
        missing or malformed; it never runs
    :param unaccepted: True if another host would run it and does not accept jobs of the one that brought it
    :param shut_out: True if the access of its host was revoked, and the host has not introduced a manifest since
    """

    loaded: LoadedJob
    owner: str = ""
    removed: bool = False
    foreign: bool = False
    unaccepted: bool = False
    shut_out: bool = False

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.loaded.job_id

    @property
    def host(self) -> str:
        """The host that runs it; ``loaded.host`` is the one that brought it."""
        definition = self.loaded.definition
        return (definition.host if definition is not None else "") or self.loaded.host

    @property
    def key(self) -> tuple[str, str]:
        """Its place in the order of all jobs: by id; within an id, the job that owns it comes first."""
        return self.job_id, f"2{self.loaded.host}" if self.foreign else "1"

    @property
    def of_other_host(self) -> bool:
        """True if a host other than the one that runs it brought it. The kernel's own file is no host's."""
        return self.loaded.host not in ("", self.host)

    @property
    def definition(self) -> JobDefinition | None:
        """The job's definition, None if it is malformed."""
        return self.loaded.definition

    @property
    def valid(self) -> bool:
        """True if it has a usable definition, its host has access and owns the id, and the one to run it accepts it."""
        return self.loaded.valid and not self.foreign and not self.unaccepted and not self.shut_out

    @property
    def runnable(self) -> bool:
        """True if a run of it may start."""
        return self.valid and not self.removed

    @property
    def why_not_valid(self) -> str:
        """The first error of the job, in one sentence; empty if it has none."""
        return next((problem.message for problem in self.loaded.problems if problem.is_error), "")

    @property
    def why_kept(self) -> str:
        """The reason why the last good definition serves instead of the one in the job's file; empty if it does not."""
        return why_kept(self.loaded) if self.loaded.kept else ""
