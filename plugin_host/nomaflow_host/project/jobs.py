"""The job files of a project, with the variables of this host in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomaflow_api.v1.values import child_path
from nomaflow_host.injection.environment import EnvironmentMissing, resolve_text
from nomaflow_project.reading import files as project_files
from nomaflow_project.reading.environment import has_steps, is_kept
from nomaflow_project.reading.files import JobFile

__all__ = ["JobFiles", "read_job_files"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFiles:
    """The jobs that a project brings.

    :param files: the manifest's ``job_files``
    :param problems: entries for the manifest's ``problems``
    :param callables: every reference that a job names, sorted
    """

    files: tuple[Mapping[str, Any], ...]
    problems: tuple[Mapping[str, Any], ...]
    callables: tuple[str, ...]


def read_job_files(*, root: Path, main: Path, required: bool, environ: Mapping[str, str]) -> JobFiles:
    """Read the main job file and that of each folder of ``plugins/``, in order of name.

    ``${NAME}`` is resolved everywhere but below ``params``, ``op_kwargs`` and the fields of contributed step types;
    where a variable is missing the text stays, with a problem that names it.

    :param required: True where the main file must be there, since a setting names it
    """
    files: list[JobFile] = []
    problems: list[Mapping[str, Any]] = []
    for file in project_files.read_job_files(root, main, required=required):
        if file.tree is not None:
            resolver = _Resolver(file=file.path, environ=environ)
            file = replace(file, tree=resolver.resolve(file.tree))
            problems += resolver.problems
        files.append(file)
    named = {name for file in files if file.tree is not None for name in _callables(file.tree)}
    return JobFiles(
        files=tuple(file.to_manifest() for file in files), problems=tuple(problems), callables=tuple(sorted(named))
    )


class _Resolver:
    """Resolves the references of one file and collects what is missing."""

    def __init__(self, *, file: str, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        self.problems: list[Mapping[str, Any]] = []

    def resolve(self, tree: Any, path: str = "", job_id: str = "", *, in_step: bool = False) -> Any:
        """Return the tree with its references resolved."""
        if isinstance(tree, str):
            return self._text(tree, path, job_id)
        if isinstance(tree, dict):
            return {
                key: value
                if is_kept(key, in_step=in_step)
                else self.resolve(value, child_path(path, key), job_id, in_step=has_steps(key, value))
                for key, value in tree.items()
            }
        if isinstance(tree, list):
            items = enumerate(tree)
            return [
                self.resolve(item, f"{path}[{index}]", _job_id(item) if path == "jobs" else job_id, in_step=in_step)
                for index, item in items
            ]
        return tree

    def _text(self, text: str, path: str, job_id: str) -> str:
        try:
            return resolve_text(text, self._environ)
        except EnvironmentMissing as error:
            self.problems.append(
                {
                    "severity": "error",
                    "code": "unset_variable",
                    "file": self._file,
                    "path": path,
                    "message": f"the environment variable {error.name!r} is not set",
                    "fix": f"set it for the host, or write ${{{error.name}:-default}}",
                    "job_id": job_id,
                }
            )
            return text


def _job_id(item: Any) -> str:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else ""


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
