"""Finds and reads a project's job files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomaflow_api.v1.values import ValueCodecError, child_path, encode_tree
from nomaflow_host.project.reading import FileProblem, read_toml, shown_path
from nomaflow_project.reading.environment import EnvironmentMissing, resolve_text

__all__ = ["JobFiles", "read_job_files"]

_KEPT = frozenset({"params", "op_kwargs"})


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

    ``${NAME}`` is resolved everywhere but below ``params`` and ``op_kwargs``; where a variable is missing the text
    stays, with a problem that names it.

    :param required: True where the main file must be there, since a setting names it
    """
    others = sorted(root.glob("plugins/*/jobs.toml"))
    paths = [main, *others] if required or main.exists() or not others else others
    files: list[Mapping[str, Any]] = []
    problems: list[Mapping[str, Any]] = []
    for path in paths:
        name = shown_path(path, root)
        tree = _read(path)
        if isinstance(tree, FileProblem):
            files.append({"path": name, "tree": None, "error": tree.to_json()})
        else:
            resolver = _Resolver(file=name, environ=environ)
            files.append({"path": name, "tree": resolver.resolve(tree), "error": None})
            problems += resolver.problems
    named = {name for each in files if each["tree"] is not None for name in _callables(each["tree"])}
    return JobFiles(files=tuple(files), problems=tuple(problems), callables=tuple(sorted(named)))


def _read(path: Path) -> Any:
    tree = read_toml(path)
    if isinstance(tree, FileProblem):
        return tree
    try:
        return encode_tree(tree)
    except ValueCodecError as error:
        return FileProblem(code="bad_toml", message=str(error), fix="correct the value")


class _Resolver:
    """Resolves the references of one file and collects what is missing."""

    def __init__(self, *, file: str, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        self.problems: list[Mapping[str, Any]] = []

    def resolve(self, tree: Any, path: str = "", job_id: str = "") -> Any:
        """Return the tree with its references resolved."""
        if isinstance(tree, str):
            return self._text(tree, path, job_id)
        if isinstance(tree, dict):
            return {
                key: value if key in _KEPT else self.resolve(value, child_path(path, key), job_id)
                for key, value in tree.items()
            }
        if isinstance(tree, list):
            items = enumerate(tree)
            return [
                self.resolve(item, f"{path}[{index}]", _job_id(item) if path == "jobs" else job_id)
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
                    "message": error.problem,
                    "fix": error.fix,
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
