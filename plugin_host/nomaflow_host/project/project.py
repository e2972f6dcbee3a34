"""A project on disk, as its host's main process reads it."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow_host.connectors import ResolvedConnectors, read_connectors
from nomaflow_host.generation import ProjectSpec, settings_tree
from nomaflow_host.process.errors import ProjectError, StateUnwritable
from nomaflow_host.project.jobs import JobFiles, read_job_files
from nomaflow_project.models.settings_file import HOST_NAME, HostSection
from nomaflow_project.reading.env_files import project_variables
from nomaflow_project.reading.environment import EnvironmentMissing, resolve_tree
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import shown_path
from nomaflow_project.reading.toml_file import read_toml
from nomaflow_project.reading.validation import validate

__all__ = ["Project", "make_state_dir"]

_log = logging.getLogger(__name__)

SETTINGS_FILE = "nomaflow.toml"
_TABLES = frozenset({"app", "kernel", "host", "jobs", "connectors", "console"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """The contents of a project's folder, read once. A reload opens it again.

    :param root: the folder, absolute
    :param host: the host's name
    :param state_dir: this host's own folder below ``.nomaflow``, 0700
    :param app_settings: the ``settings`` that callables see
    :param variables: the variables of ``[host] env_file``
    :param problems: problems that do not stop the host, for the manifest
    """

    root: Path
    host: str
    state_dir: Path
    plugin_dirs: tuple[Path, ...]
    settings: HostSection
    settings_file: Path | None
    app_settings: Mapping[str, Any]
    jobs: JobFiles
    connectors: ResolvedConnectors = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[Mapping[str, Any], ...] = ()

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
        environ = variables.environ
        settings = _host_settings(tree, settings_path, environ)
        app_settings = _app_settings(tree, root, environ)
        host = _host_name(name or settings.name, root)
        jobs = read_job_files(
            root=root,
            main=Path(app_settings["jobs"]["config_path"]),
            required=_names_path(tree, "jobs"),
            environ=environ,
        )
        connectors = _connectors(root, tree, app_settings, environ)
        plugins = root / "plugins"
        return cls(
            root=root,
            host=host,
            state_dir=root / ".nomaflow" / f"host-{host}",
            plugin_dirs=(plugins,) if plugins.is_dir() else (),
            settings=settings,
            settings_file=settings_path if settings_path.exists() else None,
            app_settings=app_settings,
            jobs=jobs,
            connectors=connectors,
            variables=variables.given,
            problems=_with_lines((*problems, *_told(variables.problems), *jobs.problems, *connectors.problems), root),
        )

    def spec(self) -> ProjectSpec:
        """Return the part of it that templates and workers need."""
        return ProjectSpec(
            host=self.host,
            root=str(self.root),
            sys_path=tuple(map(str, self.plugin_dirs)),
            plugin_dirs=tuple(map(str, self.plugin_dirs)),
            named_callables=self.jobs.callables,
            job_files=self.jobs.files,
            problems=self.problems,
            settings=self.app_settings,
            settings_file=str(self.settings_file or ""),
            preload=self.connectors.modules(),
            max_extras_bytes=self.settings.max_extras_bytes,
            max_parallel=self.settings.max_parallel,
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


def _settings_file(path: Path) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    if not path.exists() and not path.is_symlink():
        return {}, []
    tree = read_toml(path)
    if isinstance(tree, Problem):
        raise ProjectError(tree.message, file=str(path), line=tree.line or None, fix=tree.fix)
    unknown = [key for key in tree if key not in _TABLES]
    problems = [
        {
            "severity": "warning",
            "code": "unknown_key",
            "file": SETTINGS_FILE,
            "path": key,
            "message": f"unknown table {key!r}; it is passed over",
            "fix": f"the known ones are {', '.join(sorted(_TABLES))}; your own settings go below [app]",
        }
        for key in unknown
    ]
    return tree, list(problems)


def _told(problems: Iterable[Problem]) -> Iterator[Mapping[str, Any]]:
    for problem in problems:
        _log.warning("%s: %s", problem.file, problem.message)
        yield problem.to_json()


def _host_settings(tree: Mapping[str, Any], path: Path, environ: Mapping[str, str]) -> HostSection:
    try:
        table = resolve_tree(tree.get("host", {}), environ, path="host")
    except EnvironmentMissing as error:
        raise ProjectError(f"{error.path}: {error.problem}", file=str(path), fix=error.fix) from None
    section, problems = validate(HostSection, table, Place(SETTINGS_FILE, "host"))
    if section is None:
        first = problems[0]
        fix = first.fix or "correct the value; docs/configuration.md has each key"
        raise ProjectError(f"{first.path}: {first.message}", file=str(path), fix=fix, path=first.path)
    return section


def _app_settings(tree: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        return settings_tree(tree, root=str(root), environ=environ)
    except EnvironmentMissing as error:
        raise ProjectError(
            f"{error.path}: {error.problem}", file=str(root / SETTINGS_FILE), fix=error.fix, path=error.path
        ) from None
    except TypeError as error:
        path = str(error).partition(" ")[0]
        raise ProjectError(str(error), file=str(root / SETTINGS_FILE), fix="correct its type", path=path) from None


def _host_name(given: str, root: Path) -> str:
    """Return the given name, or the folder's made valid.

    :raises ProjectError: if the given one is not valid
    """
    if given:
        if not HOST_NAME.fullmatch(given):
            problem = f"{given!r} is not a valid host name"
            fix = "expected at most 64 lower-case letters, digits, '-' and '_', such as 'billing'"
            raise ProjectError(problem, file=str(root), fix=fix)
        return given
    made = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-_")[:64]
    return made or "host"


def _with_lines(problems: tuple[Mapping[str, Any], ...], root: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the problems with their lines. Only this process has the files to find them; the kernel does not."""
    return tuple(each.to_json() for each in with_lines(map(Problem.from_json, problems), root))


def _names_path(tree: Mapping[str, Any], section: str) -> bool:
    return bool(tree.get(section, {}).get("config_path"))


def _connectors(
    root: Path, tree: Mapping[str, Any], app_settings: Mapping[str, Any], environ: Mapping[str, str]
) -> ResolvedConnectors:
    """Read connectors.toml. A mistake in it fails only the callables that use that part, so other jobs work."""
    path = Path(app_settings["connectors"]["config_path"])
    found = read_connectors(
        path, environ, root=root, name=shown_path(path, root), required=_names_path(tree, "connectors")
    )
    for each in found.problems:
        log = _log.error if each["severity"] == "error" else _log.warning
        log("%s", ": ".join(part for part in (each["file"], each["path"], each["message"]) if part))
    return found


def make_state_dir(state: Path) -> None:
    """Make a host's own folder, for its owner only. Processes that only read a project need none.

    :raises ProjectError: if it cannot be made
    :raises StateUnwritable: if the disk has no room for it
    """
    try:
        state.parent.mkdir(mode=0o700, exist_ok=True)
        state.mkdir(mode=0o700, exist_ok=True)
        state.chmod(0o700)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StateUnwritable(state, error) from None
        reason = (error.strerror or type(error).__name__).lower()
        raise ProjectError(
            f"it cannot be made: {reason}", file=str(state), fix="the host needs a folder of its own to write to"
        ) from None
