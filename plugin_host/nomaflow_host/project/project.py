"""A project on disk, as its host's main process reads it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from nomaflow_host.connectors.pools import modules_of
from nomaflow_host.generation.settings import settings_tree
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.process.errors import ProjectError, StateUnwritable
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.models.settings_file import HostSection, PathSection
from nomaflow_project.models.settings_rules import unknown_tables
from nomaflow_project.reading.environment import names_in
from nomaflow_project.reading.files import SETTINGS_FILE, tables_in
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.names import HOST_NAME, host_name_of, runs_on
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.project_files import ProjectFiles
from nomaflow_project.reading.regular_files import reason_of
from nomaflow_project.reading.sources import ProjectSources

_log = logging.getLogger(__name__)

_Section = TypeVar("_Section")
_AT_EACH_LOAD = frozenset(
    {
        "accept_calls_from",
        "accept_jobs_from",
        "env_file",
        "max_extras_bytes",
        "max_parallel",
        "secret_key_file",
        "version",
    }
)
"""The keys of ``[host]`` that a reload reads; the others count from the start of the process on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """The contents of a project's folder, read once. A reload opens it again.

    :param root: the folder, absolute
    :param variables: variables from the project's files; the host's own environment overrides them
    :param sources: the sources of the values of references
    :param wanted: names of variables that ``[app]`` of nomaflow.toml refers to
    :param tables: the tables of nomaflow.toml that have something in them
    """

    root: Path
    settings: HostSection
    spec: ProjectSpec
    connectors: ConnectorSet
    sources: ProjectSources
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    wanted: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()

    @property
    def host(self) -> str:
        """The host's name."""
        return self.spec.host

    @property
    def state_dir(self) -> Path:
        """This host's own folder below ``.nomaflow``."""
        return self.root / ".nomaflow" / f"host-{self.host}"

    @classmethod
    def open(cls, directory: Path, *, name: str | None = None, environ: Mapping[str, str]) -> Project:
        """Read a project.

        :param name: the host's name if the command line gives one
        :raises ProjectError: if the folder or nomaflow.toml cannot be used
        """
        root = Path(os.path.realpath(directory))
        files = ProjectFiles(root, environ)
        if files.error is not None:
            raise ProjectError(files.error, folder=root)
        variables = files.variables
        for problem in variables.problems:
            _log.warning("%s", problem.sentence)
        settings = _settings(files)
        if name and not HOST_NAME.fullmatch(name):
            fix = "expected at most 64 lower-case letters, digits, '-' and '_', such as 'billing'"
            told = Place(str(root)).error("bad_host_name", f"{name!r} is not a valid host name", fix=fix)
            raise ProjectError(told)
        host = name or settings.name or host_name_of(root.name)
        trees = [file.tree for file in files.job_files if file.tree is not None]
        connectors = _connectors(files)
        tree = files.settings
        found = with_lines((*files.problems, *connectors.problems), root)
        plugins = (str(root / "plugins"),) if (root / "plugins").is_dir() else ()
        spec = ProjectSpec(
            host=host,
            root=str(root),
            sys_path=plugins,
            plugin_dirs=plugins,
            named_callables=tuple(sorted({name for jobs in trees for name in _callables(jobs, host)})),
            job_files=tuple(file.to_json() for file in files.job_files),
            problems=tuple(problem.to_json() for problem in found),
            settings=settings_tree(tree, root=str(root), environ=variables.environ),
            settings_file=str(root / SETTINGS_FILE) if files.has_settings else "",
            env_files=variables.files,
            env_file_states=variables.states,
            preload=modules_of(connectors.pools.values()),
            max_extras_bytes=settings.max_extras_bytes,
            version=settings.version,
            max_parallel=settings.max_parallel,
            accept_jobs_from=settings.accept_jobs_from,
            accept_calls_from=settings.accept_calls_from,
        )
        return cls(
            root=root,
            settings=settings,
            spec=spec,
            connectors=connectors,
            variables=variables.given,
            wanted=frozenset(names_in([tree.get(name) for name in ("app", "connectors", "jobs")])),
            tables=frozenset(name for name, table in tree.items() if table),
            sources=files.sources,
        )


def changed_since_start(started: HostSection, now: HostSection, *, root: Path) -> tuple[Problem, ...]:
    """Return a warning for each key of ``[host]`` that has changed since the start and is not read by a reload."""
    place = Place(SETTINGS_FILE, "host")
    changed = (
        each.name
        for each in fields(HostSection)
        if each.name not in _AT_EACH_LOAD and getattr(now, each.name) != getattr(started, each.name)
    )
    what = "the change takes effect once the host is restarted"
    return with_lines(
        [(place / name).warning("restart_needed", what, fix="restart the host") for name in changed], root
    )


def _settings(files: ProjectFiles) -> HostSection:
    """Return ``[host]``.

    :raises ProjectError: if it cannot be used, or the settings of callables cannot, or the file has an unknown table
    """
    for unknown in with_lines(unknown_tables(files.settings), files.root):
        raise ProjectError(unknown, folder=files.root)
    _section(dict, files, "app")
    for name in ("jobs", "connectors"):
        _section(PathSection, files, name)
    return _section(HostSection, files, "host")


def _section(model: type[_Section], files: ProjectFiles, name: str) -> _Section:
    section, problems = files.section(model, name)
    if section is None or problems:
        first = replace(problems[0], fix=problems[0].fix or "correct the value; docs/configuration.md has each key")
        raise ProjectError(first, folder=files.root)
    return section


def _callables(tree: Mapping[str, Any], host: str) -> Iterator[str]:
    """Yield the references that the jobs of a file name, without jobs that another host runs."""
    jobs = [job for job in tables_in(tree.get("jobs")) if runs_on(job, host)]
    steps = [step for job in jobs for step in tables_in(job.get("steps"))]
    for holder in (*steps, *tables_in([holder.get("step_defaults") for holder in (tree, *jobs)])):
        if isinstance(holder.get("callable"), str):
            yield holder["callable"]


def _connectors(files: ProjectFiles) -> ConnectorSet:
    """Read connectors.toml. A mistake in it fails only the callables that use that part, so other jobs work."""
    path, named = files.path_of("connectors")
    if not named and not os.path.lexists(path):
        return ConnectorSet(root=str(files.root), file=str(path))
    from nomaflow_project.connectors.reading import connectors_of  # loads pydantic

    found = connectors_of(files)
    for each in found.problems:
        _log.log(logging.ERROR if each.is_error else logging.WARNING, "%s", each.sentence)
    return found


def make_state_dir(state: Path, *, given: bool) -> None:
    """Make a host's own folder, for its owner only. Processes that only read a project need none.

    :param given: whether a person chose it; the rights of such a folder are never changed

    :raises ProjectError: if it cannot be made, or the one that was given is another user's, or open to others
    :raises StateUnwritable: if the disk has no room for it
    """
    try:
        state.parent.mkdir(mode=0o700, exist_ok=True)
        state.mkdir(mode=0o700, exist_ok=True)
        if not given:
            state.chmod(0o700)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StateUnwritable(state, error) from None
        reason = reason_of(error)
        fix = "name a folder that can be written to: --state-dir DIR"
        raise ProjectError(Place(str(state)).error("bad_state_dir", f"it cannot be made: {reason}", fix=fix)) from None
    found, alone = state.stat(), "give a --state-dir for this instance alone, which need not exist"
    if given and found.st_uid not in (os.geteuid(), 0):  # who could put a join string of theirs into it
        problem = f"it belongs to another user, uid {found.st_uid}"
        raise ProjectError(Place(str(state)).error("bad_state_dir", problem, fix=alone))
    if found.st_mode & 0o077:
        fix = f"{alone}, or: chmod 700 {state}"
        raise ProjectError(Place(str(state)).error("bad_state_dir", "others may enter this folder", fix=fix))
