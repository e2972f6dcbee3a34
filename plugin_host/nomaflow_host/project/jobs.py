"""The job files of a project, with the variables of this host filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomaflow_project.reading import files as project_files
from nomaflow_project.reading.environment import resolve_environment, unresolved_references
from nomaflow_project.reading.files import JobFile
from nomaflow_project.reading.problems import Place, Problem

__all__ = ["JobFiles", "read_job_files"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFiles:
    """The jobs of a project.

    :param files: the manifest's ``job_files``
    :param problems: entries for the manifest's ``problems``
    :param callables: every reference in a job, sorted
    """

    files: tuple[Mapping[str, Any], ...]
    problems: tuple[Mapping[str, Any], ...]
    callables: tuple[str, ...]


def read_job_files(*, root: Path, main: Path, required: bool, environ: Mapping[str, str]) -> JobFiles:
    """Read the main job file and that of each folder of ``plugins/``, in order of name.

    ``${NAME}`` is resolved everywhere but below ``params``, ``op_kwargs`` and the fields of contributed step types;
    if a variable is missing, its text stays, with a problem that names it.

    :param required: True if the main file must exist because a setting names it
    """
    files: list[JobFile] = []
    problems: list[Problem] = []
    for file in project_files.read_job_files(root, main, required=required):
        if file.tree is not None:
            tree = resolve_environment(file.tree, environ)
            file = replace(file, tree=tree)
            problems += _unset(tree, file.path)
        files.append(file)
    named = {name for file in files if file.tree is not None for name in _callables(file.tree)}
    return JobFiles(
        files=tuple(file.to_json() for file in files),
        problems=tuple(problem.to_json() for problem in problems),
        callables=tuple(sorted(named)),
    )


def _unset(tree: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Yield a problem for each text whose variable has no value, with its job."""
    yield from unresolved_references({name: value for name, value in tree.items() if name != "jobs"}, Place(path))
    jobs = tree.get("jobs")
    for index, job in enumerate(jobs if isinstance(jobs, list) else ()):
        job_id = job.get("id") if isinstance(job, dict) else None
        at = Place(path, f"jobs[{index}]", job_id if isinstance(job_id, str) else "")
        yield from unresolved_references(job, at)


def _callables(tree: Mapping[str, Any]) -> Iterator[str]:
    for job in _tables(tree.get("jobs")):
        for holder in (*_tables(job.get("steps")), *_tables([job.get("step_defaults")])):
            if isinstance(holder.get("callable"), str):
                yield holder["callable"]
    for holder in _tables([tree.get("step_defaults")]):
        if isinstance(holder.get("callable"), str):
            yield holder["callable"]


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
