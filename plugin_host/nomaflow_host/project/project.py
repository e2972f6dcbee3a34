"""A project on disk, as its host's main process reads it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from nomaflow_host.connectors.pools import modules_of
from nomaflow_host.generation.settings import settings_tree
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.process.errors import ProjectError, StateUnwritable
from nomaflow_host.supervisor.values import ProjectLoad
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.reading import read_connectors
from nomaflow_project.models.settings_file import HostSection, PathSection, SettingsFile
from nomaflow_project.reading.env_files import ProjectVariables, project_variables
from nomaflow_project.reading.environment import (
    DOUBTFUL_VALUE,
    Unresolved,
    Values,
    names_in,
    project_sources,
    resolve_environment,
    resolve_leniently,
    resolve_tree,
    unresolved_references,
)
from nomaflow_project.reading.files import JobFile, read_job_files
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.names import HOST_NAME, host_name_of, runs_on
from nomaflow_project.reading.problems import Place, Problem, Severity
from nomaflow_project.reading.regular_files import shown_path
from nomaflow_project.reading.sources import ProjectSources, ReferenceMissing
from nomaflow_project.reading.toml_file import read_toml
from nomaflow_project.reading.validation import validate

_log = logging.getLogger(__name__)

SETTINGS_FILE = "nomaflow.toml"
_Section = TypeVar("_Section", HostSection, PathSection)
_TABLES = frozenset(each.name for each in fields(SettingsFile))
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
_DECIDING = frozenset({"accept_calls_from", "accept_jobs_from", "kernel", "name", "run_as"})
"""The keys of ``[host]`` that say whose jobs run, where and as whom: no default counts while an env file is unread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Project(ProjectLoad):
    """The contents of a project's folder, read once. A reload opens it again.

    :param root: the folder, absolute
    """

    root: Path
    settings: HostSection

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
        root = _folder(directory)
        settings_path = root / SETTINGS_FILE
        tree, problems = _settings_file(settings_path)
        variables = project_variables(root, tree, environ)
        for problem in variables.problems:
            _log.warning("%s: %s; %s", problem.file, problem.message, problem.fix)
        sources = project_sources(root, tree, variables.environ)
        certain = replace(sources, environ=variables.certain.environ, unread=variables.certain.unread)
        settings, app_settings = _settings(tree, root, sources, certain)
        host = _host_name(name or settings.name, root)
        written = _job_files(root, tree, app_settings)
        files = _resolved(written, tree, variables.certain)
        trees = [(file.path, file.tree) for file in files if file.tree is not None]
        connectors = _connectors(root, tree, app_settings, sources)
        unset = list(_unset(files))
        doubtful = _doubtful(written, tree, variables, known=unset)
        found = with_lines((*problems, *variables.problems, *unset, *doubtful, *connectors.problems), root)
        plugins = (str(root / "plugins"),) if (root / "plugins").is_dir() else ()
        spec = ProjectSpec(
            host=host,
            root=str(root),
            sys_path=plugins,
            plugin_dirs=plugins,
            named_callables=tuple(sorted({name for _, jobs in trees for name in _callables(jobs, host)})),
            job_files=tuple(file.to_json() for file in files),
            problems=tuple(problem.to_json() for problem in found),
            settings=app_settings,
            settings_file=str(settings_path) if settings_path.exists() else "",
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
            tables=frozenset(name for name, table in tree.items() if name in _TABLES and table),
            unknown_tables=frozenset(tree) - _TABLES,
            sources=sources,
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


def _folder(directory: Path) -> Path:
    try:
        root = directory.resolve(strict=True)
        if not root.is_dir():
            raise NotADirectoryError
        next(iter(root.iterdir()), None)
    except FileNotFoundError:
        raise ProjectError(
            "there is no such folder", file=str(directory), fix="name a project's folder; `nomaflow init DIR` makes one"
        ) from None
    except NotADirectoryError:
        raise ProjectError("it is not a folder", file=str(directory), fix="name the project's folder") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ProjectError(f"it cannot be read: {reason}", file=str(directory), fix="correct its permissions") from None
    return root


def _settings_file(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    if not path.exists() and not path.is_symlink():
        return {}, []
    tree = read_toml(path)
    if isinstance(tree, Problem):
        raise ProjectError(tree.message, file=str(path), line=tree.line or None, fix=tree.fix)
    fix = f"the known ones are {', '.join(sorted(_TABLES))}; your own settings go below [app]"
    place = Place(SETTINGS_FILE)
    return tree, [
        (place / key).warning("unknown_key", f"unknown table {key!r}; it is ignored", fix=fix)
        for key in tree
        if key not in _TABLES
    ]


def _settings(
    tree: Mapping[str, Any], root: Path, sources: ProjectSources, certain: ProjectSources
) -> tuple[HostSection, Mapping[str, Any]]:
    """Return ``[host]``, and the settings that callables see.

    :param certain: the sources in which no default stands in for an env file that cannot be read
    :raises ProjectError: if they cannot be used
    """
    file = str(root / SETTINGS_FILE)
    table = tree.get("host", {})
    try:
        if isinstance(table, Mapping):
            resolve_tree({key: table[key] for key in sorted(_DECIDING & table.keys())}, certain, path="host")
        table = resolve_tree(table, sources, path="host")
        app_settings = settings_tree(tree, root=str(root), environ=sources.environ)
    except ReferenceMissing as error:
        raise ProjectError(f"{error.path}: {error.problem}", file=file, fix=error.fix, path=error.path) from None
    except TypeError as error:
        path = str(error).partition(" ")[0]
        raise ProjectError(str(error), file=file, fix="correct its type", path=path) from None
    for name in ("jobs", "connectors"):
        _section(PathSection, tree.get(name, {}), Place(SETTINGS_FILE, name), file)
    return _section(HostSection, table, Place(SETTINGS_FILE, "host"), file), app_settings


def _section(model: type[_Section], table: object, place: Place, file: str) -> _Section:
    section, problems = validate(model, table, place)
    if section is None:
        first = problems[0]
        fix = first.fix or "correct the value; docs/configuration.md has each key"
        raise ProjectError(f"{first.path}: {first.message}", file=file, fix=fix, path=first.path)
    return section


def _host_name(given: str, root: Path) -> str:
    """Return the given name, or a valid form of the folder's.

    :raises ProjectError: if the given one is not valid
    """
    if given:
        if not HOST_NAME.fullmatch(given):
            problem = f"{given!r} is not a valid host name"
            fix = "expected at most 64 lower-case letters, digits, '-' and '_', such as 'billing'"
            raise ProjectError(problem, file=str(root), fix=fix)
        return given
    return host_name_of(root.name)


def _job_files(root: Path, tree: Mapping[str, Any], app_settings: Mapping[str, Any]) -> tuple[JobFile, ...]:
    """Read the main job file and that of each folder of ``plugins/``, in order of name, with their references."""
    main = Path(app_settings["jobs"]["config_path"])
    return read_job_files(root, main, required=_names_path(tree, "jobs"))


def _resolved(files: Sequence[JobFile], tree: Mapping[str, Any], values: Values) -> tuple[JobFile, ...]:
    """Return the files with their references resolved.

    ``${NAME}`` is resolved everywhere but below ``params``, ``op_kwargs`` and the fields of contributed step types; if
    a variable is missing, its text stays, with a problem that names it. While an env file cannot be read, a default
    does not count: it would be mistaken for a decision of the job's owner. So no default names the main file either.
    """
    first, *others = (
        file if file.tree is None else replace(file, tree=resolve_environment(file.tree, values)) for file in files
    )
    named = resolve_leniently(tree.get("jobs", {}).get("config_path"), values)
    if isinstance(named, Unresolved):
        at = Place(SETTINGS_FILE, "jobs.config_path")
        first = JobFile(
            path=first.path, error=at.error(named.missing.code, named.missing.problem, fix=named.missing.fix), main=True
        )
    return (first, *others)


def _unset(files: Iterable[JobFile]) -> Iterator[Problem]:
    """Yield a problem for each text whose variable has no value, with its job."""
    for path, tree in ((file.path, file.tree) for file in files if file.tree is not None):
        yield from unresolved_references({name: value for name, value in tree.items() if name != "jobs"}, Place(path))
        jobs = tree.get("jobs")
        for index, job in enumerate(jobs if isinstance(jobs, list) else ()):
            job_id = job.get("id") if isinstance(job, dict) else None
            at = Place(path, f"jobs[{index}]", job_id if isinstance(job_id, str) else "")
            yield from unresolved_references(job, at)


def _doubtful(
    files: Sequence[JobFile], tree: Mapping[str, Any], variables: ProjectVariables, *, known: Sequence[Problem]
) -> list[Problem]:
    """Return a warning for each text with a default, or the value of an earlier file, in place of an env file's.

    That is for a file without any text: it may have been emptied by accident, which only its past can tell.

    :param known: problems of texts without any value
    """
    if not variables.undoubted.unread:
        return []
    resolved = _resolved(files, tree, variables.undoubted)
    of_main = [file.error for file in resolved[:1] if file.error is not None and file.error.file == SETTINGS_FILE]
    places = {(each.file, each.path) for each in known}
    return [
        replace(each, severity=Severity.WARNING, code=DOUBTFUL_VALUE)
        for each in (*of_main, *_unset(resolved))
        if (each.file, each.path) not in places
    ]


def _callables(tree: Mapping[str, Any], host: str) -> Iterator[str]:
    """Yield the references that the jobs of a file name, without jobs that another host runs."""
    jobs = [job for job in _tables(tree.get("jobs")) if runs_on(job, host)]
    steps = [step for job in jobs for step in _tables(job.get("steps"))]
    for holder in (*steps, *_tables([holder.get("step_defaults") for holder in (tree, *jobs)])):
        if isinstance(holder.get("callable"), str):
            yield holder["callable"]


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _names_path(tree: Mapping[str, Any], section: str) -> bool:
    return bool(tree.get(section, {}).get("config_path"))


def _connectors(root: Path, tree: Mapping[str, Any], app_settings: Mapping[str, Any], values: Values) -> ConnectorSet:
    """Read connectors.toml. A mistake in it fails only the callables that use that part, so other jobs work."""
    path = Path(app_settings["connectors"]["config_path"])
    found = read_connectors(
        path, values, root=root, name=shown_path(path, root), required=_names_path(tree, "connectors")
    )
    for each in found.problems:
        log = _log.error if each.is_error else _log.warning
        log("%s", ": ".join(part for part in (each.file, each.path, each.message) if part))
    return found


def make_state_dir(state: Path, *, given: bool) -> None:
    """Make a host's own folder, for its owner only. Processes that only read a project need none.

    :param given: whether a person chose it; the rights of such a folder are never changed

    :raises ProjectError: if it cannot be made, or others may enter the one that was given
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
        reason = (error.strerror or type(error).__name__).lower()
        raise ProjectError(
            f"it cannot be made: {reason}", file=str(state), fix="name a folder that can be written to: --state-dir DIR"
        ) from None
    if state.stat().st_mode & 0o077:
        raise ProjectError(
            "others may enter this folder",
            file=str(state),
            fix=f"give a --state-dir for this instance alone, which need not exist, or: chmod 700 {state}",
        )
