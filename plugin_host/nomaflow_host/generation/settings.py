"""The ``settings`` of an attempt, read again when nomaflow.toml changes; if malformed, the last good ones stay."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow import Settings
from nomaflow_project.reading.environment import resolve_tree
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import file_stamp, read_regular
from nomaflow_project.reading.sources import ReferenceMissing
from nomaflow_project.reading.toml_file import parse_toml

_log = logging.getLogger("nomaflow.host.settings")
_SECTIONS = {"connectors": "connectors.toml", "jobs": "jobs.toml"}


def settings_tree(tree: Mapping[str, Any], *, root: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in a nomaflow.toml.

    :param tree: the parsed file
    :param root: the project's directory; paths are relative to it
    :raises ReferenceMissing: if ``[app]`` refers to a variable that is not set
    :raises TypeError: if a section is not a table or a path not text
    """
    result: dict[str, Any] = {"app": resolve_tree(_table(tree, "app"), environ, path="app")}
    for section, default in _SECTIONS.items():
        path = _table(tree, section).get("config_path", default)
        if not isinstance(path, str):
            raise TypeError(f"{section}.config_path is {type(path).__name__}, expected str")
        path = resolve_tree(path, environ, path=f"{section}.config_path") or default
        result[section] = {"config_path": str(Path(root, path))}
    return result


@dataclass(kw_only=True)
class SettingsSource:
    """The settings of one process.

    :param file: nomaflow.toml; empty for a project without one
    :param good: the last good tree, used if the file cannot be read
    :param contributions: further trees of plugins, called whenever the file is read; the file overrides them
    """

    root: str
    file: str
    good: Mapping[str, Any]
    contributions: Callable[[], Iterable[Mapping[str, Any]]]
    _stamp: tuple[int, ...] | None = field(default=None, init=False)
    _current: Settings | None = field(default=None, init=False)

    def current(self) -> Settings:
        """Return the current settings; costs one stat if nothing changed."""
        stamp = file_stamp(self.file)
        if self._current is None or stamp != self._stamp:
            self._stamp = stamp
            self.good = self._read()
            merged: dict[str, Any] = {}
            for tree in [*self.contributions(), self.good]:
                merged = _merged(merged, tree)
            self._current = Settings(merged)
        return self._current

    def _read(self) -> Mapping[str, Any]:
        if not self.file:
            return self.good or settings_tree({}, root=self.root, environ=os.environ)
        try:
            found = parse_toml(read_regular(self.file), Place(self.file))
        except PermissionError:  # under [host] run_as, only the host's main process may be able to read it
            return self.good
        except OSError as error:
            return self._not_usable(error)
        if isinstance(found, Problem):
            return self._not_usable(f"line {found.line}: {found.message}" if found.line else found.message)
        try:
            return settings_tree(found, root=self.root, environ=os.environ)
        except (ValueError, TypeError, ReferenceMissing) as error:
            return self._not_usable(error)

    def _not_usable(self, error: Exception | str) -> Mapping[str, Any]:
        _log.warning("settings: %s cannot be used, the last good settings stay in use: %s", self.file, error)
        return self.good


def _table(tree: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    value = tree.get(section, {})
    if not isinstance(value, dict):
        raise TypeError(f"{section} is {type(value).__name__}, expected a table")
    return value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return *over* merged into *under*, table by table."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(below, value) if both else value  # type: ignore[arg-type]  # both are mappings then
    return result
