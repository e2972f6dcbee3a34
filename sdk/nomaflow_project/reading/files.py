"""The files of a project, found and read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomaflow_api.v1.lossless_json import ValueCodecError, encode_tree
from nomaflow_project.reading.environment import Values, resolve_environment
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.records import Record
from nomaflow_project.reading.regular_files import reason_of, shown_path
from nomaflow_project.reading.toml_file import read_toml

SETTINGS_FILE = "nomaflow.toml"
EDITOR_LOCK = ".#"
"""Beginning of the name of a link by which an editor shows that a file is open; the link leads nowhere."""
_PLUGINS = "plugins"
_WRITE_ONE = "write one; `nomaflow init DIR` makes a project with an example"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFile(Record):
    """A TOML file as read, as a manifest has it: its tree as ``nomaflow_api.v1.lossless_json`` writes it, or the error.

    :param absent: True for an optional file or folder that is missing; it has neither tree nor error
    :param main: True for the main job file
    """

    path: str
    tree: Mapping[str, Any] | None = None
    error: Problem | None = None
    absent: bool = False
    main: bool = False

    def jobs(self) -> Iterator[tuple[Place, Any]]:
        """Yield place and table of each job; the table of a malformed file may be anything."""
        jobs = (self.tree or {}).get("jobs")
        for index, job in enumerate(jobs if isinstance(jobs, list) else ()):
            job_id = job.get("id") if isinstance(job, dict) else None
            yield Place(self.path, f"jobs[{index}]", job_id if isinstance(job_id, str) else ""), job


def tables_in(value: Any) -> list[Mapping[str, Any]]:
    """Return the tables of an array, each at its index; anything else counts as an empty one."""
    return [each if isinstance(each, dict) else {} for each in value] if isinstance(value, list) else []


def parse_toml_file(path: Path, *, name: str = "", environ: Values | None = None) -> JobFile:
    """Read one TOML file.

    :param name: the file's name in problems; the path if empty
    :param environ: variables to resolve references with; None leaves them
    """
    shown = name or str(path)
    read = read_toml(path, name=shown)
    if isinstance(read, Problem):
        return JobFile(path=shown, error=read)
    try:
        tree = encode_file(read)
    except ValueCodecError as error:
        return JobFile(path=shown, error=Place(shown).error("bad_toml", str(error), fix="correct the value"))
    return JobFile(path=shown, tree=tree if environ is None else resolve_environment(tree, environ))


def read_job_files(root: Path, main: Path, *, required: bool) -> tuple[JobFile, ...]:
    """Return the main job file, then that of each folder of ``plugins/``, in order of name.

    Files and folders that cannot be read are included with their error. An optional main file and a ``plugins/`` folder
    that are missing are included as absent: the caller that knows their old contents decides what that means.

    :param required: True if the main file must exist, since a setting names it
    """
    others = [
        found if isinstance(found, JobFile) else parse_toml_file(found, name=shown_path(found, root))
        for found in _in_plugins(root)
    ]
    first = replace(parse_toml_file(main, name=shown_path(main, root)), main=True)
    if first.error is not None and first.error.code == "missing_file":
        if not required and any(not file.absent for file in others):
            return (JobFile(path=first.path, absent=True, main=True), *others)
        first = first if required else replace(first, error=replace(first.error, fix=_WRITE_ONE))
    return (first, *others)


def _in_plugins(root: Path) -> Iterator[Path | JobFile]:
    """Yield the path of each job file below ``plugins/``, or the folder itself if it is absent or has an error."""
    try:
        folders = sorted(entry.path for entry in os.scandir(root / _PLUGINS) if _may_be_folder(entry))
    except FileNotFoundError:
        yield JobFile(path=_PLUGINS, absent=True)
        return
    except OSError as error:
        reason = reason_of(error)
        failed = Place(_PLUGINS).error("unreadable_file", f"it cannot be listed: {reason}", fix="make it a folder")
        yield JobFile(path=_PLUGINS, error=failed)
        return
    for folder in folders:
        path = Path(folder, "jobs.toml")
        try:
            path.lstat()
        except FileNotFoundError:
            if Path(folder).is_symlink() and not Path(folder).exists():
                at, message = Place(shown_path(path, root)), "its folder is a link that leads nowhere"
                yield JobFile(path=at.file, error=at.error("unreadable_file", message, fix="correct the link"))
            continue
        except OSError:
            pass  # it cannot be examined: reading it gives the error
        yield path


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(EDITOR_LOCK) and not entry.is_file()
    except OSError:  # a link to itself, or into a folder that may not be entered: reading it gives the error
        return True


def encode_file(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parsed file in the encoding of ``nomaflow_api.v1.lossless_json``.

    A job with a value that cannot be encoded, such as ``inf``, becomes ``{"id", "enabled", "$error": {"path",
    "message"}}``, so that the other jobs of the file stay usable.

    :raises ValueCodecError: if such a value is outside the jobs
    """
    jobs = tree.get("jobs")
    if not isinstance(jobs, list):
        return dict(encode_tree(dict(tree)))
    rest = {name: value for name, value in tree.items() if name != "jobs"}
    return {**encode_tree(rest), "jobs": [_encode_job(job) for job in jobs]}


def _encode_job(job: Any) -> Any:
    try:
        return encode_tree(job)
    except ValueCodecError as error:
        known = job if isinstance(job, dict) else {}
        named = {name: known[name] for name in ("id", "enabled") if isinstance(known.get(name), str | bool)}
        return {**named, "$error": {"path": error.path, "message": error.problem}}
