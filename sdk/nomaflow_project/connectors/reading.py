"""Reads connectors.toml: its permissions, syntax, variables and keys.

A problem of one pool or connector disables only that one. No message contains a value of the file, since it may be a
credential.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nomaflow_api.credential_signs import url_password
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.tables import IGNORED_KEYS, INTERFACE_KEYS, api_values, sql_values
from nomaflow_project.models.connectors_file import ConnectorsFile, PoolEntry
from nomaflow_project.reading.environment import (
    Unresolved,
    Values,
    file_variables,
    names_in,
    resolve_leniently,
    unresolved_references,
)
from nomaflow_project.reading.files import parse_toml_file
from nomaflow_project.reading.literal_credential import is_literal_credential
from nomaflow_project.reading.problems import Place, Problem, did_you_mean, kind_of
from nomaflow_project.reading.project_files import ProjectFiles
from nomaflow_project.reading.regular_files import MAX_FILE_BYTES, others_may_open, shown_path
from nomaflow_project.reading.sources import NotedSource, VariablesOnly
from nomaflow_project.reading.validation import keys_of, validate
from nomaflow_project.reading.work_time import nearest

_SECTIONS = keys_of(ConnectorsFile).keys()
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_QUOTED = re.compile(r"""(["'])(?:(?!\1).){2,}\1""")


def connectors_of(files: ProjectFiles) -> ConnectorSet:
    """Return the pools and connectors of a project."""
    path, named = files.path_of("connectors")
    return read_connectors(path, files.sources, root=files.root, name=shown_path(path, files.root), required=named)


def read_connectors(
    path: Path, values: Values, *, root: Path | None = None, name: str = "", required: bool = False
) -> ConnectorSet:
    """Return the pools and connectors of a file, with its references resolved.

    :param values: the variables, or all sources of values
    :param root: the folder that SQLite paths are relative to; by default the file's
    :param name: the file's name in messages; the path if empty
    :param required: True if a missing file is an error; otherwise it counts as empty
    """
    shown_name = name or str(path)
    empty = ConnectorSet(root=str((root or path.parent).absolute()), file=str(path))
    file = parse_toml_file(path, name=shown_name)
    problem = file.error
    if problem is None and path.is_symlink() and path.stat().st_uid not in (os.geteuid(), 0):
        fix = "link to a file of your own"
        problem = Place(shown_name).error("unreadable_file", "it is a link to a file of another user", fix=fix)
    if problem is not None:
        if problem.code == "missing_file" and not required:
            return empty
        problem = replace(problem, message=_QUOTED.sub("…", problem.message))
        why = {"": problem.sentence}
        return replace(empty, unusable=why, variables=_variables(_raw(path)), problems=(problem,))
    tree, mode = file.tree or {}, others_may_open(path)
    return _Reader(tree=tree, place=Place(shown_name), values=values, mode=mode).read(empty)


class _Reader:
    """Reads the tables of one file."""

    def __init__(self, *, tree: Mapping[str, Any], place: Place, values: Values, mode: int) -> None:
        self._tree = tree
        self._place = place
        self._values = NotedSource(VariablesOnly(values) if isinstance(values, Mapping) else values)
        self._mode = mode
        self._problems: list[Problem] = []
        self._unusable: dict[str, str] = {}
        self._ignored: list[str] = []

    def read(self, empty: ConnectorSet) -> ConnectorSet:
        """Return *empty* with the usable entries, and the problems of the others."""
        for name in self._tree:
            if name not in _SECTIONS:
                fix = did_you_mean(name, _SECTIONS)
                problem = (self._place / name).error("unknown_key", f"unknown key {name!r}", fix=fix)
                self._problems.append(problem)
                self._misplaced(name, problem)
        pools = {name: entry for name, table, at in self._tables("pools") if (entry := self._pool(name, table, at))}
        connectors: dict[str, Mapping[str, Any]] = {}
        for name, table, at in self._tables("connectors"):
            values = self._connector(table, at, pools)
            if values is not None:
                connectors[name] = values
        if self._ignored:
            listed = ", ".join(self._ignored)
            told = self._place.warning("unused_key", f"these keys have no effect here: {listed}", fix="they may stay")
            self._problems.append(told)
        return replace(
            empty,
            pools={name: entry.to_json() for name, entry in pools.items()},
            connectors=connectors,
            unusable=self._unusable,
            told_secrets=sorted(self._values.secrets),
            deferred=self._values.deferred,
            variables=_variables(self._tree),
            problems=tuple(self._problems),
        )

    def _misplaced(self, section: str, problem: Problem) -> None:
        """Make the entries of a misspelt section unusable, with that problem: the file does have them."""
        near = nearest(section, _SECTIONS)
        tables = self._tree[section]
        for name in tables if near and isinstance(tables, Mapping) else ():
            self._unusable[f"{near}.{name}"] = problem.sentence

    def _tables(self, section: str) -> Iterator[tuple[str, dict[str, Any], Place]]:
        """Yield each table of a section with a valid name, with its variables resolved."""
        tables = self._tree.get(section, {})
        if not isinstance(tables, Mapping):
            told = (self._place / section).error("wrong_type", f"expected a table, got {kind_of(tables)}")
            self._problems.append(told)
            return
        for name, table in tables.items():
            at = self._place / section / name
            if not isinstance(table, dict):
                self._refuse(at, [at.error("wrong_type", f"expected a table, got {kind_of(table)}")])
            elif not _NAME.fullmatch(name):
                problem = f"{name[:60]!r} is not a name; expected at most 64 letters, digits, '-' and '_'"
                self._refuse(at, [at.error("bad_name", problem, fix="rename it")])
            else:
                yield name, resolve_leniently(table, self._values), at

    def _pool(self, name: str, table: dict[str, Any], at: Place) -> PoolEntry | None:
        entry, problems = validate(PoolEntry, table, at, hide_values=True)
        problems += self._credentials("pools", name, at, table)
        if entry is None or problems:
            self._refuse(at, problems)
            return None
        self._ignored += [(at / key).path for key in table if key in IGNORED_KEYS]
        return entry

    def _connector(self, table: dict[str, Any], at: Place, pools: Mapping[str, PoolEntry]) -> Mapping[str, Any] | None:
        name, kind = at.path.rpartition(".")[2], table.get("type")
        problems = list(self._credentials("connectors", name, at, table))
        values: Mapping[str, Any] | None = table
        if kind in ("sql", "api"):
            self._ignored += [(at / key).path for key in table if key in INTERFACE_KEYS | IGNORED_KEYS]
            kept = {key: value for key, value in table.items() if key not in INTERFACE_KEYS}
            values, found = sql_values(kept, at, pools) if kind == "sql" else api_values(kept, at)
            problems += found
            if kind == "sql":
                problems += self._pool_of(kept.get("pool", "default"), at)
        elif not isinstance(kind, str):
            code, told = "missing_key", "the key 'type' is required and missing"
            if kind is not None:
                code, told = "wrong_type", f"expected a text in quotes, got {kind_of(kind)}"
            problems.append((at / "type").error(code, told, fix="give 'sql' or 'api'"))
        else:
            problems += unresolved_references(table, at)
            told = f"the type {kind!r} is not built in (sql, api), so a plugin must contribute it"
            fix = did_you_mean(kind, ("sql", "api"), noun="type", otherwise="install the plugin that does")
            self._problems.append((at / "type").warning("plugin_type", told, fix=fix))
        errors = [problem for problem in problems if problem.is_error]
        if values is None or errors:
            self._refuse(at, errors)
            return None
        self._problems += problems
        return values

    def _pool_of(self, pool: object, at: Place) -> Iterator[Problem]:
        """Yield an error if the file lacks a connector's pool; a disabled pool reports its own error."""
        tables = self._tree.get("pools")
        pools = tables if isinstance(tables, Mapping) else {}
        if isinstance(pool, str) and pool not in pools:
            fix = did_you_mean(pool, pools, noun="pool")
            yield (at / "pool").error("unknown_pool", f"there is no pool {pool!r}", fix=fix)

    def _credentials(self, section: str, name: str, at: Place, resolved: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield an error if others can read a credential, or if it is encrypted and so unreadable."""
        for place, parent, key, text in _texts(self._tree[section][name], at):
            if self._mode and is_literal_credential(parent, key, text):
                yield place.error(
                    "open_credential",
                    f"it is a literal credential, and others may read or write the file (its mode is {self._mode:04o})",
                    fix="chmod 600 it, or write the credential as ${NAME}",
                )
                break
        for place, _, _, text in _texts(resolved, at):
            if isinstance(text, Unresolved):
                continue  # reported where the table is validated
            if text.startswith("ENC:") or url_password(text).startswith("ENC:"):
                problem = "it is an encrypted value (ENC:) that cannot be read: it was not made by `nomaflow secret`"
                fix = "encrypt it with `nomaflow secret set`, or write ${NAME}; inside a URL write ${ENC:…}"
                yield place.error("encrypted_value", problem, fix=fix)
                break

    def _refuse(self, at: Place, problems: list[Problem]) -> None:
        self._problems += problems
        self._unusable[at.path] = problems[0].sentence


def _texts(tree: Any, at: Place) -> Iterator[tuple[Place, str, str, str]]:
    """Yield place, path of its table, key and text of every text below a table."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(value, str):
            yield at / key, at.path, key, value
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from _texts(item, at / key / index)
        else:
            yield from _texts(value, at / key)


def _variables(tree: Any) -> frozenset[str]:
    return frozenset(file_variables(names_in(tree)))


def _raw(path: Path) -> str:
    """Return the text of a file that is not TOML, so that its variables can be withheld too; empty for none."""
    try:
        if path.is_file():
            with path.open("rb") as stream:
                return stream.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        pass
    return ""
