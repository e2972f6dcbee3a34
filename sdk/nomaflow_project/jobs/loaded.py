"""The jobs of a host as loaded, valid or not, and the problems of their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from nomaflow_project.jobs.definitions import JobDefinition, RetentionPolicy
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedJob(Record):
    """A job as loaded, valid or not.

    :param job_id: the id; if the file gives no valid one, the job's place in the file
    :param definition: None if the table cannot be read as a job
    :param problems: errors first
    :param enabled: whether its author has its schedule switched on
    :param kept: whether `definition` is the last good one, kept in spite of the problems
    :param held: why a kept job cannot run anyway; empty if it can
    """

    job_id: str
    host: str
    definition: JobDefinition | None
    problems: tuple[Problem, ...] = ()
    enabled: bool = True
    file: str = ""
    path: str = ""
    kept: bool = False
    held: str = ""

    @property
    def place(self) -> Place:
        """The place of its table."""
        return Place(self.file, self.path, self.job_id)

    @property
    def valid(self) -> bool:
        """True if it has a usable definition: one without an error, or the last good one."""
        if self.definition is None or self.kept or not self.problems:
            return self.definition is not None
        return not any(problem.is_error for problem in self.problems)

    def schedule_names(self) -> list[str]:
        """Return its schedules as people read them: its id, or ``id (preset name)``."""
        schedules = () if self.definition is None else self.definition.schedules()
        return [f"{self.job_id} (preset {each.preset})" if each.preset else self.job_id for each in schedules]

    def with_problem(self, *problems: Problem) -> Self:
        """Return the job with one or more further problems."""
        return replace(self, problems=errors_first([*self.problems, *problems]))

    def report(self) -> dict[str, Any]:
        """Return the job as ``check -o json`` shows it."""
        report = replace(self, definition=None).to_json()
        del report["definition"]
        return {**report, "valid": self.valid}


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueLoad(Record):
    """The contents of a host's files.

    :param problems: problems of the files themselves; a job has its own
    :param retention: the policy of ``[meta.retention]``; None if no file sets one
    :param env_files: the files of ``[host] env_file`` that have text, or had some when they could last be read
    """

    jobs: tuple[LoadedJob, ...] = ()
    problems: tuple[Problem, ...] = ()
    retention: RetentionPolicy | None = None
    env_files: tuple[str, ...] = ()

    def all_problems(self) -> tuple[Problem, ...]:
        """Return the problems of the files and of all jobs."""
        return (*self.problems, *(problem for job in self.jobs for problem in job.problems))


def errors_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems in their order, errors before warnings."""
    return tuple(sorted(problems, key=lambda problem: not problem.is_error))
