"""The files of a project: read once, and by the same rules for each process."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nomaflow_project.reading.env_files import ProjectVariables, project_variables
from nomaflow_project.reading.environment import (
    DOUBTFUL_VALUE,
    Unresolved,
    Values,
    resolve_environment,
    resolve_leniently,
    unresolved_references,
)
from nomaflow_project.reading.files import SETTINGS_FILE, JobFile, read_job_files
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.problems import Place, Problem, Severity
from nomaflow_project.reading.regular_files import reason_of
from nomaflow_project.reading.sources import ProjectSources
from nomaflow_project.reading.toml_file import read_toml

_Section = TypeVar("_Section")
_OF_A_HOST = ("host", "jobs", "connectors")
_DECIDING = frozenset({"accept_calls_from", "accept_jobs_from", "kernel", "name", "run_as"})
"""The keys of ``[host]`` that say whose jobs run, where and as whom: no default counts while an env file is unread."""


class ProjectFiles:
    """The files of one project. Each is read at its first use, and nomaflow.toml at once.

    :ivar root: the project's folder
    :ivar settings: nomaflow.toml as it is written; empty for none, and for one that cannot be read
    :ivar has_settings: whether there is a nomaflow.toml
    :ivar error: why the folder or nomaflow.toml cannot be read; None if they can
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        """Read nomaflow.toml.

        :param environ: the process's own variables
        """
        self.root = root
        self._environ = environ
        found = read_toml(root / SETTINGS_FILE, name=SETTINGS_FILE)
        problem = found if isinstance(found, Problem) else None
        self.settings: Mapping[str, Any] = {} if isinstance(found, Problem) else found
        self.has_settings = problem is None or problem.code != "missing_file"
        self.error = _folder_problem(root) or (problem if self.has_settings else None)

    @cached_property
    def variables(self) -> ProjectVariables:
        """The variables of ``[host] env_file``."""
        return project_variables(self.root, self.settings, self._environ)

    @cached_property
    def sources(self) -> ProjectSources:
        """The sources of the values of ``[host]``, ``[alerts]`` and connectors.toml."""
        host, environ = self.settings.get("host"), self.variables.environ
        keys = resolve_leniently(host.get("secret_key_file"), environ) if isinstance(host, dict) else ""
        given = isinstance(keys, str) and not isinstance(keys, Unresolved)  # anything else is reported with [host]
        return ProjectSources.of(self.root, environ=environ, key_file=keys if given else "", whole_files=True)

    def table(self, name: str) -> Any:
        """Return a table of nomaflow.toml, empty for none, with the values that the process that needs it gives it.

        A text whose reference has no value stays, as an `Unresolved`. Only the host reads its env files, and only where
        secrets may stand can a value come from a file or be encrypted.
        """
        table = self.settings.get(name, {})
        if name in ("app", "connectors", "jobs"):
            return resolve_leniently(table, self.variables.environ)
        if name not in ("alerts", "host"):
            return resolve_leniently(table, self._environ)
        found = resolve_leniently(table, self.sources)
        if name == "host" and isinstance(table, dict):
            known = self.variables.certain
            certain = replace(self.sources, environ=known.environ, unread=known.unread)
            found |= {key: resolve_leniently(table[key], certain) for key in _DECIDING & table.keys()}
        return found

    def section(self, model: type[_Section], name: str) -> tuple[_Section | None, tuple[Problem, ...]]:
        """Return a table of nomaflow.toml as a process reads it, None if it cannot be used, and its problems."""
        section, problems = read_section(model, self.table(name), Place(SETTINGS_FILE, name))
        return section, with_lines(problems, self.root)

    def path_of(self, section: str) -> tuple[Path, bool]:
        """Return the path of the project's ``jobs`` or ``connectors``, and whether nomaflow.toml names it.

        One whose reference has no value names none.
        """
        table = self.table(section)
        named = table.get("config_path") if isinstance(table, dict) else None
        if named and isinstance(named, str) and not isinstance(named, Unresolved):
            return self.root / named, True
        return self.root / f"{section}.toml", False

    @cached_property
    def for_a_host(self) -> bool:
        """True if a host may run it: it has jobs, code or settings of a host, or no settings at all."""
        if not self.settings or any(table in self.settings for table in _OF_A_HOST):
            return True
        return any(os.path.lexists(self.root / name) for name in ("jobs.toml", "connectors.toml", "plugins"))

    @cached_property
    def written(self) -> tuple[JobFile, ...]:
        """The main job file and that of each folder of ``plugins/``, in order of name, with their references."""
        main, named = self.path_of("jobs")
        return read_job_files(self.root, main, required=named)

    @cached_property
    def job_files(self) -> tuple[JobFile, ...]:
        """The job files with their references resolved.

        ``${NAME}`` is resolved everywhere but below ``params``, ``op_kwargs`` and the fields of contributed step types;
        if a variable is missing, its text stays, as an `Unresolved`. While an env file cannot be read, a default does
        not count: it would be mistaken for a decision of the job's owner. So no default names the main file either.
        """
        return self._resolved(self.variables.certain)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the env files, and of the values that variables give to the job files."""
        unset = list(_unset(self.job_files))
        return (*self.variables.problems, *unset, *self._doubtful(unset))

    def _resolved(self, values: Values) -> tuple[JobFile, ...]:
        first, *others = (
            file if file.tree is None else replace(file, tree=resolve_environment(file.tree, values))
            for file in self.written
        )
        jobs = self.settings.get("jobs")
        named = resolve_leniently(jobs.get("config_path"), values) if isinstance(jobs, dict) else None
        if isinstance(named, Unresolved):
            missing, at = named.missing, Place(SETTINGS_FILE, "jobs.config_path")
            first = JobFile(path=first.path, error=at.error(missing.code, missing.problem, fix=missing.fix), main=True)
        return (first, *others)

    def _doubtful(self, known: Sequence[Problem]) -> list[Problem]:
        """Return a warning for each text with a default, or the value of an earlier file, in place of an env file's.

        That is for a file without any text: it may have been emptied by accident, which only its past can tell.

        :param known: problems of texts without any value
        """
        if not self.variables.undoubted.unread:
            return []
        resolved = self._resolved(self.variables.undoubted)
        of_main = [file.error for file in resolved[:1] if file.error is not None and file.error.file == SETTINGS_FILE]
        places = {(each.file, each.path) for each in known}
        return [
            replace(each, severity=Severity.WARNING, code=DOUBTFUL_VALUE)
            for each in (*of_main, *_unset(resolved))
            if (each.file, each.path) not in places
        ]


def _folder_problem(root: Path) -> Problem | None:
    place = Place(str(root))
    try:
        if stat.S_ISDIR(root.stat().st_mode):
            return None
        return place.error("missing_file", "it is not a folder", fix="name the project's folder")
    except FileNotFoundError:
        fix = "name a project's folder; `nomaflow init DIR` makes one"
        return place.error("missing_file", "there is no such folder", fix=fix)
    except OSError as error:
        reason = reason_of(error)
        return place.error("unreadable_file", f"it cannot be read: {reason}", fix="correct its permissions")


def _unset(files: Iterable[JobFile]) -> Iterator[Problem]:
    """Yield a problem for each text whose variable has no value, with its job."""
    for file in files:
        rest = {name: value for name, value in (file.tree or {}).items() if name != "jobs"}
        yield from unresolved_references(rest, Place(file.path))
        for at, job in file.jobs():
            yield from unresolved_references(job, at)


def read_section(model: type[_Section], table: object, place: Place) -> tuple[_Section | None, list[Problem]]:
    """Return what `nomaflow_project.reading.validation.validate` does of a table that requires no key.

    A section without keys has its defaults: no process loads pydantic for it, a quarter of the start of a host.
    """
    if table == {}:
        return model(), []
    from nomaflow_project.reading.validation import validate

    return validate(model, table, place)
